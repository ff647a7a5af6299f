"""Names of hosts, looked up in threads of their own.

A name server that does not answer must not hold up the threads in which wake-ups are published.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 8
"""Look-ups at once; one that hangs gives its thread back when the system gives it up."""


class Resolver(AbstractResolver):
    """Asks the system."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family),
        )
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

    async def close(self) -> None:
        """Give the threads up; whoever still waits for a name server waits alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)
