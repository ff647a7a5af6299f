"""Which apps a process listens for."""

from collections.abc import Sequence

from dingrelay_producers.settings import Settings, SettingsError


def listening_apps(settings: Settings, chosen: Sequence[str]) -> list[str]:
    """The apps to listen for: those that are chosen, else all whose events don't come over HTTP.

    Raises:
        SettingsError: there is none, or one of them has no key or no secret.
    """
    apps = list(chosen) or [name for name, app in settings.apps.items() if not app.has_callback]
    if not apps:
        raise SettingsError(
            "apps: there is none to listen for; all have callbacks, or none is configured"
        )
    for app in apps:
        settings.app(app)
        settings.cell_of(app)
    return sorted(set(apps))
