"""The zone in which commands show and read times: DingTalk's own, unless another one is set."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dingrelay_producers.reader_settings import asked
from dingrelay_tasks.sentence import en

DEFAULT_ZONE = "Asia/Shanghai"
VARIABLE = "DINGRELAY_TIMEZONE"
CHINA = timezone(timedelta(hours=8), DEFAULT_ZONE)
"""The same at all times since 1991; for machines that know no zones."""


def zone() -> tzinfo:
    """The reader's zone.

    Raises:
        SettingsError: there is none of this name.
    """
    return named(asked(VARIABLE) or DEFAULT_ZONE)


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

        raise SettingsError(en("{}: there is no zone of this name", VARIABLE)) from None


def local(moment: datetime, within: tzinfo | None = None) -> str:
    """A moment in a zone, the reader's own by default, to the second, with what it is ahead of UTC."""
    return moment.astimezone(within or zone()).isoformat(" ", "seconds")
