"""Common parts of scripted faults: of calls (`faults`) and of events (`events.event_faults`)."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from dingrelay_sandbox.limits import Latency

ENDED_KEPT = 1_000
"""How many faults that are over can still be asked about."""


class Spec(Latency, frozen=True):
    """One scripted fault.

    Attributes:
        app: only what is of the app with this key.
        count: how many it meets; None: any number.
        starts_in: seconds until it is in force.
        seconds: how long it lasts from then on; None: until it is deleted.
        share: the probability with which something is met.
        min_ms, max_ms: of delays.
    """

    app: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    starts_in: Annotated[float, Field(ge=0)] = 0
    seconds: Annotated[float, Field(gt=0)] | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1
    max_ms: Annotated[float, Field(ge=0)] = 1_000


SpecT = TypeVar("SpecT", bound=Spec)


class InForce(Generic[SpecT]):
    """A fault that is in force, waits for its time, or is over."""

    def __init__(self, number: int, spec: SpecT, now: float) -> None:
        self.id = number
        self.spec = spec
        self.met = 0
        self.deleted = False
        self.starts = now + spec.starts_in
        self._ends = None if spec.seconds is None else self.starts + spec.seconds

    def over(self, now: float) -> bool:
        """Whether it can meet nothing any more."""
        spent = self.spec.count is not None and self.met >= self.spec.count
        return self.deleted or spent or (self._ends is not None and now >= self._ends)

    def report(self, now: float) -> dict[str, Any]:
        """The fault as JSON values."""
        spec = self.spec.model_dump(exclude_unset=True)
        return {"id": self.id, "met": self.met, "over": self.over(now), **spec}


class Scripted(Generic[SpecT]):
    """All faults of a kind, the oldest first.

    Args:
        clock: seconds that never jump.
        rng: draws shares and delays.
    """

    reports_over = False
    """Whether a fault that is over by itself is among those that are reported, until it is deleted."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._faults: dict[int, InForce[SpecT]] = {}
        self._last = 0

    def __bool__(self) -> bool:
        """Whether there may be a fault in force."""
        return bool(self._faults)

    def add(self, spec: SpecT) -> int:
        """Put a fault in force; its id."""
        self._last += 1
        self._faults[self._last] = InForce(self._last, spec, self._clock())
        over = [number for number, fault in self._faults.items() if fault.over(self._clock())]
        for number in over[:-ENDED_KEPT]:
            del self._faults[number]
        return self._last

    def delete(self, number: int | None = None) -> int:
        """End a fault, or all; how many ended."""
        ended = [each for each in self._reported() if number in {None, each.id}]
        for fault in ended:
            fault.deleted = True
        return len(ended)

    def report(self) -> list[dict[str, Any]]:
        """The faults in force and those whose time is to come."""
        return [fault.report(self._clock()) for fault in self._reported()]

    def _reported(self) -> list[InForce[SpecT]]:
        now, faults = self._clock(), self._faults.values()
        return [f for f in faults if not (f.deleted if self.reports_over else f.over(now))]

    def find(self, number: int) -> dict[str, Any]:
        """One fault, in force or over.

        Raises:
            LookupError: there is none with that id, or it ended long ago.
        """
        if number not in self._faults:
            raise LookupError(f"fault {number} does not exist")
        return self._faults[number].report(self._clock())

    def met(self, wanted: Callable[[SpecT], bool]) -> Iterator[SpecT]:
        """The faults that meet something now, of those that are wanted."""
        now = self._clock()
        for fault in list(self._faults.values()):
            if not wanted(fault.spec) or now < fault.starts or fault.over(now):
                continue
            if fault.spec.share < 1 and self._rng.random() >= fault.spec.share:
                continue
            fault.met += 1
            yield fault.spec
