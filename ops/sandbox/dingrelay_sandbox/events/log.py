"""Every event that happened, and what became of telling it."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, Literal

from dingrelay_sandbox.events.event import Event

Way = Literal["http", "stream"]
State = Literal["waiting", "delivered", "failed", "swallowed"]

EVENTS_KEPT = 100_000
"""How many events are kept; the oldest go first."""


class EventLog:
    """The events since the last reset, oldest first.

    Attributes:
        deliver: what is done with each event as it happens.
        planned: events that are to happen by themselves, and have not yet.
        attempts, begun, settled: tries to deliver one; deliveries, and those that have ended, by their state.
    """

    def __init__(
        self, deliver: Callable[[Event], None] = lambda event: None, kept: int = EVENTS_KEPT
    ) -> None:
        self.deliver = deliver
        self.planned = self.attempts = self.begun = 0
        self.settled: Counter[State] = Counter()
        self._kept = kept
        self._rows: dict[str, tuple[Event, list[Delivery]]] = {}
        self._happened = 0

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

    def begin(self, delivery: "Delivery") -> None:
        """Note that an app is to get it."""
        self.begun += 1
        if row := self._rows.get(delivery.event.id):
            row[1].append(delivery)

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
            "attempts": self.attempts,
            "waiting": self.begun - sum(self.settled.values()),
            **{state: self.settled[state] for state in ended},
        }

    def _row(self, event_id: str) -> tuple[Event, list["Delivery"]]:
        row = self._rows.get(event_id)
        if row is None:
            raise LookupError(f"event {event_id} does not exist")
        return row


def _report(event: Event, deliveries: list["Delivery"]) -> dict[str, Any]:
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


class Delivery:
    """One event on its way to one app.

    Attributes:
        state: ``delivered`` once the app has answered well, ``failed`` when no more is tried,
            ``swallowed`` when a fault kept it from being tried at all.
        attempts: when each began, how many seconds it took, its outcome (``success``, or what went wrong)
            and the number of the stream's connection, which is 0 for an HTTP push.
    """

    def __init__(self, log: EventLog, event: Event, app_key: str, way: Way) -> None:
        self.event, self.app_key = event, app_key
        self.way: Way = way
        self.state: State = "waiting"
        self.attempts: list[dict[str, Any]] = []
        self.log = log
        log.begin(self)

    def attempt(self, outcome: str, *, at: float, took: float, connection: int = 0) -> None:
        """Note a try."""
        self.log.attempts += 1
        attempt = {"at": at, "took": took, "outcome": outcome, "connection": connection}
        self.attempts.append(attempt)

    def settle(self, state: State) -> None:
        """Note how it ended."""
        self.log.settled[state] += 1
        self.state = state
