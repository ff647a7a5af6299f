"""Pages of jobs, from an index in Redis: filtered, newest first, a bounded look at a time."""

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, cast

from redis.asyncio import Redis

from dingrelay_producers.errors import UnreadableRecord
from dingrelay_producers.gateway.backend.connections import asking
from dingrelay_producers.gateway.http import paging
from dingrelay_producers.store import record, scripts
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus

CHUNK = 200
"""Records read in one round trip."""
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
        """The place that a cursor tells.

        Raises:
            ValueError: it is none of ours.
        """
        told = paging.unpack(cursor).decode("utf-8", "surrogateescape")
        match = re.fullmatch(r"([0-9]{1,15}) (.+)", told)
        if match is None:
            raise ValueError(paging.NONE_OF_OURS)
        return cls(int(match[1]), match[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which jobs to show; None for any."""

    state: State | None = None
    kind: str | None = None
    app: str | None = None
    sender: str | None = None
    since: datetime | None = None

    def takes(self, job: JobStatus) -> bool:
        """Whether a job is one of them."""
        return (
            self.state in {None, job.state}
            and self.kind in {None, job.kind}
            and self.app in {None, job.app}
            and self.sender in {None, job.sender}
            and (self.since is None or job.created_at >= self.since)
        )


class Visible(Protocol):
    """Whether the caller may see a job."""

    def __call__(self, job: JobStatus) -> bool:  # noqa: D102
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and from where on there are more; None for no more."""

    jobs: list[JobStatus]
    next: Position | None


class Listing:
    """One index, a sorted set of job ids by a time in ms, read from its end."""

    def __init__(self, redis: Redis, index: str) -> None:
        self._redis = redis
        self._index = index

    async def page(
        self, wanted: Filter, limit: int, after: Position | None, *, visible: Visible
    ) -> Page:
        """The next jobs after a place.

        Raises:
            ServiceUnavailable: Redis is away.
        """
        found: list[JobStatus] = []
        looked_at = 0
        last = after
        since = wanted.since.timestamp() * 1000 if wanted.since else 0
        async for chunk in self._chunks(after):
            jobs = await self._read([place.job_id for place in chunk])
            for place, job in zip(chunk, jobs, strict=True):
                if place.at < since:
                    return Page(found, None)
                last = place
                looked_at += 1
                if job and visible(job) and wanted.takes(job):
                    found.append(job)
                if len(found) == limit or looked_at == MOST_LOOKED_AT:
                    return Page(found, last)
        return Page(found, None)

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
        return [_status(job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]


def _status(job_id: str, answer: object) -> JobStatus | None:
    """A job; None where its record is gone, or is none that this release can read."""
    found = record.fields(cast("Sequence[bytes]", answer))
    try:
        return JobStatus.from_record(job_id, found) if b"state" in found else None
    except UnreadableRecord:
        return None
