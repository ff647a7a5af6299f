"""Lists of jobs: the newest, from their records in Redis, and those that ended, from the history.

An index in Redis says which jobs there are; where it ends the history goes on, which has jobs that ended.
"""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from datetime import datetime
from inspect import isawaitable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redis import Redis

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.filters import JobFilter, Seen
from dingrelay_producers.errors import ServiceUnavailable, UnreadableRecord
from dingrelay_producers.store import keys, record, scripts, transitions
from dingrelay_producers.store.record import milliseconds, moment_of
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_names import target_of

if TYPE_CHECKING:
    from dingrelay_producers.client.dead_codes import DeadCodes

CHUNK = 500
"""Jobs that Redis looks at in one step, and serves no other client for a millisecond or two."""
MOST_LOOKED_AT = 10_000
"""Jobs that one page may cost; a filter that finds few gives short pages."""
MOST_COUNTED = 1_000
"""Failed jobs that are counted by code, and changed at once."""

_ALWAYS = math.inf
_T = TypeVar("_T")


class Position(NamedTuple):
    """A place in a list: everything after it has not been shown."""

    at: int
    """Milliseconds since the epoch."""
    job_id: str


class Brief(NamedTuple):
    """A job of an index, with what lists are narrowed by; of one without a record these are empty."""

    id: str
    at: int
    state: str = ""
    kind: str = ""
    app: str = ""
    sender: str = ""
    lane: str = ""
    code: str = ""
    """Code of its error."""
    summary: str = ""

    @property
    def target(self) -> str:
        """Target of the job; see `JobStatus`."""
        return target_of(self.app, self.summary)


