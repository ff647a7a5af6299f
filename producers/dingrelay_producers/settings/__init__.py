"""Every setting with its default, checked before anything starts."""

from dingrelay_producers.settings.addresses import LOOPBACK
from dingrelay_producers.settings.apps import DEFAULT_APP, AppSettings, SettingsError
from dingrelay_producers.settings.settings import Settings

__all__ = ["DEFAULT_APP", "LOOPBACK", "AppSettings", "Settings", "SettingsError"]
