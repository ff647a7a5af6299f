"""Runs a call at the door as a job, and waits for its end.

A read is a job of its own, of which nothing is left once it was answered.

Equal changes of one key are one job for as long as the first has no answer, since its program may only have
lost it: until its job has ended and the answer has left over a connection that was still open. After
that they are one for the seconds within which SDKs repeat by themselves, unless the key has changed
something else in between. So a blind retry doubles nothing, and a deliberate repeat makes two.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.client.sending import Sending
from dingrelay_producers.errors import IdempotencyConflict, JobNotFound
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import clock, keys, record
from dingrelay_producers.store.record import Draft, canonical_json
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError, JobStatus
from dingrelay_tasks.contract import LANES, Contract, Lane
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal, RefusalTexts
from dingrelay_workers.gateway.drop_in.incoming import Incoming
from dingrelay_workers.http.api_keys import TARGET, ApiKey
from dingrelay_workers.http.routes import GatewayContext

_OURS = re.compile(r"quota|[a-z]+(?:_[a-z]+)+")
"""Codes of jobs that are words of ours; DingTalk's have capitals or dots."""

LONGEST_CODE = 10
"""Digits of an errcode at most."""

_BY_CLASS: Mapping[str, RefusalTexts] = {
    "permission": answers.FORBIDDEN,
    "quota": answers.QUOTA,
    "throttled": answers.THROTTLED,
    "not_found": answers.NOT_FOUND,
    "permanent": answers.PARAMETER,
    "contract": answers.PARAMETER,
}
"""Refusals by class of error, where DingTalk's own code is unknown or is of the other dialect."""

_OLD_CODES: Mapping[str, RefusalTexts] = {
    "processCodeError": answers.TEMPLATE,
    "820001": answers.TEMPLATE,
    "830001": answers.TEMPLATE,
    "formConverterError": answers.FORM,
    "illegalComponent": answers.FORM,
    "810003": answers.FORM,
    "invalidAgentId": answers.AGENT,
    "40056": answers.AGENT,
}
"""Codes of approvals that both dialects have a word for."""


def verbatim(status: JobStatus, path: str) -> DoorAnswer:
    """The answer to a call that was made as it came: DingTalk's own, where it gave one."""
    if status.state == State.DONE and status.result is not None:
        return DoorAnswer(status.result.get("answer") or {})
    if status.state != State.UNKNOWN and status.error and status.error.answer:
        return DoorAnswer(status.error.answer.body, status.error.answer.status)
    return answers.refused(refusal_of(status), path)


def refusal_of(status: JobStatus) -> RefusalTexts:
    """The refusal for a job that did not end well."""
    error = status.error
    match status.state:
        case State.UNKNOWN:
            return answers.ambiguous(status.id)
        case State.CANCELLED:
            return answers.cancelled(status.id)
        case State.DEAD if error is not None:
            pass
        case _:
            return answers.BUSY
    return _OLD_CODES.get(error.code) or _words_of(error) or answers.BUSY


def _words_of(error: JobError) -> RefusalTexts | None:
    """DingTalk's code as far as it is one of either dialect, with the class's word in the other."""
    if error.error_class == "contract":
        texts = answers.FORM if error.code.startswith("form") else answers.PARAMETER
        return replace(texts, errmsg=f"{texts.errmsg}: {error.message}")
    texts_of_class = _BY_CLASS.get(error.error_class)
    if texts_of_class is None:
        return None
    if error.code.isdecimal() and len(error.code) < LONGEST_CODE:
        return replace(texts_of_class, errcode=int(error.code), errmsg=error.message)
    if _OURS.fullmatch(error.code):
        return replace(texts_of_class, errmsg=error.message)
    return replace(texts_of_class, code=error.code, errmsg=error.message)


ANSWER_WITHIN = 10.0
"""Seconds that a call waits for the end of its job."""
GRACE = 3.0
"""Seconds after the answer in which an SDK that has lost it repeats the call by itself (API §12.15)."""

_LANES: tuple[Lane, ...] = ("normal", *LANES)


@script("dingrelay_workers.gateway.drop_in")
def _begin_door_request(
    *, entry: Key, latest: Key, digest: str, fresh: str, ttl: int, over: str | None
) -> None:
    """`latest` is the latest change of its caller; the name that is `over` holds no more."""


@script("dingrelay_workers.gateway.drop_in")
def _end_door_request(*, entry: Key, name: str, ttl: int, answered: bool) -> None:
    """`ttl` (ms) of 0 gives the name back."""


