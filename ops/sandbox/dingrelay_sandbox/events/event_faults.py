"""What goes wrong on an event's way, however well the app listens (API §7.1, §11.6)."""

import random
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from dingrelay_sandbox.events.log import Delivery, Way

EventFaultKind = Literal[
    "swallow", "duplicate", "delay", "reorder", "no_registered", "deaf", "silent"
]
ConnectionFaultKind = Literal["no_registered", "deaf", "silent"]
CONNECTION_FAULTS: tuple[ConnectionFaultKind, ...] = ("no_registered", "deaf", "silent")
"""The kinds that meet a connection when it is opened."""


class EventFaultSpec(BaseModel, extra="forbid", frozen=True):
    """One scripted fault.

    Attributes:
        kind: ``swallow``: the app never hears of it, and it is in no list of what failed.
            ``duplicate``: it is told again although the app has taken it. ``delay``: it is told
            later. ``reorder``: it waits for others, and they are told in a mixed order. The rest
            meet a stream's connection when it is opened: ``no_registered``: the frame REGISTERED
            never comes; ``deaf``: pings come and events do not; ``silent``: nothing comes at all,
            and nothing is heard.
        app: only on the way to the app with this key.
        way: only on this way.
        types: only these types of events; empty for all, and for connections.
        share: the probability with which an event or a connection is met.
        count: how many it meets; None: any number.
        seconds: how long it lasts; None: until it is deleted.
        copies: how often a ``duplicate`` is told on top.
        min_ms, max_ms: of ``delay``, and before the copy of a ``duplicate``. A ``reorder`` waits
            for others no longer than `max_ms`.
        window: how many events a ``reorder`` mixes.
    """

    kind: EventFaultKind
    app: str | None = None
    way: Way | None = None
    types: tuple[str, ...] = ()
    share: Annotated[float, Field(gt=0, le=1)] = 1
    count: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    copies: Annotated[int, Field(ge=1, le=100)] = 1
    min_ms: Annotated[float, Field(ge=0)] = 0
    max_ms: Annotated[float, Field(ge=0)] = 1_000
    window: Annotated[int, Field(ge=2, le=10_000)] = 10

    @model_validator(mode="after")
    def _delays_are_ordered(self) -> Self:
        if self.min_ms > self.max_ms:
            raise ValueError("min_ms must not be above max_ms")
        return self

    def fits(self, app_key: str, way: Way, event: str) -> bool:
        """Whether it is about events of this type, or connections (empty), on this way."""
        return (
            self.app in {None, app_key}
            and self.way in {None, way}
            and (not self.types or event in self.types)
        )


class EventFault:
    """A fault in force."""

    def __init__(self, number: int, spec: EventFaultSpec, now: float) -> None:
        self.id = number
        self.spec = spec
        self.met = 0
        self._ends = None if spec.seconds is None else now + spec.seconds

    def over(self, now: float) -> bool:
        """Whether it can meet nothing any more."""
        spent = self.spec.count is not None and self.met >= self.spec.count
        return spent or (self._ends is not None and now >= self._ends)

    def report(self) -> dict[str, Any]:
        """The fault as JSON values."""
        return {"id": self.id, "met": self.met, **self.spec.model_dump(exclude_unset=True)}


class EventFaults:
    """All faults of events.

    Args:
        clock: seconds that never jump.
        rng: draws shares and delays.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._faults: dict[int, EventFault] = {}
        self._last = 0

    def add(self, spec: EventFaultSpec) -> int:
        """Put a fault in force; its id."""
        self._last += 1
        self._faults[self._last] = EventFault(self._last, spec, self._clock())
        return self._last

    def delete(self, number: int | None = None) -> int:
        """End a fault, or all; how many ended."""
        numbers = list(self._faults) if number is None else [number]
        return sum(self._faults.pop(each, None) is not None for each in numbers)

    def report(self) -> list[dict[str, Any]]:
        """Every fault that was not deleted; one that is over says what it met, too."""
        return [fault.report() for fault in self._faults.values()]

    def draw(self, kind: EventFaultKind, delivery: Delivery) -> EventFaultSpec | None:
        """The oldest fault of a kind that meets this delivery, if one does."""
        return self._draw(kind, delivery.app_key, delivery.way, delivery.event.type)

    def of_connection(self, app_key: str) -> set[ConnectionFaultKind]:
        """What is wrong with a connection that an app opens now."""
        return {kind for kind in CONNECTION_FAULTS if self._draw(kind, app_key, "stream", "")}

    def _draw(
        self, kind: EventFaultKind, app_key: str, way: Way, event: str
    ) -> EventFaultSpec | None:
        now = self._clock()
        for fault in self._faults.values():
            spec = fault.spec
            if spec.kind != kind or fault.over(now) or not spec.fits(app_key, way, event):
                continue
            if spec.share < 1 and self._rng.random() >= spec.share:
                continue
            fault.met += 1
            return spec
        return None

    def pause(self, spec: EventFaultSpec) -> float:
        """How long a fault holds something up, in seconds."""
        return self._rng.uniform(spec.min_ms, spec.max_ms) / 1_000

    def mix(self, deliveries: list[Delivery]) -> None:
        """Put deliveries into another order."""
        self._rng.shuffle(deliveries)
