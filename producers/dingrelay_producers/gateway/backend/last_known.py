"""What a gateway knows of keys while what keeps them is away: with cells, that holds up no cell."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.gateway.backend.access import (
    ApiKey,
    Grant,
    IssuedKey,
    KeyStatus,
    KeyStore,
    RateLimiter,
)

LIVES = 3600.0
"""Seconds for which what was known last is taken. A key can't be revoked meanwhile either."""
PAUSE = 2.0
"""Seconds between two tries; in between nobody waits for what is away."""
MOST = 4096
"""Answers that are kept, the oldest out first."""

_R = TypeVar("_R")


class LastKnown(Generic[_R]):
    """Answers, and what they were before whoever gives them went away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, _R]] = {}
        self._away_until = float("-inf")

    async def ask(self, name: str, question: Callable[[], Awaitable[_R]]) -> _R:
        """The answer, or that of before.

        Raises:
            ServiceUnavailable: there is none, or it is too old.
        """
        known = self._known.get(name)
        fresh = known is not None and self._clock() - known[0] < LIVES
        if known is not None and fresh and self._clock() < self._away_until:
            return known[1]
        try:
            answer = await question()
        except ServiceUnavailable:
            self._away_until = self._clock() + PAUSE
            if known is not None and fresh:
                return known[1]
            raise
        self._known.pop(name, None)
        if answer is not None:  # anybody may make up what there is not
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[name] = self._clock(), answer
        return answer


class KnownKeys:
    """A `KeyStore` that still knows the keys that were used before its database went away."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._known = LastKnown[ApiKey | None]()

    async def verify(self, presented: str) -> ApiKey | None:
        """As `KeyStore.verify`."""
        # Not the text itself: it is a secret.
        name = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        return await self._known.ask(name, lambda: self._keys.verify(presented))

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        """As `KeyStore.verify_pair`."""
        pair = f"{key_id} {secret}".encode("utf-8", "surrogateescape")
        name = hashlib.sha256(pair).hexdigest()
        return await self._known.ask(name, lambda: self._keys.verify_pair(key_id, secret))

    def digest(self, key_id: str, secret: str) -> str:
        """As `KeyStore.digest`."""
        return self._keys.digest(key_id, secret)

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """As `KeyStore.find`."""
        name = f"{key_id} {digest}"
        return await self._known.ask(name, lambda: self._keys.find(key_id, digest))

    async def create(self, grant: Grant) -> IssuedKey:
        """As `KeyStore.create`."""
        return await self._keys.create(grant)

    async def get(self, key_id: str) -> KeyStatus:
        """As `KeyStore.get`."""
        return await self._keys.get(key_id)

    async def list(self) -> Sequence[KeyStatus]:
        """As `KeyStore.list`."""
        return await self._keys.list()

    async def rotate(self, key_id: str, *, overlap: timedelta) -> IssuedKey:
        """As `KeyStore.rotate`."""
        return await self._keys.rotate(key_id, overlap=overlap)

    async def revoke(self, key_id: str) -> KeyStatus:
        """As `KeyStore.revoke`."""
        return await self._keys.revoke(key_id)


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