_ANSWERED = {State.DONE, State.DUPLICATE}
"""Ends that are the answer: an equal change comes from a program that lost it, or means another one."""
_KEPT = {State.UNKNOWN, State.CANCELLED}
"""Ends after which an equal change is not carried out: it may have been, or a person does not want it."""
_REMEMBERED = timedelta(milliseconds=keys.DOOR_REQUEST_TTL_MS)
_KEPT_FOR = timedelta(hours=1)
"""After which it is carried out again: programs retry for less, and an equal message is another day's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, and its part of jobs.

    Attributes:
        context: the one that has its app.
        id: separates its requests from those of others.
        sender: of its jobs.
    """

    context: GatewayContext
    id: str
    app: str
    lane: Lane
    sender: str

    @property
    def names(self) -> dict[str, Any]:
        """The fields of its jobs that it decides on."""
        return {"app": self.app, "lane": self.lane, "sender": self.sender}


def caller_of(context: GatewayContext, key: ApiKey, agent: object = None) -> Caller:
    """The caller with a key.

    Args:
        context: with the settings of the apps.
        key: the caller's.
        agent: the agent id that the call names, if it names one: it may choose among apps.

    Raises:
        Refusal: the key is for no lane or for several apps of which none is chosen, or the agent is
            none of its apps'.
    """
    app = _app(context.settings, key, "" if agent is None else str(agent))
    return caller_for(context, key, app)


def caller_for(context: GatewayContext, key: ApiKey, app: str) -> Caller:
    """The caller with a key whose jobs are of this app.

    Raises:
        Refusal: the key is for no lane.
    """
    lane = next(filter(key.permits_lane, _LANES), None)
    if lane is None:
        raise Refusal(answers.FORBIDDEN)
    return Caller(context, key.id, app, lane, context.sender_of(key))


def _app(settings: Settings, key: ApiKey, agent: str) -> str:
    agents = {name: app.agent_id for name, app in settings.apps.items() if key.permits_app(name)}
    if agent:
        matching_apps = [name for name, its_agent in agents.items() if its_agent == agent]
        if matching_apps:
            return DEFAULT_APP if DEFAULT_APP in matching_apps else matching_apps[0]
        if any(agents.values()):
            raise Refusal(answers.AGENT)
    if key.permits_app(DEFAULT_APP):
        return DEFAULT_APP
    apps = [app for app in key.apps if app != ROBOTS and not TARGET.match(app)]
    if len(apps) == 1:
        return apps[0]
    raise Refusal(answers.FORBIDDEN)


async def run_read(caller: Caller, job: Contract) -> JobStatus:
    """Enqueue a call that reads, and wait for its end. Nothing of it stays in Redis.

    Raises:
        Refusal: it has not ended (`answers.BUSY`), and is not made any more.
        QueueFull: too many jobs wait.
        ServiceUnavailable: Redis is away.
    """
    status = await _run(caller.context, job.model_copy(update=caller.names))
    if not status.state.ended:
        await caller.context.records.give_up(status.id)
        raise Refusal(answers.BUSY)
    await caller.context.records.forget(status.id)
    return status


async def run_change(
    caller: Caller,
    job: Contract,
    call: Incoming,
    content: Any = None,
    *,
    repeatable: bool = False,
    grace: float = GRACE,
) -> JobStatus:
    """Enqueue a call that changes something, or meet the job of an equal one, and wait for its end.

    Args:
        caller: whose call it is.
        job: what the call is, without its names.
        call: as it came; it collects what its answer answers.
        content: JSON that makes two calls equal; that of `call` if None.
        repeatable: whether it may be carried out twice without harm.
        grace: seconds after its answer in which an equal call is the same one.

    Raises:
        Refusal: it has not ended yet (`answers.BUSY`), or the call is too large for a job.
        QueueFull: too many jobs wait.
        ServiceUnavailable: Redis is away.
    """
    content = content or [call.method, call.path, dict(call.query), call.body]
    digest = hashlib.sha256(canonical_json([caller.id, content]).encode()).hexdigest()
    change = ChangingCall(caller, job, digest, grace)
    status = await change.run(repeatable=repeatable)
    if not status.state.ended:
        await change.keep(caller.context.settings.max_age)
    elif status.state in _KEPT:
        await change.keep(_KEPT_FOR.total_seconds())
    elif status.state in _ANSWERED:
        call.changes.append(change)
    else:
        await change.give_back()
    if not status.state.ended:
        raise Refusal(answers.BUSY)
    return status


