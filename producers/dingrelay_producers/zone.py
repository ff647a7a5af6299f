"""The zone in which commands show and read times: DingTalk's own, unless another one is asked for."""

import os
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DEFAULT_ZONE = "Asia/Shanghai"
VARIABLE = "DINGRELAY_TIMEZONE"
CHINA = timezone(timedelta(hours=8), DEFAULT_ZONE)
"""The same at all times since 1991; for machines that know no zones."""


def zone() -> tzinfo:
    """The zone of whoever reads.

    Raises:
        SettingsError: there is none of this name.
    """
    return named(os.environ.get(VARIABLE) or _of_file() or DEFAULT_ZONE)


def _of_file() -> str | None:
    """What ``.env`` says. A table of a thousand moments asks a thousand times, and reading takes 5 ms."""
    file = Path(".env").absolute()
    try:
        return _written(file, file.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1)
def _written(file: Path, _: int) -> str | None:
    from dotenv import dotenv_values  # noqa: PLC0415  # not for the help of a command

    return dotenv_values(file).get(VARIABLE)


@cache
def named(name: str) -> tzinfo:
    """The zone of a name such as ``Asia/Shanghai`` or ``UTC``.

    Raises:
        SettingsError: there is none.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name == DEFAULT_ZONE:
            return CHINA
        from dingrelay_producers.settings import SettingsError  # noqa: PLC0415  # as above

        raise SettingsError(f"{VARIABLE}: there is no zone of this name") from None


def local(moment: datetime) -> str:
    """A moment in the reader's zone, to the second, with what it is ahead of UTC."""
    return moment.astimezone(zone()).isoformat(" ", "seconds")
