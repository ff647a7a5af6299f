"""The system that `dingrelay up --sandbox` runs in this folder, as other commands find it."""

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(".dingrelay")
"""Where `dingrelay up` keeps its data, below the working directory."""

PID = "DINGRELAY_UP_PID"
SANDBOX = "sandbox"

_REDIS = "DINGRELAY_REDIS_URL"
_NAMES_REDIS = (_REDIS, f"{_REDIS}_FILE", "DINGRELAY_CONFIG")


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
    """Take the settings of the sandbox that runs here, unless settings name a Redis.

    Production is never joined, and neither is a sandbox by someone who asks for production.
    """
    if not (FOLDER / "env").exists():
        return
    from dotenv import dotenv_values

    given = {**dotenv_values(".env"), **os.environ}
    if any(given.get(name) for name in _NAMES_REDIS):
        return
    variables = read()
    if variables.get("DINGRELAY_ENV") == SANDBOX == given.get("DINGRELAY_ENV", SANDBOX):
        os.environ.update(variables)


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
