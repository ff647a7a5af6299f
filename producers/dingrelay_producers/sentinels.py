"""Sentinels that tell in one line why none of them names the primary.

redis-py quotes each of its connections to them, with all of their options.
"""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import sentinel as aio
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError, Sentinel

from dingrelay_producers.tls_trouble import cause


class Sentinels(Sentinel):
    """For threads."""

    def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary; raises MasterNotFoundError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            trouble = self._trouble()
        raise _not_found(service_name, trouble, self.sentinel_kwargs) from trouble

    def _trouble(self) -> RedisError | None:
        """What is wrong with the first that does not answer."""
        for each in self.sentinels:
            try:
                each.ping()
            except RedisError as error:
                return error
        return None


class AsyncSentinels(aio.Sentinel):
    """For an event loop."""

    async def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary; raises MasterNotFoundError."""
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError:
            trouble = await self._trouble()
        raise _not_found(service_name, trouble, self.sentinel_kwargs) from trouble

    async def _trouble(self) -> RedisError | None:
        for each in self.sentinels:
            try:
                await each.ping()
            except RedisError as error:
                return error
        return None


def _not_found(
    name: str, trouble: RedisError | None, options: Mapping[str, Any]
) -> MasterNotFoundError:
    problem = f"no Sentinel names a primary {name!r}"
    if trouble is None:
        return MasterNotFoundError(problem)
    unshown = bool(options.get("ssl")) and not options.get("ssl_certfile")
    return MasterNotFoundError(f"{problem} ({cause(trouble, unshown=unshown)})")
