"""``/v1/jobs`` and ``/v1/dead``: jobs shown, listed, and what people do to them.

``POST /v1/jobs`` takes any number of jobs as JSON lines, answered line by line, in constant memory.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

from aiohttp import web
from pydantic import AfterValidator, BaseModel, Field
from redis.asyncio import Redis

from dingrelay_producers.client.dead_codes import DeadCodes
from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import JobList
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.sending import JobBatch, Refusal, Sending
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import DingrelayError, ServiceUnavailable
from dingrelay_producers.publisher import BATCH
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.kinds import DEFAULT_KIND, KINDS, public_kind
from dingrelay_tasks.sentence import en
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import authentication, paging, problems, routes
from dingrelay_workers.http.body_reader import Line, batches, parse_json, require_type
from dingrelay_workers.http.dispatch import problem_of
from dingrelay_workers.http.job_routes import JOB_LINKS, WaitQuery, job_of, job_response, waited
from dingrelay_workers.http.problems import Problem, json_response, wanted_language
from dingrelay_workers.http.routes import BODY_LIMIT, NDJSON, Body, HttpCall, RouteAnswer, Routes
from dingrelay_workers.http.verb_routes import Nothing, VerbRoutes, check_nothing

MEMORY = 1_000_000
"""Bytes of answers that are kept in memory while their reader does not read; more go to a file."""
BUFFERED = 48_000
"""Bytes that a connection buffers before writers block."""


ROUTES = Routes(tag="jobs")


@ROUTES(
    "POST /v1/jobs",
    {
        200: RouteAnswer(
            description=(
                "A JSON object a line: `line` and `id`, or `line` and `error`, which has the"
                " members of a problem. An `error` without `line` ends the answer: the request"
                " could not be read any further."
            ),
            model={"type": "string"},
            media_type=NDJSON,
        )
    },
    description=(
        "Each line is a job with its `kind` (`message-send` if it has none), and is answered by"
        " a line with its number and the job's id, or what is wrong with it. What has no answer"
        " was not accepted. The key needs the scope of each job's kind: "
        + ", ".join(
            f"`{scope}`"
            for scope in sorted(kind.scope for kind in KINDS.values() if kind.is_public)
        )
        + ". An `Idempotency-Key` makes it safe to send the same lines again, and an"
        " `idempotency_key` in a line to send that line again."
    ),
    scope="",
    body=Body(
        model={"type": "string", "description": "JSON lines."},
        media_types=(NDJSON, "application/jsonl"),
        limit=None,
    ),
    problems=frozenset({503}),
)
async def send_jobs(call: HttpCall) -> web.StreamResponse:
    """Any number of jobs, a JSON object a line."""
    require_type(call.request, NDJSON, "application/jsonl")
    answers, language = _Answers(call.request), wanted_language(call.request)
    within = routes.BODY_SECONDS
    try:
        async for lines in batches(call.request, size=BATCH, longest=BODY_LIMIT, within=within):
            try:
                # The key may have been revoked, or have expired, since the first line.
                await authentication.caller(call.request, call.context)
                answered = await _take(call, lines)
            except ServiceUnavailable as error:
                # The rest is not read: what has no answer was not accepted.
                refusal = problems.unavailable(str(error))
                if not answers.begun:
                    raise refusal from error
                await answers.write(_refused(number, refusal, language) for number, _ in lines)
                return await answers.close(ended=False)
            await answers.write(answered)
    except Problem as problem:
        if not answers.begun:
            raise
        await answers.write([_refused(None, problem, language)])
        return await answers.close(ended=False)
    return await answers.close(ended=True)


async def _take(call: HttpCall, lines: Sequence[Line]) -> Iterator[bytes]:
    """Enqueue a batch; the answers to its lines."""
    sending = Sending(call.context.settings)
    # In a thread, so that a batch does not delay other requests.
    refused, numbers, batch = await asyncio.to_thread(_gathered, sending, lines, call)
    outcomes = await call.context.steps.carry_out(sending.accept_all(batch))
    answers = refused | dict(zip(numbers, outcomes, strict=True))
    language = wanted_language(call.request)
    return (_answer(number, answers[number], language) for number, _ in lines)


def _gathered(
    sending: Sending, lines: Sequence[Line], call: HttpCall
) -> tuple[dict[int, Draft | Problem | Refusal], list[int], JobBatch]:
    """The lines of a batch that are no jobs, and the numbers and jobs of the others.

    With an ``Idempotency-Key`` each line is a job of its own, whose id follows from the line's number: how
    lines fall into batches is by chance.
    """
    sender = call.context.sender_of(call.key)
    refused: dict[int, Draft | Problem | Refusal] = {}
    jobs: dict[int, Contract] = {}
    for number, line in lines:
        try:
            jobs[number] = _job(line, sender)
        except Problem as problem:
            refused[number] = problem
    keys = [f"{call.once}:{number}" for number in jobs] if call.once else None
    written = call.context.records.enqueuer.written
    return refused, [*jobs], sending.gather(jobs.values(), keys=keys, written=written)


def _job(line: bytes | None, sender: str) -> Contract:
    if line is None:
        raise Problem(problems.TOO_LARGE, en("a line may have {:,} bytes", BODY_LIMIT))
    fields = parse_json(line)
    if not isinstance(fields, dict):
        raise Problem.at(problems.INVALID, "", "a line must be a JSON object")
    job = cast("dict[str, Any]", fields)
    try:
        return job_of(public_kind(job.pop("kind", DEFAULT_KIND)).contract, job, sender)
    except ContractError as error:
        raise problems.invalid(error, job) from None


def _answer(number: int, outcome: Draft | Problem | Refusal, language: str) -> bytes:
    if isinstance(outcome, Draft):
        # An id of ours is a UUID, which JSON spells as it is.
        return b'{"line":%d,"id":"%s"}\n' % (number, outcome.id.encode())
    if isinstance(outcome, ContractError):
        outcome = problems.invalid(outcome, None)
    elif isinstance(outcome, DingrelayError):
        outcome = problem_of(outcome)
    return _refused(number, outcome, language)


def _refused(number: int | None, problem: Problem, language: str) -> bytes:
    error = problem.fields(language)
    if problem.errors:
        error["errors"] = [entry.model_dump() for entry in error["errors"]]
    entry = {"error": error} if number is None else {"line": number, "error": error}
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class _Answers:
    """The answer, written while the request is read.

    Many clients read nothing before they have sent everything. What such a one does not take is
    kept, in a file if it is much, until it has: else each would wait for the other.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"Content-Type": NDJSON})
        self._kept: tempfile.SpooledTemporaryFile[bytes] | None = None
        self.begun = False

    async def write(self, lines: Iterator[bytes] | Sequence[bytes]) -> None:
        content = b"".join(lines)
        if not self.begun:
            self.begun = True
            await self._response.prepare(self._request)
        if self._kept is None and self._fits(content):
            await self._response.write(content)
            return
        if self._kept is None:
            self._kept = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115 - closed by `close`
        self._kept.write(content)

    def _fits(self, content: bytes) -> bool:
        transport = self._request.transport
        return transport is None or transport.get_write_buffer_size() + len(content) < BUFFERED

    async def close(self, *, ended: bool) -> web.StreamResponse:
        """Write what is kept. If the request was not read to its end, end the connection, too."""
        if not self.begun:
            await self._response.prepare(self._request)
        if not ended:
            self._response.force_close()
        if self._kept is not None:
            with self._kept as buffer:
                buffer.seek(0)
                while piece := buffer.read(BUFFERED):
                    await self._response.write(piece)
        await self._response.write_eof()
        return self._response