FIELDS = Brief._fields[2:-1]
"""Fields of a job that `briefs.lua` narrows a list by."""


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
        timeout: seconds for an answer of the history, without which Redis's jobs are listed nevertheless;
            None: as long as it takes, and none are.
        scope: by which the actor of the present task sees jobs.
        seen: values of fields that the jobs must have besides.
        on_unreadable: called for each record of another release, which is left out.
    """

    def __init__(
        self,
        use: Callable[[Callable[[Any], Any]], Any],
        history: Any = None,
        *,
        index: str = keys.RECENT,
        timeout: float | None = None,
        scope: str = "jobs:read",
        seen: Seen | None = None,
        on_unreadable: Callable[[UnreadableRecord], object] = lambda _: None,
    ) -> None:
        self._use = use
        self._history = history
        self._index = index
        self._timeout = timeout
        self._reach, self._scope = current_reach(), scope
        self._seen = {**self._reach.sees(scope)}
        for name, values in (seen or {}).items():
            self._seen[name] = {*values} & {*self._seen.get(name, values)}
        self._on_unreadable = on_unreadable

    async def find(self, job_filter: JobFilter, limit: int) -> list[JobStatus]:
        """Up to so many of them, the latest accepted first.

        Raises:
            ServiceUnavailable: Redis or the database can't be used.
        """
        if job_filter.state in {State.DEAD, State.UNKNOWN}:
            return await self._failed(job_filter, limit)
        jobs, after = await self.page(job_filter, limit, None)
        while after is not None and len(jobs) < limit:
            more, after = await self.page(job_filter, limit - len(jobs), after)
            jobs += more
        return jobs

    async def page(
        self, job_filter: JobFilter, limit: int, after: Position | None
    ) -> tuple[list[JobStatus], Position | None]:
        """The next jobs after a place.

        Raises:
            ServiceUnavailable: Redis is away; or the database is, and Redis has nothing more.
        """
        jobs_at: list[tuple[int, JobStatus]] = []
        looked_at = 0
        last = after
        since = _milliseconds(job_filter.since, 0)
        async for briefs, number, last in self._briefs(self._index, job_filter, after, limit):
            fit = await self._among([brief.id for brief in briefs], job_filter)
            jobs_at += [(brief.at, fit[brief.id]) for brief in briefs if brief.id in fit]
            if len(jobs_at) >= limit:
                at, job = jobs_at[limit - 1]
                return [job for _, job in jobs_at[:limit]], Position(at, job.id)
            looked_at += number
            if last.at < since:
                return [job for _, job in jobs_at], None
            if looked_at >= MOST_LOOKED_AT and (place := _place(jobs_at, last)) != after:
                return _behind(jobs_at, place)
        while self._history is not None:
            try:
                before = (moment_of(last.at), last.job_id) if last else None
                rows, behind = await self._await_history(
                    self._history.list(
                        job_filter, self._seen, before=before, limit=limit - len(jobs_at)
                    )
                )
            except ServiceUnavailable:
                # Answer with what Redis has; the request for the next page then fails.
                if jobs_at and last and (place := _place(jobs_at, last)) != after:
                    return _behind(jobs_at, place)
                raise
            jobs_at += [(milliseconds(row.created_at) or 0, row) for row in rows if self._sees(row)]
            if behind is None:
                break
            last = Position(milliseconds(behind[0]) or 0, behind[1])
            if (place := _place(jobs_at, last)) != after:
                return _behind(jobs_at, place)
        return [job for _, job in jobs_at], None

    async def codes(self, job_filter: JobFilter) -> "DeadCodes":
        """Dead and unknown jobs, counted by code.

        Raises:
            ServiceUnavailable: Redis can't be used.
        """
        briefs, complete = await self.briefs(job_filter)
        groups: dict[tuple[str, str], list[Brief]] = {}
        for brief in briefs:
            groups.setdefault((brief.state, brief.code), []).append(brief)
        statuses: dict[str, JobStatus] = {}
        while unread := [jobs for jobs in groups.values() if jobs and jobs[0].id not in statuses]:
            statuses |= (await self._read_records([jobs[0].id for jobs in unread]))[0]
            for jobs in unread:
                if jobs[0].id not in statuses:
                    del jobs[0]
        counted = [(statuses[jobs[0].id], jobs) for jobs in groups.values() if jobs]
        from dingrelay_producers.client.dead_codes import DeadCodes

        return DeadCodes.of(counted, complete=complete)

    async def briefs(self, job_filter: JobFilter) -> tuple[list[Brief], bool]:
        """The latest jobs of the index, without their records; and whether these are all.

        Raises:
            ServiceUnavailable: Redis can't be used.
        """
        matching_briefs: list[Brief] = []
        looked_at = 0
        async for page, number, _ in self._briefs(self._index, job_filter, None, MOST_COUNTED + 1):
            with_record = [brief for brief in page if brief.state]
            if job_filter.reads_jobs:
                matching_ids = await self._that_ask_for(
                    [brief.id for brief in with_record], job_filter
                )
                with_record = [brief for brief in with_record if brief.id in matching_ids]
            matching_briefs += with_record
            looked_at += number
            if len(matching_briefs) > MOST_COUNTED or looked_at >= MOST_LOOKED_AT:
                return matching_briefs[:MOST_COUNTED], False
        return matching_briefs, True

    async def _failed(self, job_filter: JobFilter, limit: int) -> list[JobStatus]:
        """Dead or unknown jobs. Redis has an index of them, which goes further back than the newest jobs."""
        jobs: dict[str, JobStatus] = {}
        async for briefs, _, _ in self._briefs(keys.DEAD, job_filter, None, limit):
            jobs |= await self._among([brief.id for brief in briefs], job_filter)
            if len(jobs) >= limit:
                break
        before = None
        while self._history is not None and len(jobs) < limit:
            # A job of theirs may have another life by now.
            rows, before = await self._await_history(
                self._history.list(job_filter, self._seen, before=before, limit=limit)
            )
            jobs |= await self._among([row.id for row in rows if row.id not in jobs], job_filter)
            if before is None:
                break
        return sorted(jobs.values(), key=attrgetter("created_at", "id"), reverse=True)[:limit]

    async def _briefs(
        self, index: str, job_filter: JobFilter, after: Position | None, limit: int
    ) -> AsyncGenerator[tuple[list[Brief], int, Position]]:
        """The jobs of an index after a place that fit, newest first, up to a few at a time.

        With each of these parts: how many jobs were looked at, and the last of them. Ids of one moment are in
        reverse order of the alphabet.
        """
        allowed = job_filter.allowed(self._seen)
        states, kinds, apps, senders, lanes, codes = (
            "".join(f"\n{value}" for value in allowed.get(name, ())) for name in FIELDS
        )
        # Other characters may be escaped.
        person = (
            record.canonical_json(job_filter.to)
            if job_filter.to and job_filter.to.isascii()
            else None
        )
        last, more = after, all(allowed.values())
        if last is None and job_filter.until and index == keys.RECENT:
            # Its score is when a job was accepted.
            last = Position(math.ceil(_milliseconds(job_filter.until, 0)), "")
        while more:
            call = transitions.briefs(
                index=index,
                most=CHUNK,
                limit=limit,
                last_score=last and last.at,
                last_id=last.job_id if last else "",
                since=_milliseconds(job_filter.since, 0),
                before=_milliseconds(job_filter.until, _ALWAYS),
                text=(job_filter.text or "").encode(errors="replace") or None,
                person=person,
                states=states,
                kinds=kinds,
                apps=apps,
                senders=senders,
                lanes=lanes,
                codes=codes,
            )
            ((number, job, at, more, *rows),) = await self._run_on_redis(
                lambda redis: _run_many(redis, [call])  # noqa: B023
            )
            if not number:
                return
            last = Position(int(at), _text(job))
            briefs = [Brief(_text(row[0]), int(row[1]), *map(_text, row[2:])) for row in rows]
            briefs = [brief for brief in briefs if not brief.state or self._sees(brief)]
            if after is not None:
                # The one of this place may be gone, and others have its moment.
                briefs = [brief for brief in briefs if (brief.at, brief.id) < after]
            yield briefs, number, last

    async def _among(self, ids: Sequence[str], job_filter: JobFilter) -> dict[str, JobStatus]:
        """The jobs among these that match, in their order."""
        if job_filter.reads_jobs:
            matching_ids = await self._that_ask_for(ids, job_filter)
            ids = [job for job in ids if job in matching_ids]
        statuses, missing = await self._read_records(ids)
        if missing and self._history is not None:
            statuses |= await self._if_answered(self._history.find(missing), {})
        return {
            job: statuses[job]
            for job in ids
            if job in statuses and self._may_see(statuses[job]) and job_filter.takes(statuses[job])
        }

    def _sees(self, job: JobStatus | Brief) -> bool:
        return self._reach.reaches(
            self._scope, app=job.app, sender=job.sender, lane=job.lane, target=job.target
        )

    def _may_see(self, job: JobStatus) -> bool:
        return self._sees(job) and all(
            getattr(job, name) in values for name, values in self._seen.items()
        )

    async def _read_records(self, ids: Sequence[str]) -> tuple[dict[str, JobStatus], list[str]]:
        """The jobs with a readable record, and the ids of the others."""
        if not ids:
            return {}, []
        records = [keys.job(job) for job in ids]
        call = transitions.read_records(
            records=records, longest=None, with_payload=[False] * len(records)
        )
        (answers,) = await self._run_on_redis(lambda redis: _run_many(redis, [call]))
        statuses: dict[str, JobStatus] = {}
        missing: list[str] = []
        for job, answer in zip(ids, answers, strict=True):
            try:
                if not answer:
                    missing.append(job)
                else:
                    statuses[job] = JobStatus.from_record(job, record.fields([answer]))
            except UnreadableRecord as error:
                self._on_unreadable(error)
                missing.append(job)
        return statuses, missing

    async def _that_ask_for(self, ids: Sequence[str], job_filter: JobFilter) -> set[str]:
        """The jobs whose records name a person, or hold a text."""

        def payloads(redis: Any) -> Any:
            pipe = redis.pipeline(transaction=False)
            for job in ids:
                pipe.hmget(keys.job(job), ["kind", "payload", "step:addresses"])
            return pipe.execute()

        raw: list[list[bytes | None]] = await self._run_on_redis(payloads)
        matching_ids: set[str] = set()
        missing: list[str] = []
        for job, (kind, payload, addresses) in zip(ids, raw, strict=True):
            if payload is None:
                missing.append(job)
            elif _asks_for(kind or b"", payload, addresses, job_filter):
                matching_ids.add(job)
        if (
            missing
            and job_filter.to is not None
            and job_filter.text is None
            and self._history is not None
        ):
            matching_ids |= await self._if_answered(self._history.to(missing, job_filter.to), set())
        return matching_ids

    async def _run_on_redis(self, work: Callable[[Any], Any]) -> Any:
        """Redis's answer."""
        answer = self._use(work)
        return await answer if isawaitable(answer) else answer

    async def _if_answered(self, question: Coroutine[Any, Any, _T], otherwise: _T) -> _T:
        """The history's answer, or `otherwise` if the list need not wait for it."""
        try:
            return await self._await_history(question)
        except ServiceUnavailable:
            if self._timeout is None:
                raise
            return otherwise

    async def _await_history(self, question: Coroutine[Any, Any, _T]) -> _T:
        """The history's answer."""
        try:
            async with asyncio.timeout(self._timeout):
                return await question
        except TimeoutError:
            raise ServiceUnavailable(
                "DINGRELAY_DATABASE_URL: the database does not answer"
            ) from None


