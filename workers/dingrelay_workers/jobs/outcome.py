"""Results of a job's run: the table from errors to states."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store.record import CANCELLED_TOO_LATE
from dingrelay_producers.store.states import OwnershipLost, State
from dingrelay_tasks.contract import ContractError, Json
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.outcomes import Duplicate, Refused, Unknown, Wait, Withdrawn
from dingrelay_tasks.sentence import en
from dingrelay_workers.calls.errors import BatchSplit, Cancelled, Expired
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    Final,
    Held,
    QuotaExhausted,
    Throttled,
    Transient,
    redact,
)
from dingrelay_workers.limiter.slot import Draining, Outage, Parked, Turn
from dingrelay_workers.store.records import Claim

REDIS_PAUSE = 2.0
"""Seconds before a job that Redis failed is looked at again."""
DATABASE_PAUSE = 5.0
"""The same for the database: what writes to it is in less of a hurry."""
QUOTA_PAUSE = 60.0
"""Seconds between two looks at the month's calls by a job whose call has no answer."""

OUTAGE_DELAY = 3600.0
"""Seconds after which a job that waits for the end of an outage is looked at in any case."""
RETRY_BASE = 1.0
"""Seconds before the second attempt."""
RETRY_CAP = 600.0
"""Seconds before any attempt at most."""
AWAITED_CAP = 30.0
"""The same where much waits for one answer of DingTalk's."""
RETRY_JITTER = 0.25
"""Share of a pause that is random, so that jobs that failed together come apart."""
OUTAGE_HINT = en("Requeue it once DingTalk answers again.")
GIVEN_UP_HINT = en("Requeue it once the cause has passed.")

log = get_logger("dingrelay.jobs")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run.

    Attributes:
        state: an end, or a state in which the job waits; `running` if the job is another worker's.
        reason: one short phrase for Flower and the log.
        delay: seconds until it is looked at again, for a state in which it waits.
        attempts: attempts made; a figure, which ends no job.
        throttles: throttling answers met.
        waits_for_limit: it waits for a limit; its age counts when it comes back.
        turn: that of its sender for which it waits, if it does.
        outage: where it waits for the end of an outage; empty if it does not.
        alone: it shares no call any more.
    """

    state: State
    reason: str = ""
    delay: float = 0.0
    attempts: int = 0
    throttles: int = 0
    result: Json | None = None
    error: Json | None = None
    waits_for_limit: bool = False
    turn: Turn | None = None
    outage: str = ""
    alone: bool = False


def done(result: Json) -> Outcome:
    """The body returned."""
    return Outcome(State.DONE, attempts=1, result=result)


def expired(*, open_call: bool) -> Outcome:
    """The job's time was over before it ran; an earlier call of it may have been carried out."""
    if open_call:
        return _unknown("expired", "past its expires_at; an earlier call may have been carried out")
    return Outcome(State.EXPIRED, reason="past its expires_at")


def given_back() -> Outcome:
    """The worker stops; another one takes the job at once."""
    return Outcome(State.QUEUED, reason="the worker stops")


MAX_THROTTLES = 200
"""Throttled answers before a job is dead: hours of them, with their pauses."""
MAX_CRASHES = 3
"""Workers that a job may take down before it is dead as poison: two may be by chance."""
LOSSES_OF_A_CRASH = 3
"""Workers that vanish while a job has no call under way show as much as one during its call: most
of the jobs that a worker holds only wait for their limit when another one takes it down."""


ONCE_A_DAY = en(
    "DingTalk gives a person the same text once a day, and 500 messages of an app: change the text, or send it"
    " tomorrow. With --allow-duplicate (`allow_duplicate`) it is sent all the same, and DingTalk may drop it."
)


def is_poison(claim: Claim) -> bool:
    """Whether the job has taken down as many workers as it may."""
    return claim.crashes + claim.losses // LOSSES_OF_A_CRASH >= MAX_CRASHES


def poison(claim: Claim, *, open_call: bool) -> Outcome:
    """The job is not given to one more worker; its last call may have been carried out."""
    reason = en("took down {} workers", claim.crashes + claim.losses)
    if open_call:
        return _unknown("crashed", en("{}; its last call may have been carried out", reason))
    return _dead("poison", "crashed", reason, "See the workers' logs before you requeue it.")


