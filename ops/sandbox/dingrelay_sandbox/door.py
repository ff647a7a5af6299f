"""The listening socket, which can be shut for a time: connections are refused then."""

import asyncio
import socket

from aiohttp import web

BACKLOG = 1_024
LONGEST_SECONDS = 600.0
"""A shut door opens by itself: a client without a connection could not ask for it."""


class Door:
    """A listening server that can be shut.

    The port stays ours while the door is shut: a second socket is bound to it, and never listens.

    Args:
        runner: the server, set up.
        host: the address to listen on.
        port: 0 takes a free one.

    Raises:
        OSError: such as that another program has the port.
    """

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        if port:  # two sandboxes would share it, and each answer some of the calls
            self._socket(host, port, shared=False).close()
        self._listening = self._socket(host, port)
        self.address: tuple[str, int] = self._listening.getsockname()[:2]
        self._holding = self._socket(*self.address)
        self._site: web.SockSite | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def shut(self) -> bool:
        """Whether connections are refused."""
        return self._site is None

    async def open(self) -> None:
        """Listen, now."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._site is None:
            self._listening.listen(BACKLOG)
            self._site = web.SockSite(self._runner, self._listening, backlog=BACKLOG)
            await self._site.start()

    async def shut_for(self, seconds: float) -> None:
        """Refuse connections for some seconds; connections that exist stay."""
        if self._opening is not None:
            self._opening.cancel()
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
            self._listening.close()
            self._listening = self._socket(*self.address)
        self._opening = asyncio.get_running_loop().call_later(seconds, self._open_soon)

    def close(self) -> None:
        """Give the port back; the runner closes what listens."""
        if self._opening is not None:
            self._opening.cancel()
        self._holding.close()
        if self._site is None:
            self._listening.close()

    def _open_soon(self) -> None:
        task = asyncio.ensure_future(self.open())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _socket(host: str, port: int, *, shared: bool = True) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and hasattr(socket, "SO_REUSEPORT"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((host, port))
        except OSError:
            bound.close()
            raise
        return bound