async def accept(context: GatewayContext, job: Contract, key: str | None = None) -> Draft:
    """Accept a job if it is new.

    Raises:
        Refusal: its key belongs to another one.
        ContractError, QueueFull, ServiceUnavailable: as `Sending.accept`.
    """
    try:
        draft, _ = await context.steps.carry_out(Sending(context.settings).accept(job, key))
    except IdempotencyConflict:
        raise Refusal(answers.BUSY) from None
    return draft


async def _run(context: GatewayContext, job: Contract, key: str | None = None) -> JobStatus:
    """Accept a job if it is new, and wait for its end."""
    draft = await accept(context, job, key)
    await context.ends.wait(draft.id, ANSWER_WITHIN)
    try:
        return await context.records.status(draft.id)
    except JobNotFound:
        raise Refusal(answers.BUSY) from None


class ChangingCall:
    """A request that changes something; a random name that it shares with equal ones makes them one job."""

    def __init__(self, caller: Caller, job: Contract, digest: str, grace: float) -> None:
        self._context = caller.context
        self._job = job.model_copy(update=caller.names)
        self._digest = digest
        self._grace_ms = int(grace * 1000)
        self._keys = keys.door_request(digest), keys.door_latest(caller.id, caller.app)
        self._name = ""
        self._now = clock.now()
        """The time of Redis, once that has answered."""

    async def run(self, *, repeatable: bool) -> JobStatus:
        """The job of these requests, once it has ended or has been waited for.

        Raises:
            Refusal: the outcome is unknown, or the call is too large for a job.
            QueueFull: too many jobs wait.
            ServiceUnavailable: Redis is away.
        """
        passed = await self._begin()
        if passed is not None and await self._is_over(repeatable=repeatable, passed=passed):
            await self._begin(over=True)
        return await _run(self._context, self._job, self._key)

    @property
    def _key(self) -> str:
        return f"door:{self._digest}:{self._name}"

    async def _begin(self, *, over: bool = False) -> bool | None:
        """Take the name that holds.

        Returns:
            Whether its caller has changed something else since it began; None if it is new.
        """
        fresh, (entry, latest) = secrets.token_hex(8), self._keys
        call = _begin_door_request(
            entry=entry,
            latest=latest,
            digest=self._digest,
            fresh=fresh,
            ttl=keys.DOOR_REQUEST_TTL_MS,
            over=self._name if over else None,
        )
        name, passed, now = await self._context.records.run(call)
        self._name = name.decode()
        self._now = datetime.fromtimestamp(int(now), UTC)
        return None if self._name == fresh else bool(passed)

    async def _is_over(self, *, repeatable: bool, passed: bool) -> bool:
        """Whether the present name is an earlier request's, to which this one does not belong."""
        if not self._grace_ms and self._name in self._context.door_answers:
            return True  # its answer has left, and the mark of that is on its way
        try:
            job_id = record.keyed_id(self._job.app, self._job.kind, self._key)
            status = await self._context.records.status(job_id)
        except JobNotFound:
            return False  # the gateway that took the name did not come to write it
        ago = self._now - (status.settled_at or self._now)
        match status.state:
            case State.UNKNOWN | State.CANCELLED:
                return (repeatable and status.state == State.UNKNOWN) or ago > _KEPT_FOR
            case State.DONE | State.DUPLICATE:
                return (repeatable and passed) or ago > _REMEMBERED
            case state:
                return state.ended

    async def keep(self, seconds: float) -> None:
        """Let the name live for as long as its job may wait, or so long after its end."""
        await self._end(int(seconds * 1000) + keys.DOOR_REQUEST_TTL_MS)

    async def give_back(self) -> None:
        """Let the next equal request be another one."""
        await self._end(0)

    async def answered(self) -> None:
        """Say that its answer has left; its client was there."""
        pending = self._context.door_answers
        pending.add(self._name)
        try:
            await self._end(self._grace_ms, answered=True)
        except BaseException:
            # Redis refuses the mark: this gateway knows it for as long as the name lives.
            lives = keys.DOOR_REQUEST_TTL_MS / 1000
            asyncio.get_running_loop().call_later(lives, pending.discard, self._name)
            raise
        pending.discard(self._name)

    async def _end(self, ttl_ms: int, *, answered: bool = False) -> None:
        # Equal requests may see one end at different times: by then the name may be the next's.
        call = _end_door_request(
            entry=self._keys[0], name=self._name, ttl=ttl_ms, answered=answered
        )
        await self._context.records.run(call)
