"""What a process keeps of keys in memory: those that it has read, and uses that are not written yet."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from structlog.stdlib import get_logger

from dingrelay_producers.errors import DingrelayError

LIVES = 5.0
"""Seconds for which a key is not read again: how long a key that was revoked elsewhere still works.

This is short where a key was lost, and at a thousand requests a second it saves all reads
but one in five thousand.
"""

LARGEST = 4096
"""Keys that are kept at most, the oldest out first."""

WRITE_USES_EVERY = 60.0
"""Seconds between two times that a gateway writes down what was used since."""

log = get_logger("dingrelay.api_keys")

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Key]):
    key: _Key
    read_at: float


class KeyCache(Generic[_Key]):
    """Keys by id. Unknown ids are not cached: a client may make up any number.

    Args:
        read: reads one from the database.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[_Key | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._entries: dict[str, _Entry[_Key]] = {}
        self._reading: dict[str, asyncio.Task[_Key | None]] = {}

    async def get(self, key_id: str) -> _Key | None:
        """The key as it was within the last `LIVES` seconds; None if there is none.

        Requests that come while it is being read wait for the same answer.
        """
        entry = self._entries.get(key_id)
        if entry is not None and self._clock() - entry.read_at < LIVES:
            return entry.key
        task = self._reading.get(key_id)
        if task is None:
            task = self._reading[key_id] = asyncio.create_task(self._fetch(key_id))
            task.add_done_callback(_retrieved)
        # One of them may go away; the others need the answer still.
        return await asyncio.shield(task)

    def forget(self, key_id: str) -> None:
        """Read it again next time, also if it is being read just now."""
        self._entries.pop(key_id, None)
        self._reading.pop(key_id, None)

    async def _fetch(self, key_id: str) -> _Key | None:
        task = asyncio.current_task()
        read_at = self._clock()
        try:
            key = await self._read(key_id)
            if self._reading.get(key_id) is task:
                self._keep(key_id, key, read_at)
            return key
        finally:
            if self._reading.get(key_id) is task:
                del self._reading[key_id]

    def _keep(self, key_id: str, key: _Key | None, read_at: float) -> None:
        self._entries.pop(key_id, None)
        if key is None:
            return
        if len(self._entries) >= LARGEST:
            del self._entries[next(iter(self._entries))]
        self._entries[key_id] = _Entry(key, read_at)


def _retrieved(task: "asyncio.Task[_Key | None]") -> None:
    """Waiters get the error; where all were cancelled, asyncio need not log it."""
    if not task.cancelled():
        task.exception()


class LastUse:
    """Uses that are not written yet, the latest of each key. They are written beside the requests.

    Args:
        write: stores them, by key id.
        every: seconds between two writes.
    """

    def __init__(
        self,
        write: Callable[[Mapping[str, datetime]], Awaitable[None]],
        *,
        every: float = WRITE_USES_EVERY,
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
