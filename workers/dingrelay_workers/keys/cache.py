"""Keys that a gateway has read a moment ago, so that not every request reads the database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dingrelay_workers.keys.stored_key import StoredKey

LIVES = 5.0
"""Seconds for which a key is not read again: how long a key that was revoked elsewhere still works.

This is short where a key was lost, and at a thousand requests a second it saves all reads
but one in five thousand.
"""

LARGEST = 4096
"""Keys that are kept at most, the oldest out first."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: StoredKey
    read_at: float


class KeyCache:
    """Keys by id. Unknown ids are not cached: a client may make up any number.

    Args:
        read: reads one from the database.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[StoredKey | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._reading: dict[str, asyncio.Task[StoredKey | None]] = {}

    async def get(self, key_id: str) -> StoredKey | None:
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

    async def _fetch(self, key_id: str) -> StoredKey | None:
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

    def _keep(self, key_id: str, key: StoredKey | None, read_at: float) -> None:
        self._entries.pop(key_id, None)
        if key is None:
            return
        if len(self._entries) >= LARGEST:
            del self._entries[next(iter(self._entries))]
        self._entries[key_id] = _Entry(key, read_at)


def _retrieved(task: "asyncio.Task[StoredKey | None]") -> None:
    """Waiters get the error; where all were cancelled, asyncio need not log it."""
    if not task.cancelled():
        task.exception()
