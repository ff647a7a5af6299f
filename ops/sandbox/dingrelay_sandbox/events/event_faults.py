"""Faults on an event's way, however well the app listens (API §7.1, §11.6)."""

from typing import Annotated, Literal

from pydantic import Field

from dingrelay_sandbox.events.log import Delivery, Way
from dingrelay_sandbox.scripted import Scripted, Spec

EventFaultKind = Literal[
    "swallow", "duplicate", "delay", "reorder", "no_registered", "deaf", "silent"
]
ConnectionFaultKind = Literal["no_registered", "deaf", "silent"]
CONNECTION_FAULTS: tuple[ConnectionFaultKind, ...] = ("no_registered", "deaf", "silent")
"""The kinds that meet a connection when it is opened."""


class EventFaultSpec(Spec, frozen=True):
    """One scripted fault.

    Attributes:
        kind: ``swallow``: the app never gets it, and it is in no list of what failed.
            ``duplicate``: it comes again although the app has taken it. ``delay``: it comes
            later. ``reorder``: it waits for others, and they come in a mixed order. The rest
            meet a stream's connection when it is opened: ``no_registered``: the frame REGISTERED
            never comes; ``deaf``: pings come and events do not; ``silent``: nothing comes at all,
            and nothing is read.
        way: only on this way.
        types: only these types of events; empty for all, and for connections.
        copies: how often a ``duplicate`` comes on top.
        min_ms, max_ms: of ``delay``, and before the copy of a ``duplicate``. A ``reorder`` waits
            for others no longer than `max_ms`.
        window: how many events a ``reorder`` mixes.
    """

    kind: EventFaultKind
    way: Way | None = None
    types: tuple[str, ...] = ()
    copies: Annotated[int, Field(ge=1, le=100)] = 1
    window: Annotated[int, Field(ge=2, le=10_000)] = 10

    def fits(self, app_key: str, way: Way, event: str) -> bool:
        """Whether it is about events of this type, or connections (empty), on this way."""
        return (
            self.app in {None, app_key}
            and self.way in {None, way}
            and (not self.types or event in self.types)
        )


class EventFaults(Scripted[EventFaultSpec]):
    """All faults of events. One that is over is reported until it is deleted, with what it met."""

    reports_over = True

    def draw(self, kind: EventFaultKind, delivery: Delivery) -> EventFaultSpec | None:
        """The oldest fault of a kind that meets this delivery, if one does."""
        return self._draw(kind, delivery.app_key, delivery.way, delivery.event.type)

    def of_connection(self, app_key: str) -> set[ConnectionFaultKind]:
        """Faults of a connection that an app opens now."""
        return {kind for kind in CONNECTION_FAULTS if self._draw(kind, app_key, "stream", "")}

    def _draw(
        self, kind: EventFaultKind, app_key: str, way: Way, event: str
    ) -> EventFaultSpec | None:
        return next(
            self.met(lambda spec: spec.kind == kind and spec.fits(app_key, way, event)), None
        )

    def pause(self, spec: EventFaultSpec) -> float:
        """How long a fault holds something up, in seconds."""
        return self._rng.uniform(spec.min_ms, spec.max_ms) / 1_000

    def mix(self, deliveries: list[Delivery]) -> None:
        """Put deliveries into another order."""
        self._rng.shuffle(deliveries)
