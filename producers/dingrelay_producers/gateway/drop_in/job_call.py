"""Runs a call at the door as a job, and waits for its end.

A call that has no answer yet, or whose answer was lost on its way, can be made again: its content and
its key are its idempotency for ten minutes, so it meets the same job. A call that reads meets it only
until it has been answered, and one that was refused is free to be made anew.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from dingrelay_producers.errors import JobNotFound
from dingrelay_producers.gateway.backend.access import ApiKey
from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.backend.records import asking
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.words import Refusal
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import LANES, Contract, Lane

ANSWER_WITHIN = 10.0
"""Seconds that a call waits for the end of its job."""

_LANES: tuple[Lane, ...] = ("normal", *LANES)

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
    entry = keys.door_request(digest)
    draft = record.draft(
        job.model_copy(update=caller.names),
        key=f"door:{digest}:{await _first_request(context, entry)}",
    )
    await context.depths.check(job.queue)
    [accepted] = await context.records.enqueue([draft])
    if accepted.conflict:
        raise Refusal(words.BUSY)
    if accepted.created:
        context.metrics.jobs.labels(draft.kind, draft.lane).inc()
    await context.ends.wait(draft.id, ANSWER_WITHIN)
    try:
        status = await context.records.status(draft.id)
    except JobNotFound:
        raise Refusal(words.BUSY) from None
    if not status.state.ended:
        raise Refusal(words.BUSY)
    if reads or status.state not in _KEPT:
        async with asking():
            await context.redis.delete(entry)
    return status


async def _first_request(context: GatewayContext, entry: str) -> str:
    """The random id of the first of equal requests: what makes them one job."""
    async with asking():
        pipe = context.redis.pipeline(transaction=True)
        pipe.set(entry, secrets.token_hex(8), nx=True, px=keys.DOOR_REQUEST_TTL_MS)
        pipe.get(entry)
        _, found = await pipe.execute()
    return found if isinstance(found, str) else found.decode()
