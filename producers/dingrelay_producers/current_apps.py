"""Applications and robots as the files with their keys and secrets now define them: they are rotated while we run.

A file is read, not only asked whether it has changed: Kubernetes exchanges a link to its folder, editors
exchange the file, and others write into it twice within the resolution of its time.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.apps import App, at_start, check_apps, complete_app, read_secret
from dingrelay_producers.settings.robots import RobotSettings, check_robots, limits_of, secret_files

Place = tuple[str, str, str]
"""``apps`` or ``robots``, name and field."""
LOOK_EVERY = 2.0
"""Seconds between two looks. What two of them have found alike is taken: no file is half written then,
and of a key and its secret not only one."""

log = get_logger("dingrelay.secrets")


class CurrentApps:
    """The apps and robots of the settings, with what their secret files hold by now: no other object has their secrets.

    What stands in a variable itself, and an agent id, stay as they were when the process started.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apps: Mapping[str, App] = at_start(settings.apps)
        self.robots: Mapping[str, RobotSettings] = settings.robots
        self._files = secret_files()
        self._seen: dict[Place, str] = {}
        self._refused: dict[Place, str] | None = None
        self._unreadable: set[str] = set()
        self._renewed = asyncio.Event()

    @property
    def all(self) -> Mapping[str, App]:
        """The apps by name. What this answers never changes; ask again for what is new."""
        return self._apps

    def app(self, name: str) -> App:
        """The app of that name, with its key and secret.

        Raises:
            SettingsError: there is none, or its key or secret is missing.
        """
        return complete_app(self._apps, name)

    def credentials(self, name: str) -> str:
        """The digest of an app's key and secret; empty if there is no such app."""
        app = self._apps.get(name)
        return app.credentials if app else ""

    @property
    def has_files(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._files)

    @property
    def limits(self) -> Mapping[str, Mapping[str, str]]:
        """`Settings.limits` of the robots: a webhook's limit is named for its token."""
        return {**self._settings.rules, **limits_of(self.robots)}

    async def watch(self, renewed: Callable[[], None] = lambda: None) -> None:
        """Look at the files for ever. `renewed`: called whenever something new was taken."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            # A file system may stand still.
            earlier_apps = self._apps
            await asyncio.to_thread(self.look)
            if self._apps is not earlier_apps:
                renewed()
                self._renewed.set()
                self._renewed = asyncio.Event()

    async def renewal(self, name: str, credentials: str) -> None:
        """Wait until an app has another key or secret than the pair with this digest."""
        while self.credentials(name) == credentials:
            await self._renewed.wait()

    def look(self) -> None:
        """Take what the files hold, if the last look has found the same."""
        texts = self._read_files()
        settled, self._seen = texts == self._seen, texts
        if not settled or texts == self._refused:
            return
        apps, robots = dict(self._apps), dict(self.robots)
        sections: dict[str, tuple[dict[str, Any], type[App | RobotSettings]]] = {
            "apps": (apps, App),
            "robots": (robots, RobotSettings),
        }
        renewed = dict[tuple[str, str], list[str]]()
        for (section, name, part), text in texts.items():
            section_settings, model = sections[section]
            entry = section_settings.get(name, model())
            if getattr(entry, part).get_secret_value() != text:
                # Not a copy: that would keep the digest of the old pair.
                fields = {field: getattr(entry, field) for field in model.model_fields}
                section_settings[name] = model.model_validate({**fields, part: SecretStr(text)})
                renewed.setdefault((section.removesuffix("s"), name), []).append(part)
        try:
            check_apps(apps)
            check_robots(robots, self._settings.groups, self._settings.oapi_url)
        except ValueError as error:
            self._refused = texts
            log.error("secrets_refused", reason=str(error))  # noqa: TRY400 - its traceback may have secrets
            return
        self._apps, self.robots, self._refused = apps, robots, None
        for (noun, name), parts in renewed.items():
            log.info("secrets_renewed", settings=sorted(parts), **{noun: name})

    def _read_files(self) -> dict[Place, str]:
        """The contents of the files. One that is gone, or empty, is being exchanged: what it held stays."""
        texts: dict[Place, str] = {}
        for place, (variable, path) in self._files.items():
            try:
                text = read_secret(variable, path)
            except SettingsError as error:
                if variable not in self._unreadable:
                    log.warning("secret_unreadable", reason=str(error))
                self._unreadable.add(variable)
                continue
            self._unreadable.discard(variable)
            if text:
                texts[place] = text
        return texts
