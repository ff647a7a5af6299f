"""How programs of a system find each other: their readiness, and what `dingrelay up --sandbox` runs in this folder."""

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.settings import Settings

FOLDER = Path(".dingrelay")
"""Data folder of `dingrelay up`, below the working directory."""

PID = "DINGRELAY_UP_PID"
SANDBOX = "sandbox"

_PREFIX = "DINGRELAY_"
_REDIS = "DINGRELAY_REDIS_URL"
_NAMES_REDIS = (_REDIS, f"{_REDIS}_FILE")
_CONFIG = "DINGRELAY_CONFIG"
_NOTIFY_SOCKET = "NOTIFY_SOCKET"

log = logging.getLogger("dingrelay")


def notify_ready() -> None:
    """Signal that this program serves, to what started it: `dingrelay up`, or systemd for a service of type notify."""
    if address := os.environ.get(_NOTIFY_SOCKET):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice, suppress(OSError):
            # An "@" stands for the zero byte of Linux' abstract names: sd_notify(3).
            notice.sendto(b"READY=1", f"\0{address[1:]}" if address[0] == "@" else address)


def write(folder: Path, variables: Mapping[str, str]) -> Path:
    """Tell other commands in this folder how to reach the system of this process.

    The file is for the owner's eyes only: the sandbox's secret is in it.
    """
    path = folder / "env"
    path.unlink(missing_ok=True)
    lines = [f"{name}={value}\n" for name, value in {PID: str(os.getpid()), **variables}.items()]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(lines)
    return path


def read(folder: Path = FOLDER) -> dict[str, str]:
    """The variables of the system that runs here; empty if none does."""
    try:
        lines = (folder / "env").read_text("utf-8").splitlines()
    except OSError:
        return {}
    variables = {name: value for name, _, value in (line.partition("=") for line in lines)}
    return variables if _alive(variables.get(PID, "")) else {}


def join() -> None:
    """Take the settings of the sandbox that runs here into this process's environment.

    Nothing is taken where settings name a Redis, or a file of settings that is not the sandbox's. Production is never joined, and neither is a
    sandbox by someone who asks for production.
    """
    os.environ.update(_joinable())


def settings() -> "Settings":
    """This process's settings, or how the sandbox is reached that `join` would take, with a warning.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    # The command line joins before it knows whether it needs any settings.
    from dingrelay_producers.language import chosen, translated
    from dingrelay_producers.settings import Settings

    variables = _joinable()
    if not variables:
        return Settings.load()
    sentence = en("no setting names a Redis; using the sandbox that runs in {}", FOLDER)
    # Python shows it on the terminal of a person who tries the client.
    log.warning("dingrelay: %s", translated(sentence, chosen()))
    return settings_from(variables)


def settings_from(variables: Mapping[str, str]) -> "Settings":
    """How a client reaches the system that wrote these variables."""
    from dingrelay_producers.settings import Settings

    return Settings.load(
        **{
            name.removeprefix(_PREFIX).lower(): value
            for name, value in variables.items()
            if name.startswith(_PREFIX) and name != PID
        }
    )


def _joinable() -> dict[str, str]:
    if not (FOLDER / "env").exists():
        return {}
    from dotenv import dotenv_values

    environment = {**dotenv_values(".env"), **os.environ}
    if any(environment.get(name) for name in _NAMES_REDIS):
        return {}
    variables = read()
    # Another file of settings than the sandbox's may name a Redis, or production.
    config = environment.get(_CONFIG)
    if config and str(Path(config).resolve()) != variables.get(_CONFIG):
        return {}
    mode = environment.get("DINGRELAY_ENV") or SANDBOX
    return variables if variables.get("DINGRELAY_ENV") == SANDBOX == mode else {}


def _alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
