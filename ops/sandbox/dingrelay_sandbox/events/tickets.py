"""Tickets for a stream: each opens one connection, soon (API §7.4)."""

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

EVENTS = "EVENT"
EVERY_TOPIC = "*"
CALLBACK = "CALLBACK"
MOST_TICKETS = 10_000
"""Tickets that wait to be used; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a connection is to get: all events, or the callbacks of a topic."""

    type: Literal["EVENT", "CALLBACK"]
    topic: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to open a connection. `until` is a moment of the clock that never jumps."""

    app_key: str
    subscriptions: tuple[Subscription, ...]
    client: str
    until: float


class Tickets:
    """The tickets that were issued and not used, and who has ever asked for events."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._for_events: set[str] = set()

    def issue(
        self, app_key: str, subscriptions: Sequence[Subscription], *, client: str, until: float
    ) -> str:
        """A new ticket of an app."""
        value = secrets.token_hex(16)
        self._tickets[value] = Ticket(app_key, tuple(subscriptions), client, until)
        if len(self._tickets) > MOST_TICKETS:
            self._tickets.popitem(last=False)
        if any(each.type == EVENTS for each in subscriptions):
            self._for_events.add(app_key)
        return value

    def take(self, value: str, *, now: float) -> Ticket | None:
        """Use a ticket; None where it was used, is too old or never was."""
        ticket = self._tickets.pop(value, None)
        return ticket if ticket is not None and now < ticket.until else None

    def wants_events(self, app_key: str) -> bool:
        """Whether an app has asked for events through a stream."""
        return app_key in self._for_events