def of(error: Exception, claim: Claim, settings: Settings, *, open_call: bool) -> Outcome:
    """Maps an error to the outcome of the run.

    Args:
        error: what ended the run.
        claim: the job as it was before the run.
        settings: how long it may be tried.
        open_call: a call of the job left and has no answer.
    """
    if isinstance(error, Expired):
        return expired(open_call=open_call)
    led_to = (
        _ended_by_body(error)
        or _ended_by_machinery(error, claim, settings)
        or _ended_by_call(error, claim, settings, open_call=open_call)
    )
    if open_call and isinstance(error, QuotaExhausted) and claim.age < settings.max_age:
        # The body knows until when the call may be repeated or looked for, and calls may be bought.
        led_to = Outcome(State.SNOOZED, reason=str(error), delay=QUOTA_PAUSE, error=_error(error))
    elif open_call and isinstance(error, Final) and (error.of_read or error.unsent):
        # A look-up or a token that is refused says nothing about the call, and an administrator may permit it.
        led_to = _retry_or_give_up(error, claim, settings)
    if open_call and led_to.state == State.DEAD and led_to.error:
        # The error that ends it says nothing about the call that has no answer.
        failure = led_to.error
        return _unknown(failure["code"], failure["message"], attempts=led_to.attempts)
    return led_to


def _ended_by_body(error: Exception) -> Outcome | None:
    match error:
        case ContractError():
            hint = en("Correct the job and enqueue it again.")
            return _dead("contract", error.field, str(error), hint)
        case Wait():
            return Outcome(State.SNOOZED, reason=error.reason, delay=error.delay.total_seconds())
        case Refused():
            return _dead("refused", error.code, error.reason, error.hint)
        case Unknown():
            return _unknown("unknown", error.reason, candidates=error.candidates)
        case Withdrawn():
            return Outcome(State.CANCELLED, reason=str(error))
        case Duplicate():
            ended = _job_error("duplicate", "duplicate", str(error), ONCE_A_DAY)
            return Outcome(
                State.DUPLICATE, reason=str(error), attempts=1, result=error.result, error=ended
            )
        case _:
            return None


def _ended_by_machinery(error: Exception, claim: Claim, settings: Settings) -> Outcome | None:
    match error:
        case Parked():
            return Outcome(
                State.SNOOZED,
                reason=error.reason,
                delay=error.due_in,
                waits_for_limit=True,
                turn=error.turn,
            )
        case Outage():
            transient = Transient(error.kind, error.reason)
            return _waits(transient, error.name, claim, settings)
        case Draining():
            return given_back()
        case BatchSplit():
            return Outcome(State.QUEUED, reason=str(error), alone=True)
        case Cancelled():
            # Parking ends a job that was asked to be cancelled.
            return Outcome(State.SNOOZED, reason="cancelled while it waited")
        case OwnershipLost():
            return Outcome(State.RUNNING, reason="another worker owns the job")
        case RedisError():
            # Ours to bear, not the job's: it does not count.
            reason = en("Redis was away ({})", type(error).__name__)
            return Outcome(State.RETRYING, reason=reason, delay=REDIS_PAUSE)
        case _ if _is_database_away(error):
            reason = en("the database was away ({})", type(error).__name__)
            return Outcome(State.RETRYING, reason=reason, delay=DATABASE_PAUSE)
        case SettingsError():
            return _dead("settings", "settings", str(error), "Configure it, then requeue the job.")
        case _:
            return None


def _is_database_away(error: Exception) -> bool:
    """Whether the database is unavailable, which is not the job's fault.

    PostgreSQL reports by an `InternalError` that it takes no writes, as a standby or on a full
    disk. SQLAlchemy is large and loaded by the first job that needs it: no other meets its errors.
    """
    errors = sys.modules.get("sqlalchemy.exc")
    return errors is not None and isinstance(
        error,
        (
            errors.OperationalError,
            errors.InterfaceError,
            errors.InternalError,
            errors.TimeoutError,
        ),
    )


def _ended_by_call(
    error: Exception, claim: Claim, settings: Settings, *, open_call: bool
) -> Outcome:
    if isinstance(error, DingTalkError) and error.outage:
        return _waits(error, error.outage, claim, settings)
    match error:
        case Throttled():
            throttles = claim.throttles + 1
            if throttles > MAX_THROTTLES:
                return _given_up(error, throttles=1)
            return _throttled(error)
        case Ambiguous() | Transient():
            return _retry_or_give_up(error, claim, settings, cap=_cap(claim, open_call=open_call))
        case Held() if error.verbatim:
            # Only this call is refused, as far as is known; a hold is waited for (above).
            return _given_up(error)
        case Held():
            # Redis was away when the hold was to be reported to the fleet.
            return Outcome(
                State.RETRYING, reason=str(error), delay=REDIS_PAUSE, error=_error(error)
            )
        case DingTalkError():
            return _given_up(error)
        case TimeoutError():
            late = Transient("job_timeout", en("ran longer than {:g} s", settings.job_timeout))
            return _retry_or_give_up(late, claim, settings)
        case _:
            log.error("job_error", error=type(error).__name__, exc_info=error)
            bug = Transient("internal", redact(f"{type(error).__name__}: {error}"))
            return _retry_or_give_up(bug, claim, settings)


