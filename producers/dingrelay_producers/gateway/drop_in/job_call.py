"""Runs a call at the door as a job, and waits for its end.

A call that has no answer yet, or whose answer was lost on its way, can be made again: its content and
its key are its idempotency, so it meets the same job: for ten minutes, and for as long as its end is not known. A
call that reads meets it only until it has been answered, and one that was refused is free to be made
anew.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import JobNotFound
from dingrelay_producers.gateway.backend.access import ApiKey
from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.words import Refusal
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.scripts import Script
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import LANES, Contract, ContractError, Lane

ANSWER_WITHIN = 10.0
"""Seconds that a call waits for the end of its job."""

_LANES: tuple[Lane, ...] = ("normal", *LANES)

_BEGIN = Script.load("dingrelay_producers.store", "door_begin")
_END = Script.load("dingrelay_producers.store", "door_end")

_KEPT = {State.DONE, State.DUPLICATE, State.UNKNOWN}
"""Ends after which the effect is there, or may be: the same request is the same call."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what of it goes into jobs.

    Attributes:
        id: what tells its requests from others'.
        sender: of its jobs.
    """

    id: str
    app: str
    lane: Lane
    sender: str

    @property
    def names(self) -> dict[str, Any]:
        """The fields of its jobs that it decides on."""
        return {"app": self.app, "lane": self.lane, "sender": self.sender}


def caller_of(context: GatewayContext, key: ApiKey, agent: object = None) -> Caller:
    """Who calls with a key.

    Args:
        context: with the settings of the apps.
        key: the caller's.
        agent: the agent id that the call names, if it names one: it may choose among apps.

    Raises:
        Refusal: the key is for no lane or for several apps of which none is chosen, or the agent is
            none of its apps'.
    """
    lanes: list[Lane] = [lane for lane in _LANES if key.permits_lane(lane)]
    app = _app(context.settings, key, "" if agent is None else str(agent))
    if not lanes:
        raise Refusal(words.FORBIDDEN)
    return Caller(key.id, app, lanes[0], context.sender_of(key))


def _app(settings: Settings, key: ApiKey, agent: str) -> str:
    known = {name: app.agent_id for name, app in settings.apps.items() if key.permits_app(name)}
    if agent:
        found = [name for name, its_agent in known.items() if its_agent == agent]
        if found:
            return DEFAULT_APP if DEFAULT_APP in found else found[0]
        if any(known.values()):
            raise Refusal(words.AGENT)
    if key.permits_app(DEFAULT_APP):
        return DEFAULT_APP
    if len(key.apps) == 1:
        return next(iter(key.apps))
    raise Refusal(words.FORBIDDEN)


def content_of(call: Incoming) -> list[Any]:
    """What makes two requests the same, beside who makes them."""
    return [call.method, call.path, dict(call.query), call.body]


async def run_job(
    context: GatewayContext, caller: Caller, job: Contract, content: Any, *, reads: bool = False
) -> JobStatus:
    """Enqueue a call as a job, or meet the one of the same call before, and wait for its end.

    Args:
        context: everything that the gateway holds.
        caller: whose call it is.
        job: what the call is, without its names.
        content: JSON that makes two requests the same.
        reads: whether it changes nothing.

    Raises:
        Refusal: it has not ended yet (`words.BUSY`).
        Problem: too many jobs wait.
        ServiceUnavailable: Redis is away.
    """
    digest = hashlib.sha256(canonical_json([caller.id, content]).encode()).hexdigest()
    request = _Request(context, job.model_copy(update=caller.names), digest)
    status = await request.met()
    if _is_over(status):
        status = await request.met(over=True)
    if _is_open(status):
        await request.keep()
    if not status.state.ended:
        raise Refusal(words.BUSY)
    if reads or status.state not in _KEPT:
        await request.give_back()
    return status


def _is_open(status: JobStatus) -> bool:
    """Whether a job goes on, or a person has yet to say what became of it."""
    return not status.state.ended or status.state == State.UNKNOWN


def _is_over(status: JobStatus) -> bool:
    """Whether a job ended so long ago that an equal request is another one."""
    if _is_open(status) or status.settled_at is None:
        return False
    return datetime.now(UTC) - status.settled_at > timedelta(milliseconds=keys.DOOR_REQUEST_TTL_MS)


class _Request:
    """Equal requests of one caller, of which the first one's random name makes them one job."""

    def __init__(self, context: GatewayContext, job: Contract, digest: str) -> None:
        self._context = context
        self._job = job
        self._digest = digest
        self._entry = keys.door_request(digest)
        self._name = ""

    async def met(self, *, over: bool = False) -> JobStatus:
        """The job of these requests, once it has ended or has been waited for.

        Args:
            over: whether that of the present name is another request's by now.

        Raises:
            Refusal: it can't be told, or the call is too large for a job.
            Problem: too many jobs wait.
            ServiceUnavailable: Redis is away.
        """
        context = self._context
        ttl, before = keys.DOOR_REQUEST_TTL_MS, self._name if over else ""
        call = _BEGIN.call([self._entry], [secrets.token_hex(8), ttl, before])
        async with asking():
            found: bytes = await scripts.run_async(context.redis, call)
        self._name = found.decode()
        draft = record.draft(self._job, key=f"door:{self._digest}:{self._name}")
        await context.depths.check(self._job.queue)
        try:
            [accepted] = await context.records.enqueue([draft])
        except ContractError as error:
            raise Refusal(words.invalid(error.field, error.problem)) from None
        if accepted.conflict:
            raise Refusal(words.BUSY)
        if accepted.created:
            context.metrics.jobs.labels(draft.kind, draft.lane).inc()
        await context.ends.wait(draft.id, ANSWER_WITHIN)
        try:
            return await context.records.status(draft.id)
        except JobNotFound:
            raise Refusal(words.BUSY) from None

    async def keep(self) -> None:
        """Let the name live for as long as its job may wait."""
        await self._end(int(self._context.settings.max_age * 1000) + keys.DOOR_REQUEST_TTL_MS)

    async def give_back(self) -> None:
        """Let the next equal request be another one."""
        await self._end(0)

    async def _end(self, ttl_ms: int) -> None:
        # Equal requests may hear of one end at different times: by then the name may be the next's.
        async with asking():
            call = _END.call([self._entry], [self._name, ttl_ms])
            await scripts.run_async(self._context.redis, call)
