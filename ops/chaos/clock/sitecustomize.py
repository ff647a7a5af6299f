"""Shifts the wall clock of this Python process by ``CHAOS_CLOCK_OFFSET`` seconds.

Python imports this file before any other, also after an exec, if its folder is on PYTHONPATH. The
monotonic clock stays as it is. Only the Python level is shifted: that is where all of our code, of
Celery and of kombu reads the time.
"""

import datetime as dt
import os
import time as _time

_OFFSET = float(os.environ.get("CHAOS_CLOCK_OFFSET", "0"))


def _shift() -> None:
    real_time, real_time_ns = _time.time, _time.time_ns
    real_gmtime, real_localtime = _time.gmtime, _time.localtime
    real = dt.datetime

    _time.time = lambda: real_time() + _OFFSET
    _time.time_ns = lambda: real_time_ns() + int(_OFFSET * 1e9)
    _time.gmtime = lambda seconds=None: real_gmtime(_time.time() if seconds is None else seconds)
    _time.localtime = lambda seconds=None: real_localtime(
        _time.time() if seconds is None else seconds
    )

    class _Meta(type(real)):
        # What C code makes is a plain datetime, and still one of these.
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real)

    class Shifted(real, metaclass=_Meta):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return real.fromtimestamp(_time.time(), tz)

        @classmethod
        def utcnow(cls) -> dt.datetime:
            return real.fromtimestamp(_time.time(), dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> dt.datetime:
            return cls.now()

    Shifted.__name__ = Shifted.__qualname__ = "datetime"
    Shifted.__module__ = "datetime"
    dt.datetime = Shifted


if _OFFSET:
    _shift()
