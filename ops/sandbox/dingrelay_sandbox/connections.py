"""Connections of clients: whether a client has taken the answer to its call, as far as the wire shows.

A client sends its next call over a connection only once it has read the answer to the one before. One that gives up, or
dies, closes the connection instead.
"""

import time
from asyncio import BaseTransport
from dataclasses import dataclass, field
from itertools import count
from typing import Any

LOOK_SECONDS = 0.05
"""Time between two looks for clients that have gone: aiohttp has no event for that."""


@dataclass(slots=True)
class Connection:
    """A client's connection. Its moments are those of the monotonic clock.

    Attributes:
        number: in the order of the first calls.
        closed: when it was closed.
        call: what the audit holds of the latest call.
    """

    number: int
    closed: float | None = None
    call: dict[str, Any] = field(default_factory=dict[str, Any])

    def carry(self, call: dict[str, Any]) -> None:
        """Note that a call, which is about to be answered, has come over it."""
        self.call = call
        call |= {"connection": self.number, "answered": None, "closed": self.closed}

    def answer(self) -> None:
        """Note that the answer leaves now."""
        self.call["answered"] = time.monotonic()

    def close(self) -> None:
        """Note that it is closed, also in the latest call if its answer is not known to be taken."""
        self.closed = self.call["closed"] = time.monotonic()


class Connections:
    """The connections that are open."""

    def __init__(self) -> None:
        self._open: dict[BaseTransport, Connection] = {}
        self._numbers = count(1)
        self._look_at = 0.0

    def use(self, transport: BaseTransport | None) -> Connection:
        """The connection over which another call comes: the answer to the one before was taken."""
        if time.monotonic() >= self._look_at:
            self.look()
        connection = self._open.get(transport) if transport else None
        if connection is None:
            connection = Connection(next(self._numbers))
            if transport is None:
                connection.close()
            else:
                self._open[transport] = connection
        connection.call = {}
        return connection

    def look(self) -> None:
        """Note which of them have been closed since the last look."""
        for transport in [each for each in self._open if each.is_closing()]:
            self._open.pop(transport).close()
        self._look_at = time.monotonic() + LOOK_SECONDS
