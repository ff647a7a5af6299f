"""Every event that happened, and what became of telling it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from dingrelay_sandbox.events.event import Event

Way = Literal["http", "stream"]
State = Literal["waiting", "delivered", "failed", "swallowed"]

EVENTS_KEPT = 100_000
"""How many events are kept; the oldest go first."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one app.

    Attributes:
        state: ``delivered`` once the app has answered well, ``failed`` when no more is tried,
            ``swallowed`` when a fault kept it from being tried at all.
        attempts: when each began, how many seconds it took, its outcome (``success``, or what went wrong)
            and the number of the stream's connection, which is 0 for an HTTP push.
    """

    event: Event
    app_key: str
    way: Way
    state: State = "waiting"
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    life: int = 0
    """Of the log; one that began before a reset is counted no more."""


class EventLog:
    """The events since the last reset, oldest first.

    Attributes:
        deliver: what is done with each event as it happens.
        planned: events that are to happen by themselves, and have not yet.
    """

    def __init__(self, kept: int = EVENTS_KEPT) -> None:
        self.deliver: Callable[[Event], None] = lambda event: None
        self.planned = 0
        self._kept = kept
        self._rows: dict[str, tuple[Event, list[Delivery]]] = {}
        self._happened = 0
        self._attempts = 0
        self._settled: Counter[State] = Counter()
        self._begun = 0
        self._life = 0

    def clear(self) -> None:
        """Forget all events. What is still on its way is counted nowhere."""
        self._life += 1
        self._rows.clear()
        self._settled.clear()
        self._happened = self._attempts = self._begun = self.planned = 0

    def add(self, event: Event) -> None:
        """Note that something happened, and tell those who want to know."""
        if event.id not in self._rows:
            self._rows[event.id] = event, []
            if len(self._rows) > self._kept:
                del self._rows[next(iter(self._rows))]
        self._happened += 1
        self.deliver(event)

    def find(self, event_id: str) -> Event:
        """The event with an id.

        Raises:
            LookupError: there is none, or it was long ago.
        """
        return self._row(event_id)[0]

    def begin(self, delivery: Delivery) -> None:
        """Note that an app is to get it."""
        delivery.life = self._life
        self._begun += 1
        if row := self._rows.get(delivery.event.id):
            row[1].append(delivery)

    def attempt(
        self, delivery: Delivery, outcome: str, *, at: float, took: float, connection: int = 0
    ) -> None:
        """Note a try."""
        if delivery.life == self._life:
            self._attempts += 1
        attempt = {"at": at, "took": took, "outcome": outcome, "connection": connection}
        delivery.attempts.append(attempt)

    def settle(self, delivery: Delivery, state: State) -> None:
        """Note how a delivery ended."""
        if delivery.life == self._life:
            self._settled[state] += 1
        delivery.state = state

    def report(self, event_id: str) -> dict[str, Any]:
        """One event, with its deliveries.

        Raises:
            LookupError: there is none, or it was long ago.
        """
        return _report(*self._row(event_id))

    def reports(self, *, since: float, kind: str, state: str, limit: int) -> list[dict[str, Any]]:
        """The newest events that happened at `since` (Unix seconds) or later, oldest first.

        Args:
            since: 0 for all.
            kind: the only type; empty for all.
            state: only those with a delivery in that state; empty for all.
            limit: how many.
        """
        found = (
            (event, deliveries)
            for event, deliveries in reversed(self._rows.values())
            if event.born >= since
            and kind in {"", event.type}
            and (not state or any(each.state == state for each in deliveries))
        )
        return [_report(*row) for row in reversed(list(islice(found, limit)))]

    def summary(self) -> dict[str, int]:
        """The sums since the last reset.

        Events that happened (one that was sent again counts again) and that are planned, attempts to
        deliver one, and deliveries by their state.
        """
        ended: tuple[State, ...] = ("delivered", "failed", "swallowed")
        return {
            "happened": self._happened,
            "planned": self.planned,
            "attempts": self._attempts,
            "waiting": self._begun - sum(self._settled.values()),
            **{state: self._settled[state] for state in ended},
        }

    def deliveries(self) -> Iterator[Delivery]:
        """All deliveries, those of the oldest event first."""
        for _, deliveries in self._rows.values():
            yield from deliveries

    def _row(self, event_id: str) -> tuple[Event, list[Delivery]]:
        row = self._rows.get(event_id)
        if row is None:
            raise LookupError(f"event {event_id} does not exist")
        return row


def _report(event: Event, deliveries: list[Delivery]) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "at": event.born,
        "fields": dict(event.fields),
        "deliveries": [
            {"app": each.app_key, "way": each.way, "state": each.state, "attempts": each.attempts}
            for each in deliveries
        ],
    }