def _throttled(error: Throttled) -> Outcome:
    return Outcome(
        State.SNOOZED,
        reason=en("throttled by DingTalk: {}", error.code),
        delay=error.pause,
        throttles=1,
        error=_error(error),
        waits_for_limit=True,
    )


def _retry_or_give_up(
    error: DingTalkError, claim: Claim, settings: Settings, *, cap: float = RETRY_CAP
) -> Outcome:
    """The job is tried again, unless that has gone on for too long."""
    remaining_seconds = settings.retry_for - claim.retried
    if remaining_seconds <= 0:
        reason = en("failed for {:.3g} h: {}", claim.retried / 3600, error.message)
        given_up = {**_error(error), "message": reason, "hint": GIVEN_UP_HINT}
        return Outcome(State.DEAD, reason=reason, attempts=1, error=given_up)
    return Outcome(
        State.RETRYING,
        reason=str(error),
        delay=min(remaining_seconds, backoff(claim.failures, cap)),
        attempts=1,
        error=_error(error),
    )


def _cap(claim: Claim, *, open_call: bool) -> float:
    """The longest pause before the next attempt.

    A breaker opens at five sick answers without a sane one in between, and then probes pace the attempts. So
    where none is open the API answers others, or did within the ten minutes for which such answers are counted.
    """
    kind = KINDS.get(claim.kind)
    looks_up = open_call and kind is not None and bool(kind.changing_step)
    return AWAITED_CAP if looks_up or (kind is not None and kind.awaited) else RETRY_CAP


# 1, 2, 4, 8, 16, 32, 64, 128, 256, 512 s, then 10 min each; up to a quarter less by chance. The eighth failure in a
# row comes about two minutes after the first. Where much waits for the answer: 1, 2, 4, 8, 16 s, then 30 s each.
def backoff(failures: int, cap: float = RETRY_CAP) -> float:
    """Seconds before the next attempt.

    Args:
        failures: attempts that failed in a row before this one.
        cap: seconds at most.
    """
    pause = min(cap, RETRY_BASE * 2.0 ** min(failures, 10))
    return pause * random.uniform(1 - RETRY_JITTER, 1)


def _waits(error: DingTalkError, outage: str, claim: Claim, settings: Settings) -> Outcome:
    """The job waits for the end of an outage, after which its failures count from nothing."""
    if claim.age >= settings.max_age:
        waited = en("waited {:.3g} h in vain: {}", claim.age / 3600, error.message)
        return _dead("outage", error.code, waited, error.hint or OUTAGE_HINT)
    return Outcome(
        State.SNOOZED,
        reason=error.message,
        delay=OUTAGE_DELAY,
        waits_for_limit=True,
        outage=outage,
        error=_error(error),
    )


def _given_up(error: DingTalkError, *, throttles: int = 0) -> Outcome:
    """The job is not tried again."""
    return Outcome(
        State.DEAD, reason=str(error), attempts=1, throttles=throttles, error=_error(error)
    )


def _dead(error_class: str, code: str, message: str, hint: str) -> Outcome:
    error = _job_error(error_class, code, message, hint)
    return Outcome(State.DEAD, reason=message, attempts=1, error=error)


def _job_error(error_class: str, code: str, message: str, hint: str) -> Json:
    return {"class": error_class, "code": code, "message": message, "hint": hint}


def _unknown(
    code: str, message: str, *, attempts: int = 0, candidates: Sequence[Json] = ()
) -> Outcome:
    error = _job_error("unknown", code, message, CANCELLED_TOO_LATE["hint"])
    if candidates:
        error["candidates"] = list(candidates)
    return Outcome(State.UNKNOWN, reason=message, attempts=attempts, error=error)


def _error(error: DingTalkError) -> Json:
    document = _job_error(error.name, error.code, error.message, error.hint)
    if error.verbatim is not None:
        document["answer"] = error.verbatim
    return document
