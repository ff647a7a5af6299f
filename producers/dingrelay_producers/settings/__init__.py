"""Every setting with its default, checked before anything starts."""

from dingrelay_producers.settings.addresses import LOOPBACK
from dingrelay_producers.settings.apps import (
    DEFAULT_APP,
    ORGANISATION,
    AppSettings,
    SettingsError,
    check_apps,
    complete_app,
    read_secret,
)
from dingrelay_producers.settings.robots import (
    GroupSettings,
    RobotSettings,
    check_robots,
    secret_files,
)
from dingrelay_producers.settings.sections import (
    LOOKS,
    OidcSettings,
    QuotaSettings,
    SyncSettings,
)
from dingrelay_producers.settings.settings import SANDBOX_WEBHOOK_KEY, Settings

__all__ = [
    "DEFAULT_APP",
    "LOOKS",
    "LOOPBACK",
    "ORGANISATION",
    "SANDBOX_WEBHOOK_KEY",
    "AppSettings",
    "GroupSettings",
    "OidcSettings",
    "QuotaSettings",
    "RobotSettings",
    "Settings",
    "SettingsError",
    "SyncSettings",
    "check_apps",
    "check_robots",
    "complete_app",
    "read_secret",
    "secret_files",
]
