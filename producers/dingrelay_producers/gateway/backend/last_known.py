"""API keys that a gateway knows while their database is away: messages need no more than Redis."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.gateway.backend.access import ApiKey, KeyStore, RateLimiter

LIVES = 600.0
"""Seconds for which a key is known while the database is away; no key can be revoked then, either."""
LIVES_ACROSS_CELLS = 3600.0
"""The same with cells, all of which would stand still otherwise."""
PAUSE = 2.0
"""Seconds between two tries, of one request each; the others don't wait. Longer than a try takes."""
MOST = 4096
"""Answers that are kept, the oldest out first."""

_R = TypeVar("_R")


class LastKnown(Generic[_R]):
    """Answers, and the last ones from before their source went away.

    Args:
        across_cells: whether all cells depend on the source.
        clock: seconds that only grow.
    """

    def __init__(
        self, *, across_cells: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._across_cells = across_cells
        self._clock = clock
        self._known: dict[str, tuple[float, _R]] = {}
        self._away = False
        self._next_try = float("-inf")

    @property
    def any(self) -> bool:
        """Whether there is an answer that would be given while the source is away."""
        return any(self._fresh(at) for at, _ in reversed(self._known.values()))

    def _fresh(self, at: float) -> bool:
        lives = LIVES_ACROSS_CELLS if self._across_cells else LIVES
        return self._clock() - at < lives

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


class KnownKeys:
    """What verifies keys, and still knows those that were used before their database went away."""

    def __init__(self, keys: KeyStore, *, across_cells: bool = False) -> None:
        self._keys = keys
        self._known = LastKnown[ApiKey | None](across_cells=across_cells)

    @property
    def any_known(self) -> bool:
        """Whether some key would be taken while the database is away."""
        return self._known.any

    async def _ask(
        self, name: str, question: Callable[[], Awaitable[ApiKey | None]]
    ) -> ApiKey | None:
        key = await self._known.ask(name, question)
        ended = (
            key is not None and key.expires_at is not None and key.expires_at <= datetime.now(UTC)
        )
        return None if ended else key

    async def verify(self, presented: str) -> ApiKey | None:
        """As `KeyStore.verify`."""
        # Not the text itself: it is a secret.
        name = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        return await self._ask(name, lambda: self._keys.verify(presented))

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        """As `KeyStore.verify_pair`."""
        pair = f"{key_id} {secret}".encode("utf-8", "surrogateescape")
        name = hashlib.sha256(pair).hexdigest()
        return await self._ask(name, lambda: self._keys.verify_pair(key_id, secret))

    def digest(self, key_id: str, secret: str) -> str:
        """As `KeyStore.digest`."""
        return self._keys.digest(key_id, secret)

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """As `KeyStore.find`."""
        name = f"{key_id} {digest}"
        return await self._ask(name, lambda: self._keys.find(key_id, digest))


class OpenRates:
    """A `RateLimiter` that lets requests through while its Redis is away: DingTalk's limits hold."""

    def __init__(self, rates: RateLimiter) -> None:
        self._rates = rates

    async def take(self, key: ApiKey) -> float | None:
        """As `RateLimiter.take`."""
        try:
            return await self._rates.take(key)
        except ServiceUnavailable:
            return None
