"""Pages of jobs: filtered, newest first, a bounded look at a time.

They come from an index in Redis, and where that ends from the history in SQL, which has jobs that ended.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, cast

from redis.asyncio import Redis

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable, UnreadableRecord
from dingrelay_producers.store import record, scripts
from dingrelay_producers.store.record import milliseconds
from dingrelay_producers.store.status import JobStatus
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging

CHUNK = 200
"""Records read in one round trip."""
PATIENCE = 2.0
"""Seconds for an answer of the database."""
MOST_LOOKED_AT = 2_000
"""Records that one page may cost; a filter that finds few gives short pages."""


class Position(NamedTuple):
    """A place in an index: everything after it has not been shown."""

    at: int
    """Milliseconds since the epoch."""
    job_id: str

    def cursor(self) -> str:
        """As the caller keeps it."""
        return paging.pack(f"{self.at} {self.job_id}".encode("utf-8", "surrogateescape"))

    @classmethod
    def of(cls, cursor: str) -> "Position":
        """Decode a cursor.

        Raises:
            ValueError: it is none of ours.
        """
        text = paging.unpack(cursor).decode("utf-8", "surrogateescape")
        match = re.fullmatch(r"([0-9]{1,15}) (.+)", text)
        if match is None:
            raise paging.unknown_cursor()
        return cls(int(match[1]), match[2])


Visible = Callable[[JobStatus], bool]
"""Whether the caller may see a job."""


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Some jobs with their places, and from where on there are more; None for no more."""

    found: list[tuple[Position, JobStatus]]
    next: Position | None

    @property
    def jobs(self) -> list[JobStatus]:
        """The jobs."""
        return [job for _, job in self.found]


class Listing:
    """One index, a sorted set of job ids by a time in ms, read from its end.

    Args:
        redis: where it is.
        index: its key.
        history: what goes on behind its end, and knows jobs whose records are gone; None for nothing.
    """

    def __init__(self, redis: Redis, index: str, history: HistoryService | None = None) -> None:
        self._redis = redis
        self._index = index
        self._history = history

    async def page(
        self, wanted: JobFilter, limit: int, after: Position | None, *, visible: Visible
    ) -> ListingPage:
        """The next jobs after a place.

        Raises:
            ServiceUnavailable: Redis is away; or the database is, and Redis has nothing more.
        """
        found: list[tuple[Position, JobStatus]] = []
        looked_at = 0
        last = after
        since = wanted.since.timestamp() * 1000 if wanted.since else 0
        async for chunk in self._chunks(after):
            jobs = await self._read([place.job_id for place in chunk])
            for place, job in zip(chunk, jobs, strict=True):
                if place.at < since:
                    return ListingPage(found, None)
                last = place
                looked_at += 1
                if job and visible(job) and wanted.takes(job):
                    found.append((place, job))
                if len(found) == limit or looked_at == MOST_LOOKED_AT:
                    return ListingPage(found, last)
        if self._history is None:
            return ListingPage(found, None)
        try:
            return await self._older(wanted, limit, last, found, visible=visible)
        except ServiceUnavailable:
            # Answer with what Redis has; the request for the next page then fails.
            if found and last:
                return ListingPage(found, last)
            raise

    async def _older(
        self,
        wanted: JobFilter,
        limit: int,
        last: Position | None,
        found: list[tuple[Position, JobStatus]],
        *,
        visible: Visible,
    ) -> ListingPage:
        """A page that the history fills up."""
        for _ in range(MOST_LOOKED_AT // CHUNK):
            before = (datetime.fromtimestamp(last.at / 1000, UTC), last.job_id) if last else None
            rows = await self._of_history(wanted, before)
            for job in rows:
                last = Position(milliseconds(job.created_at) or 0, job.id)
                if visible(job):
                    found.append((last, job))
                if len(found) == limit:
                    return ListingPage(found, last)
            if len(rows) < CHUNK:
                return ListingPage(found, None)
        return ListingPage(found, last)

    async def _of_history(
        self, wanted: JobFilter, before: tuple[datetime, str] | None
    ) -> Sequence[JobStatus]:
        assert self._history is not None, "it is asked where there is one"
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._history.list(wanted, before=before, limit=CHUNK)
        except TimeoutError:
            raise ServiceUnavailable(
                "DINGRELAY_DATABASE_URL: the database does not answer"
            ) from None

    async def _chunks(self, after: Position | None) -> AsyncGenerator[list[Position]]:
        """The index after a place, newest first; ids of one moment in reverse order of the alphabet."""
        start = "+inf" if after is None else str(after.at)
        offset = 0
        while True:
            async with asking():
                raw = cast(
                    "Sequence[tuple[bytes, float]]",
                    await self._redis.zrange(
                        self._index,
                        start,
                        "-inf",
                        desc=True,
                        byscore=True,
                        withscores=True,
                        offset=offset,
                        num=CHUNK,
                    ),
                )
            places = [
                Position(int(score), job_id.decode("utf-8", "surrogateescape"))
                for job_id, score in raw
            ]
            if fresh := [place for place in places if after is None or place < after]:
                yield fresh
            if len(raw) < CHUNK:
                return
            offset += CHUNK

    async def _read(self, job_ids: Sequence[str]) -> list[JobStatus | None]:
        async with asking():
            answers = await scripts.run_many_async(self._redis, list(map(record.read, job_ids)))
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        jobs = [_status(job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]
        gone = [job_id for job_id, job in zip(job_ids, jobs, strict=True) if job is None]
        kept = await self._kept(gone)
        return [job or kept.get(job_id) for job_id, job in zip(job_ids, jobs, strict=True)]

    async def _kept(self, job_ids: Sequence[str]) -> Mapping[str, JobStatus]:
        """Jobs of the index whose records are gone, as far as the history has them."""
        if not job_ids or self._history is None:
            return {}
        with suppress(ServiceUnavailable, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                return await self._history.find(job_ids)
        return {}


def _status(job_id: str, answer: object) -> JobStatus | None:
    """A job; None where its record is gone, or is none that this release can read."""
    found = record.fields(cast("Sequence[Sequence[bytes]]", answer))
    try:
        return JobStatus.from_record(job_id, found) if b"state" in found else None
    except UnreadableRecord:
        return None
