"""How long the bodies of jobs may run in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Deadlines:
    """A time limit for each body; a worker that stops shortens all of them at once.

    Args:
        longest: seconds that a body may run.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._end: float | None = None
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Run within the time limit.

        Raises:
            TimeoutError: it is over.
        """
        when = asyncio.get_running_loop().time() + self._longest
        async with asyncio.timeout_at(when if self._end is None else min(when, self._end)) as limit:
            self._running.add(limit)
            try:
                yield
            finally:
                self._running.discard(limit)

    def shorten(self, seconds: float) -> None:
        """Let no body run for longer than this from now."""
        self._end = asyncio.get_running_loop().time() + seconds
        for limit in self._running:
            when = limit.when()
            if when is None or when > self._end:
                limit.reschedule(self._end)
