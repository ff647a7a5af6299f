"""Every setting with its default, checked before anything starts."""

from dingrelay_producers.settings.addresses import LOOPBACK
from dingrelay_producers.settings.apps import (
    DEFAULT_APP,
    AppSettings,
    SettingsError,
    app_secret_files,
    check_apps,
    complete_app,
    read_secret,
)
from dingrelay_producers.settings.robots import GroupSettings, RobotSettings
from dingrelay_producers.settings.sections import LOOKS, QuotaSettings, RecipientSettings
from dingrelay_producers.settings.settings import SANDBOX_WEBHOOK_KEY, Settings

__all__ = [
    "DEFAULT_APP",
    "LOOKS",
    "LOOPBACK",
    "SANDBOX_WEBHOOK_KEY",
    "AppSettings",
    "GroupSettings",
    "QuotaSettings",
    "RecipientSettings",
    "RobotSettings",
    "Settings",
    "SettingsError",
    "app_secret_files",
    "check_apps",
    "complete_app",
    "read_secret",
]
