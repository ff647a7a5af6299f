"""Names of hosts, looked up in threads of their own.

A name server that does not answer must not hold up the threads in which wake-ups are published.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 64
"""Look-ups at once, of one for each host; one that hangs keeps its thread until the system gives it up."""


class Resolver(AbstractResolver):
    """Asks the system."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-names")
        self._under_way: dict[tuple[str, int, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host."""
        key = (host, port, int(family))
        look_up = self._under_way.get(key)
        if look_up is None:
            # All requests to a host share one: a name server that hangs must not take every thread.
            look_up = asyncio.get_running_loop().run_in_executor(
                self._threads,
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family),
            )
            self._under_way[key] = look_up
            look_up.add_done_callback(lambda done: self._end(key, done))
        found = await asyncio.shield(look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=of_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of_family, _, protocol, _, address in found
        ]

    def _end(self, key: tuple[str, int, int], done: asyncio.Future[Any]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # also where all requests have given up

    async def close(self) -> None:
        """Give the threads up; pending look-ups are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