TIMEOUT = 2.0
"""Seconds for an answer of the database."""


class JobPaging(paging.Paging):
    """Page of a list of jobs."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs at most."""
    cursor: Annotated[Any, paging.Behind(int, str), AfterValidator(paging.position)] = None


JobQuery = paging.query_of(
    JobFilter, JobPaging, ("state", "kind", "sender", "app", "lane", "code", "since", "until")
)
DeadQuery = paging.query_of(JobFilter, JobPaging, ("kind", "sender", "app", "code"))


JobPage = paging.page_of(
    "JobPage",
    "Some jobs.\n\nA page may hold fewer than asked for, even none, although there are more: `next` says so.",
    jobs=JobStatus,
)
_read = partial(ROUTES, scope="jobs:read")


@_read("GET /v1/jobs/{id}", JobStatus, query=WaitQuery, links={200: JOB_LINKS})
async def get_job(call: HttpCall) -> web.StreamResponse:
    """How a job stands.

    With `wait` the answer comes once the job has ended, or when that is over.
    """
    job = await call.context.steps.carry_out(Jobs(call.context.settings).status(call.path("id")))
    if call.query.wait and not job.state.ended:
        return await waited(call, job.id, pending=200)
    return job_response(call, job, code=200)


@_read(
    "GET /v1/jobs",
    JobPage,
    query=JobQuery,
    description=(
        f"Those that the key may see: of the newest {keys.RECENT_JOBS:,}, and behind them of those "
        "that ended, as long as the history is kept. What only the history knows has DingTalk's "
        "ids as its result, and of its error the class and the code."
    ),
)
async def list_jobs(call: HttpCall) -> web.StreamResponse:
    """Jobs, newest first."""
    return await _page(call, keys.RECENT, JobFilter(**call.query.filters()), history=True)


