"""Lengths of time as people write them: ``90d``, ``12h``, ``30m``."""

import re
from datetime import timedelta

_DURATION = re.compile(r"(0|[1-9][0-9]{0,4})(s|m|h|d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """The length of a text such as ``90d``, ``12h``, ``30m`` or ``0s``, 99,999 of a unit at most.

    Raises:
        ValueError: it can't be read; the message says how it should look.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be like 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
