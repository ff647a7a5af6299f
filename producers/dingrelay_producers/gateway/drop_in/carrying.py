"""Carries a call at the door as a job, and waits for its end.

A call that has no answer yet, or whose answer was lost on its way, can be made again: its content and
its key are its idempotency for ten minutes, so it meets the same job. A call that reads meets it only
until it has been answered, and one that was refused is free to be made anew.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dingrelay_producers.errors import JobNotFound
from dingrelay_producers.gateway.access import ApiKey
from dingrelay_producers.gateway.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.words import Answer, Refusal, Words
from dingrelay_producers.gateway.records import asking
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError, JobStatus
from dingrelay_tasks.contract import LANES, Contract, Lane

ANSWER_WITHIN = 10.0
"""Seconds that a call waits for the end of its job."""

_LANES: tuple[Lane, ...] = ("normal", *LANES)

_OURS = re.compile(r"quota|[a-z]+(?:_[a-z]+)+")
"""Codes of jobs that are words of ours; DingTalk's have capitals or dots."""

LONGEST_CODE = 10
"""Digits of an errcode at most."""

_KEPT = {State.DONE, State.DUPLICATE, State.UNKNOWN}
"""Ends after which the effect is there, or may be: the same request is the same call."""

_BY_CLASS: Mapping[str, Words] = {
    "permission": words.FORBIDDEN,
    "quota": words.QUOTA,
    "throttled": words.THROTTLED,
    "not_found": words.NOT_FOUND,
    "permanent": words.PARAMETER,
    "contract": words.PARAMETER,
}
"""What a job ended by, where DingTalk's own words are not known or are of the other dialect."""

_OLD_CODES: Mapping[str, Words] = {
    "processCodeError": words.TEMPLATE,
    "820001": words.TEMPLATE,
    "830001": words.TEMPLATE,
    "formConverterError": words.FORM,
    "illegalComponent": words.FORM,
    "810003": words.FORM,
    "invalidAgentId": words.AGENT,
    "40056": words.AGENT,
}
"""Codes of approvals that both dialects have a word for."""


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


async def carried(
    context: GatewayContext, caller: Caller, job: Contract, content: Any, *, reads: bool = False
) -> JobStatus:
    """A job that has ended.

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
        job.model_copy(update=caller.names), key=f"door:{digest}:{await _meeting(context, entry)}"
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


async def _meeting(context: GatewayContext, entry: str) -> str:
    """What the jobs of equal requests have in common: the first of them chose it at random."""
    async with asking():
        pipe = context.redis.pipeline(transaction=True)
        pipe.set(entry, secrets.token_hex(8), nx=True, px=keys.DOOR_REQUEST_TTL_MS)
        pipe.get(entry)
        _, found = await pipe.execute()
    return found if isinstance(found, str) else found.decode()


def verbatim(status: JobStatus, path: str) -> Answer:
    """The answer to a call that was made as it came: DingTalk's own, where it gave one."""
    if status.state == State.DONE and status.result is not None:
        return Answer(status.result.get("answer") or {})
    if status.state != State.UNKNOWN and status.error and status.error.answer:
        return Answer(status.error.answer.body, status.error.answer.status)
    return words.refused(refusal_of(status), path)


def refusal_of(status: JobStatus) -> Words:
    """What to say of a job that did not end well."""
    error = status.error
    if status.state != State.DEAD or error is None:
        return words.BUSY
    return _OLD_CODES.get(error.code) or _told(error) or words.BUSY


def _told(error: JobError) -> Words | None:
    """DingTalk's code as far as it is one of either dialect, with the class's word in the other."""
    if error.error_class == "contract":
        found = words.FORM if error.code.startswith("form") else words.PARAMETER
        return replace(found, errmsg=f"{found.errmsg}: {error.message}")
    meant = _BY_CLASS.get(error.error_class)
    if meant is None:
        return None
    if error.code.isdecimal() and len(error.code) < LONGEST_CODE:
        return replace(meant, errcode=int(error.code), errmsg=error.message)
    if _OURS.fullmatch(error.code):
        return replace(meant, errmsg=error.message)
    return replace(meant, code=error.code, errmsg=error.message)
