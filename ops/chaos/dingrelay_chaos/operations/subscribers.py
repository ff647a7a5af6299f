"""Endpoints of webhooks that are added, paused, resumed, rotated, tested, told again, and removed."""

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError

SubscriberVerb = Literal["add", "pause", "resume", "skip", "rotate", "replay", "test", "remove"]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Something that is asked of an endpoint.

    Attributes:
        name: of the endpoint.
        types: what a new one takes.
        seconds: for which the secret before a rotation signs as well, or since when it is told again.
    """

    verb: SubscriberVerb
    name: str
    types: tuple[str, ...] = ()
    seconds: float = 0

    def run(self, system: System, step: int) -> None:
        """Ask for it; database or Redis may be away."""
        with suppress(DingrelayError, sqlite3.OperationalError):
            self._ask(system)

    def _ask(self, system: System) -> None:
        subscribers = system.subscribers
        match self.verb:
            case "add":
                subscribers.add(self.name, self.types)
            case "pause":
                subscribers.pause(self.name)
            case "resume":
                subscribers.resume(self.name)
            case "skip":
                subscribers.resume(self.name, skip=True)
            case "rotate":
                subscribers.rotate(self.name, self.seconds)
            case "replay":
                subscribers.replay(self.name, self.seconds)
            case "test":
                subscribers.test(self.name)
            case "remove":
                subscribers.remove(self.name)
