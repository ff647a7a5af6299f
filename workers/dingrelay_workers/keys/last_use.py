"""When each key was last used, written down beside the requests and not on their way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from structlog.stdlib import get_logger

from dingrelay_producers.errors import DingrelayError

EVERY = 60.0
"""Seconds between two times that a gateway writes down what was used since."""

log = get_logger("dingrelay.api_keys")


class LastUse:
    """Uses that are not written yet, the latest of each key.

    Args:
        write: stores them, by key id.
        every: seconds between two writes.
    """

    def __init__(
        self, write: Callable[[Mapping[str, datetime]], Awaitable[None]], *, every: float = EVERY
    ) -> None:
        self._write = write
        self._every = every
        self._used: dict[str, datetime] = {}
        self._writer: asyncio.Task[None] | None = None

    def note(self, key_id: str) -> None:
        """It was used just now."""
        self._used[key_id] = datetime.now(UTC)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_later())

    async def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._flush()

    async def _write_later(self) -> None:
        while self._used:
            await asyncio.sleep(self._every)
            await self._flush()
        self._writer = None

    async def _flush(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._write(used)
        except DingrelayError as error:
            # Next time, unless there were later uses.
            self._used = {**used, **self._used}
            log.warning("last_use_not_written", keys=len(used), reason=str(error))
        except asyncio.CancelledError:
            self._used = {**used, **self._used}
            raise
