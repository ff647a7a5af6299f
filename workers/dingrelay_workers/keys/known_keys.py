"""API keys that a gateway knows while their database is away: messages need no more than Redis."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.last_known import LastKnown
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import KeyService


class KnownKeys:
    """Verifies keys, also those that were used before their database went away."""

    def __init__(self, keys: KeyService) -> None:
        self._keys = keys
        self._known = LastKnown[ApiKey | None]()

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
        """As `KeyService.verify`."""
        # Not the text itself: it is a secret.
        name = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        return await self._ask(name, lambda: self._keys.verify(presented))

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        """As `KeyService.verify_pair`."""
        pair = f"{key_id} {secret}".encode("utf-8", "surrogateescape")
        name = hashlib.sha256(pair).hexdigest()
        return await self._ask(name, lambda: self._keys.verify_pair(key_id, secret))

    def digest(self, key_id: str, secret: str) -> str:
        """As `KeyService.digest`."""
        return self._keys.digest(key_id, secret)

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """As `KeyService.find`."""
        name = f"{key_id} {digest}"
        return await self._ask(name, lambda: self._keys.find(key_id, digest))


class OpenRates:
    """Lets requests through while its Redis is away: DingTalk's limits hold."""

    def __init__(self, rates: KeyRates) -> None:
        self._rates = rates

    async def take(self, key: ApiKey) -> float | None:
        """As `KeyRates.take`."""
        try:
            return await self._rates.take(key)
        except ServiceUnavailable:
            return None
