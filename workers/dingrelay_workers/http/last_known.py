"""Answers of a service that a gateway still gives while the service is away."""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from dingrelay_producers.errors import ServiceUnavailable

LIVES = 3600.0
"""Seconds for which a key is known while the database is away; no key can be revoked then, either."""
PAUSE = 2.0
"""Seconds between two tries, of one request each; the others don't wait. Longer than a try takes."""
MOST = 4096
"""Answers that are kept, the oldest out first."""

_R = TypeVar("_R")


class LastKnown(Generic[_R]):
    """Answers, and the last ones from before their source went away.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, _R]] = {}
        self._away = False
        self._next_try = float("-inf")

    @property
    def any(self) -> bool:
        """Whether there is an answer that would be given while the source is away."""
        return any(self._fresh(at) for at, _ in reversed(self._known.values()))

    def _fresh(self, at: float) -> bool:
        return self._clock() - at < LIVES

    async def ask(self, name: str, question: Callable[[], Awaitable[_R]]) -> _R:
        """The answer, or that of before.

        Raises:
            ServiceUnavailable: there is none, or it is too old.
        """
        known = self._known.get(name)
        if known is not None and not self._fresh(known[0]):
            known = None
        if known is not None and self._away:
            if self._clock() < self._next_try:
                return known[1]
            self._next_try = self._clock() + PAUSE
        try:
            answer = await question()
        except ServiceUnavailable:
            self._away, self._next_try = True, self._clock() + PAUSE
            if known is not None:
                return known[1]
            raise
        self._away = False
        self._known.pop(name, None)
        if answer is not None:  # misses are not kept: callers can invent any number of them
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[name] = self._clock(), answer
        return answer