def _place(jobs_at: Sequence[tuple[int, JobStatus]], last: Position) -> Position:
    """The place behind the last job that was looked at; if that is not shown, before all jobs of its moment.

    So it names no job that the caller may not see. Those of that moment are looked at again.
    """
    shown = jobs_at and jobs_at[-1][1].id == last.job_id
    return last if shown else Position(last.at + 1, "")


def _behind(
    jobs_at: Sequence[tuple[int, JobStatus]], place: Position
) -> tuple[list[JobStatus], Position]:
    """The jobs before a place, and the place."""
    return [job for at, job in jobs_at if (at, job.id) >= place], place


def _milliseconds(moment: datetime | None, otherwise: float) -> float:
    return moment.timestamp() * 1000 if moment else otherwise


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _run_many(redis: Any, calls: Sequence[scripts.Call]) -> Any:
    if isinstance(redis, Redis):
        return scripts.run_many(redis, calls)
    return scripts.run_all_async(redis, calls)


def _asks_for(kind: bytes, payload: bytes, addresses: bytes | None, job_filter: JobFilter) -> bool:
    text = payload.decode(errors="replace")
    if job_filter.text is not None and job_filter.text not in text:
        return False
    if job_filter.to is None:
        return True
    definition = KINDS.get(kind.decode(errors="replace"))
    if definition is None or definition.outcomes is None:
        return False
    steps = {"addresses": json.loads(addresses)} if addresses else {}
    try:
        return job_filter.to in definition.outcomes(json.loads(text), steps)
    except (ValueError, KeyError, TypeError, AttributeError):  # malformed, or of another release
        return False