@_read("GET /v1/dead", JobPage, query=DeadQuery)
async def list_dead(call: HttpCall) -> web.StreamResponse:
    """Jobs that ended dead or unknown.

    Those that the key may see, latest first.
    """
    return await _page(call, keys.DEAD, JobFilter(**call.query.filters()))


CodesQuery = paging.query_of(
    JobFilter, paging.Query, ("state", "kind", "sender", "app", "lane", "since", "until")
)


@_read("GET /v1/dead/codes", DeadCodes, query=CodesQuery)
async def count_dead(call: HttpCall) -> DeadCodes:
    """The latest 1,000 dead and unknown jobs, counted by the code of their error.

    Those that the key may see.
    """
    return await _listing(call, keys.DEAD).codes(JobFilter(**call.query.filters()))


async def _page(
    call: HttpCall, index: str, job_filter: JobFilter, *, history: bool = False
) -> web.Response:
    query: JobPaging = call.query
    listing = _listing(call, index, history=history)
    jobs, after = await listing.page(job_filter, query.limit, query.cursor)
    shown = [job.to_json(call.serialization) for job in jobs]
    return json_response({"jobs": shown, "next": paging.encode(*after) if after else None})


def _listing(
    call: HttpCall,
    index: str,
    *,
    history: bool = False,
    scope: str = "jobs:read",
    lanes: Collection[str] | None = None,
) -> JobList:
    async def use(work: Callable[[Redis], Awaitable[Any]]) -> Any:
        async with asking():
            return await work(call.context.redis)

    return JobList(
        use,
        call.context.service(HistoryService) if history else None,
        index=index,
        timeout=TIMEOUT,
        scope=scope,
        seen=None if lanes is None else {"lane": lanes},
    )


VerbRoutes(
    Jobs,
    {JobStatus: RouteAnswer(description="The job as it stands now.", model=JobStatus)},
    show=partial(job_response, code=200, located=False),
    links={200: JOB_LINKS},
).declare(ROUTES)


GroupQuery = paging.query_of(JobFilter, paging.Query, ("state", "kind", "sender", "app", "code"))


class ChangedJobs(BaseModel):
    """How many jobs were changed."""

    changed: int
    complete: bool
    """Whether all that fit were; otherwise only 1,000 of them, and none before the latest 10,000 failed jobs."""


def _group_change(change: Literal["requeue", "discard"], summary: str) -> None:
    """Declare the route that changes a group of failed jobs."""

    async def handle(call: HttpCall) -> ChangedJobs:
        check_nothing(call.body)
        job_filter = JobFilter(**call.query.filters())
        lanes = call.key.lanes if change == "requeue" else None
        listing = _listing(call, keys.DEAD, scope="jobs:write", lanes=lanes)
        jobs, complete = await listing.briefs(job_filter)
        verb = Jobs(call.context.settings).change_all(change, [job.id for job in jobs])
        changed = await call.context.steps.carry_out(verb)
        return ChangedJobs(changed=len(changed), complete=complete)

    ROUTES(
        f"POST /v1/dead/{change}",
        RouteAnswer(description="How many there were.", model=ChangedJobs),
        query=GroupQuery,
        body=Body(model=Nothing, required=False),
        scope="jobs:write",
        problems=frozenset({409, 422}),
        operation=f"{change}Dead",
        summary=summary,
        description="Those that the key may see and that fit all that is given; requeued are those of its lanes. The"
        " audit names each.",
    )(handle)


_group_change("requeue", "Give dead and unknown jobs another life")
_group_change("discard", "Forget dead and unknown jobs for good")
