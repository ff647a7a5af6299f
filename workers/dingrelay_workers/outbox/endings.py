"""The ends of jobs, as readers of them read: each at its own pace, each end at least once.

The transition that ends a job writes the end in the same script (`store/lua/endings.lua`), so it
costs no round trip and is never written without being true. The stream holds entries that some
reader has not read, up to `keys.MOST_ENDINGS`; those unread beyond that are counted for the reader
that missed them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import Script, Value, run_async

WEBHOOKS = "webhooks"
"""The reader whose notices come from it."""

_READ = Script.load("dingrelay_workers.outbox", "read_endings")


@dataclass(frozen=True, slots=True)
class Ending:
    """A job that ended.

    Attributes:
        sender: of the job; empty if not given.
        state: the end.
        at: when, in ms of Redis's clock.
    """

    id: str
    kind: str
    app: str
    sender: str
    state: str
    at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Ends that a reader has not read, the oldest first.

    Attributes:
        missed: how many went before it came to read them.
        mark: up to where it had read before.
        last: id of the last entry, and its number; None where there is none.
    """

    endings: Sequence[Ending]
    missed: int
    mark: str
    last: tuple[str, int] | None


class Endings:
    """The ends of jobs from the side of one reader.

    Args:
        reader: its name. Processes that read under one name share what they have read.
    """

    def __init__(self, redis: Redis, reader: str) -> None:
        self._redis = redis
        self._reader = reader

    async def read(self, most: int) -> Page:
        """The next ones. They come again until they are passed, whatever other readers pass."""
        mark, before, missed, entries = await self._run("read", most)
        last = (entries[-1][0].decode(), before + len(entries)) if entries else None
        return Page([_ending(fields) for _, fields in entries], missed, mark.decode(), last)

    async def pass_(self, page: Page, *, awaited: Sequence[str] = ()) -> bool:
        """Mark the page as read; False: another process has passed it, or more.

        Args:
            page: as it was read.
            awaited: readers that the entries stay for even if they have not read anything yet.
        """
        if page.last is None:
            return True
        return bool(await self._run("pass", page.mark, *page.last, *awaited))

    async def _run(self, verb: str, *values: Value) -> Any:
        where = [keys.ENDINGS, keys.ENDINGS_READ]
        call = _READ.call(where, [verb, self._reader, keys.ENDINGS_TTL_MS, *values])
        return await run_async(self._redis, call)


def _ending(fields: Sequence[Any]) -> Ending:
    texts = [field.decode(errors="replace") for field in fields]
    values = dict(zip(texts[::2], texts[1::2], strict=True))
    return Ending(
        id=values.get("id", ""),
        kind=values.get("kind", ""),
        app=values.get("app", ""),
        sender=values.get("sender", ""),
        state=values.get("state", ""),
        at=int(values.get("at", 0)),
    )
