"""Lists of jobs: the newest, from their records in Redis, and those that ended, from the history.

An index in Redis says which jobs there are; where it ends the history goes on, which has jobs that ended.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from inspect import isawaitable
from operator import attrgetter, methodcaller
from typing import Any, NamedTuple, TypeVar

from redis import Redis

from dingrelay_producers.client.dead_codes import DeadCodes
from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.errors import ServiceUnavailable, UnreadableRecord
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import milliseconds, moment_of
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS

CHUNK = 200
"""Records read in one round trip."""
MOST_LOOKED_AT = 1_000
"""Records that one page may cost; a filter that finds few gives short pages."""

_T = TypeVar("_T")


class Position(NamedTuple):
    """A place in a list: everything after it has not been shown."""

    at: int
    """Milliseconds since the epoch."""
    job_id: str


class JobList:
    """Jobs that fit a filter, the latest first.

    Redis has the newest `keys.RECENT_JOBS` jobs, whatever their state. The history has all ended
    jobs that were requested from outside. A job that has waited since more than that many were accepted
    after it is in neither list until it ends.

    Args:
        use: asks Redis, whose client may be for asyncio.
        history: what goes on behind the end of the index, and knows jobs whose records are gone; None
            for nothing.
        index: a sorted set of job ids by a time in ms, read from its end.
        patience: seconds for an answer of the history, without which Redis's jobs are listed nevertheless;
            None: as long as it takes, and none are.
        visible: whether the caller may see a job.
        on_unreadable: called for each record of another release, which is left out.
    """

    def __init__(
        self,
        use: Callable[[Callable[[Any], Any]], Any],
        history: Any = None,
        *,
        index: str = keys.RECENT,
        patience: float | None = None,
        visible: Callable[[JobStatus], bool] = lambda _: True,
        on_unreadable: Callable[[UnreadableRecord], object] = lambda _: None,
    ) -> None:
        self._use = use
        self._history = history
        self._index = index
        self._patience = patience
        self._visible = visible
        self._on_unreadable = on_unreadable

    async def find(self, chosen: JobFilter, limit: int) -> list[JobStatus]:
        """Up to so many of them, the latest accepted first.

        Raises:
            ServiceUnavailable: Redis or the database can't be used.
        """
        if chosen.state in {State.DEAD, State.UNKNOWN}:
            return await self._failed(chosen, limit)
        found, after = await self.page(chosen, limit, None)
        while after is not None and len(found) < limit:
            more, after = await self.page(chosen, limit - len(found), after)
            found += more
        return found

    async def page(
        self, chosen: JobFilter, limit: int, after: Position | None
    ) -> tuple[list[JobStatus], Position | None]:
        """The next jobs after a place.

        Raises:
            ServiceUnavailable: Redis is away; or the database is, and Redis has nothing more.
        """
        found: list[JobStatus] = []
        looked_at = 0
        last = after
        since = chosen.since.timestamp() * 1000 if chosen.since else 0
        async for places in self._places(self._index, after):
            fit = await self._among([place.job_id for place in places], chosen)
            for place in places:
                if place.at < since:
                    return found, None
                last = place
                looked_at += 1
                if place.job_id in fit:
                    found.append(fit[place.job_id])
                if len(found) == limit or looked_at == MOST_LOOKED_AT:
                    return found, last
        if self._history is None:
            return found, None
        try:
            return await self._older(chosen, limit, last, found)
        except ServiceUnavailable:
            # Answer with what Redis has; the request for the next page then fails.
            if found and last:
                return found, last
            raise

    async def codes(self, chosen: JobFilter) -> DeadCodes:
        """Those of the index, which is that of dead and unknown jobs, counted by code.

        Raises:
            ServiceUnavailable: Redis can't be used.
        """
        found, after = await self.page(chosen, MOST_LOOKED_AT, None)
        return DeadCodes.of(found, complete=after is None)

    async def _older(
        self, chosen: JobFilter, limit: int, last: Position | None, found: list[JobStatus]
    ) -> tuple[list[JobStatus], Position | None]:
        """A page that the history fills up."""
        most = max(CHUNK, limit)
        for _ in range(MOST_LOOKED_AT // CHUNK):
            before = (moment_of(last.at), last.job_id) if last else None
            rows: Sequence[JobStatus] = await self._answered(
                self._history.list(chosen, before=before, limit=most)
            )
            for job in rows:
                last = Position(milliseconds(job.created_at) or 0, job.id)
                if self._visible(job):
                    found.append(job)
                if len(found) == limit:
                    return found, last
            if len(rows) < most:
                return found, None
        return found, last

    async def _failed(self, chosen: JobFilter, limit: int) -> list[JobStatus]:
        """Dead or unknown jobs. Redis has an index of them, which goes further back than the newest jobs."""
        found: dict[str, JobStatus] = {}
        async for places in self._places(keys.DEAD, None):
            found |= await self._among([place.job_id for place in places], chosen)
            if len(found) >= limit:
                break
        if self._history is not None and len(found) < limit:
            # A job of theirs may have another life by now.
            rows = await self._answered(self._history.list(chosen, before=None, limit=limit))
            found |= await self._among([row.id for row in rows if row.id not in found], chosen)
        return sorted(found.values(), key=attrgetter("created_at", "id"), reverse=True)[:limit]

    async def _places(self, index: str, after: Position | None) -> AsyncGenerator[list[Position]]:
        """The index after a place, newest first; ids of one moment in reverse order of the alphabet."""
        start = "+inf" if after is None else str(after.at)
        offset, full = 0, True
        while full:
            asked = {"offset": offset, "num": CHUNK, "desc": True, "byscore": True}
            raw = await self._ask(
                methodcaller("zrange", index, start, "-inf", **asked, withscores=True)
            )
            places = [Position(int(at), job.decode(errors="replace")) for job, at in raw]
            if fresh := [place for place in places if after is None or place < after]:
                yield fresh
                after = fresh[-1]
            offset += CHUNK
            full = len(raw) == CHUNK

    async def _among(self, ids: Sequence[str], chosen: JobFilter) -> dict[str, JobStatus]:
        """Those of these jobs that fit, in their order."""
        if chosen.reads_jobs:
            # Most ask for something else, and to read a whole record takes longer than to find that out.
            wanted = await self._that_ask_for(ids, chosen)
            ids = [job for job in ids if job in wanted]
        known, gone = await self._read(ids, chosen)
        if gone and self._history is not None:
            known |= await self._if_answered(self._history.find(gone), {})
        return {
            job: known[job]
            for job in ids
            if job in known and self._visible(known[job]) and chosen.takes(known[job])
        }

    async def _read(
        self, ids: Sequence[str], chosen: JobFilter
    ) -> tuple[dict[str, JobStatus], list[str]]:
        """Those that may fit, and those of which there is no record that can be read."""
        calls = [record.read(job) for job in ids]
        answers = await self._ask(lambda redis: _run_many(redis, calls))
        wanted = [(name.encode(), value.encode()) for name, value in chosen.equal.items()]
        found: dict[str, JobStatus] = {}
        gone: list[str] = []
        for job, answer in zip(ids, answers, strict=True):
            fields = record.fields(answer)
            if not fields:
                gone.append(job)
            # To read a record takes ten times as long.
            elif all(fields.get(name, b"") == value for name, value in wanted):
                try:
                    found[job] = JobStatus.from_record(job, fields)
                except UnreadableRecord as error:
                    self._on_unreadable(error)
                    gone.append(job)
        return found, gone

    async def _that_ask_for(self, ids: Sequence[str], chosen: JobFilter) -> set[str]:
        """Those of the jobs that are for a person, or have a text, by what their records hold."""

        def payloads(redis: Any) -> Any:
            pipe = redis.pipeline(transaction=False)
            for job in ids:
                pipe.hmget(keys.job(job), ["kind", "payload", "step:addresses"])
            return pipe.execute()

        raw: list[list[bytes | None]] = await self._ask(payloads)
        found: set[str] = set()
        gone: list[str] = []
        for job, (kind, payload, addresses) in zip(ids, raw, strict=True):
            if payload is None:
                gone.append(job)
            elif _asks_for(kind or b"", payload, addresses, chosen):
                found.add(job)
        if gone and chosen.to is not None and chosen.text is None and self._history is not None:
            found |= await self._if_answered(self._history.to(gone, chosen.to), set())
        return found

    async def _ask(self, work: Callable[[Any], Any]) -> Any:
        """What Redis answers."""
        answer = self._use(work)
        return await answer if isawaitable(answer) else answer

    async def _if_answered(self, asked: Coroutine[Any, Any, _T], otherwise: _T) -> _T:
        """What the history answers; something else if it need not be waited for."""
        try:
            return await self._answered(asked)
        except ServiceUnavailable:
            if self._patience is None:
                raise
            return otherwise

    async def _answered(self, asked: Coroutine[Any, Any, _T]) -> _T:
        """What the history answers."""
        try:
            async with asyncio.timeout(self._patience):
                return await asked
        except TimeoutError:
            raise ServiceUnavailable(
                "DINGRELAY_DATABASE_URL: the database does not answer"
            ) from None


def _run_many(redis: Any, calls: Sequence[scripts.Call]) -> Any:
    if isinstance(redis, Redis):
        return scripts.run_many(redis, calls)
    return scripts.run_all_async(redis, calls)


def _asks_for(kind: bytes, payload: bytes, addresses: bytes | None, chosen: JobFilter) -> bool:
    text = payload.decode(errors="replace")
    if chosen.text is not None and chosen.text not in text:
        return False
    if chosen.to is None:
        return True
    # Most are for others, and to read a job takes much longer.
    if chosen.to.isascii() and chosen.to.encode() not in payload + (addresses or b""):
        return False
    known = KINDS.get(kind.decode(errors="replace"))
    if known is None or known.outcomes is None:
        return False
    steps = {"addresses": json.loads(addresses)} if addresses else {}
    try:
        return chosen.to in known.outcomes(json.loads(text), steps)
    except (ValueError, KeyError, TypeError, AttributeError):  # malformed, or of another release
        return False
