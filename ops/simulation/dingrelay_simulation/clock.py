"""Virtual time and seeded randomness for a whole Python process; imported before all that reads either.

The product reads clocks and draws ids as always. Here `time`, `datetime.now`, `os.urandom` and `random` answer from
one `CLOCK`: seconds that only the event loop moves, and a generator that a seed begins.
"""

import ctypes
import datetime as dt
import gc
import os
import random
import time
from dataclasses import dataclass, field
from typing import Any

EPOCH = 2_066_742_000.0
"""Unix seconds at which time begins: 2035-06-30 03:00 UTC. Ahead of the machine's, so that no server ends a key by its
own clock (`valkey.py`)."""
BOOT = 1_000.0
"""Seconds of the monotonic clock at the beginning: some code takes zero for "never"."""


@dataclass
class Process:
    """A simulated process: what it runs is found by the context of its callbacks (`loop.PROCESS`).

    Attributes:
        name: for the trace.
        offset: seconds by which its wall clock is ahead.
        dead: it runs nothing any more.
        frozen: it runs nothing until it is thawed.
        held: callbacks that were due while it was frozen.
    """

    name: str
    offset: float = 0.0
    dead: bool = False
    frozen: bool = False
    held: list[Any] = field(default_factory=list[Any])


class Clock:
    """The time of the simulation.

    Attributes:
        now: seconds since the beginning.
        epoch: Unix seconds at which it began.
        process: the one that runs just now.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.epoch = EPOCH
        self.process: Process | None = None

    def monotonic(self) -> float:
        """Seconds of the monotonic clock, which nothing sets."""
        return BOOT + self.now

    def wall(self) -> float:
        """Unix seconds as the running process sees them."""
        process = self.process
        return self.epoch + self.now + (process.offset if process else 0.0)

    def true(self) -> float:
        """Unix seconds of a clock that is right: Redis' and DingTalk's own are set off from it."""
        return self.epoch + self.now


CLOCK = Clock()
RANDOM = random.Random(0)
"""Draws what the product draws: ids, nonces, jitter."""
_real_seed = random.seed


def begin(seed: int, epoch: float = EPOCH) -> None:
    """Begin again: time, and what is drawn from now on."""
    CLOCK.now, CLOCK.epoch, CLOCK.process = 0.0, epoch, None
    RANDOM.seed(seed)
    _real_seed(seed)


def _now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
    return cls.fromtimestamp(CLOCK.wall(), tz)


def _utcnow(cls: type[dt.datetime]) -> dt.datetime:
    return cls.fromtimestamp(CLOCK.wall(), dt.UTC).replace(tzinfo=None)


def install() -> None:
    """Let this process read the simulation's clock from now on."""
    real_gmtime, real_localtime = time.gmtime, time.localtime
    clock: Any = time
    clock.time = CLOCK.wall
    clock.time_ns = lambda: int(CLOCK.wall() * 1e9)
    clock.monotonic = clock.perf_counter = CLOCK.monotonic
    clock.monotonic_ns = clock.perf_counter_ns = lambda: int(CLOCK.monotonic() * 1e9)

    def gmtime(at: float | None = None) -> time.struct_time:
        return real_gmtime(CLOCK.wall() if at is None else at)

    def localtime(at: float | None = None) -> time.struct_time:
        return real_localtime(CLOCK.wall() if at is None else at)

    clock.gmtime, clock.localtime = gmtime, localtime
    # The type is written in C: C code and Python alike find its methods in this dictionary.
    (methods,) = (one for one in gc.get_referents(dt.datetime.__dict__) if type(one) is dict)
    methods["now"], methods["utcnow"] = classmethod(_now), classmethod(_utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
    system: Any = os
    system.urandom = RANDOM.randbytes
    system.getpid = lambda: 1
    seed = random.Random.seed

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed(self, RANDOM.getrandbits(64) if a is None else a, version)

    generator: Any = random.Random
    generator.seed = seeded
    drawn: Any = random
    drawn._urandom = RANDOM.randbytes  # `secrets` draws by it
