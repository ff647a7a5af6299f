"""The run of one job: parse → claim → run → settle.

The only place that turns an error into a state. The diagram is in ARCHITECTURE.md.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars
from structlog.stdlib import get_logger

from dingrelay_producers.states import State
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.kinds import Kind
from dingrelay_tasks.outcomes import Duplicate, Refused, Unknown, Wait
from dingrelay_workers import retry
from dingrelay_workers.caller import Caller, OwnershipLost
from dingrelay_workers.delivery import Delivery
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError, Throttled, Transient
from dingrelay_workers.dingtalk.redact import redact
from dingrelay_workers.engine import Engine
from dingrelay_workers.job_context import JobContext
from dingrelay_workers.limiter.limiter import Draining, Parked
from dingrelay_workers.metrics import JOB_SECONDS, JOBS
from dingrelay_workers.records import Claim, Spent

Json = dict[str, Any]

REDIS_PAUSE = 2.0
"""Seconds before a job that Redis failed is looked at again."""

log = get_logger("dingrelay.jobs")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a run leads.

    Attributes:
        state: an end, or a state in which the job waits.
        delay: seconds until it is looked at again, for a state in which it waits.
        reason: one short phrase for Flower and the log.
        attempts: attempts spent.
        throttles: throttling answers met.
        waits_for_limit: it waits for a limit; its age counts when it comes back.
    """

    state: State
    reason: str = ""
    delay: float = 0.0
    attempts: int = 0
    throttles: int = 0
    result: Json | None = None
    error: Json | None = None
    waits_for_limit: bool = False


@dataclass(slots=True)
class Run:
    """One run of one job: what it was given and what it found out on the way."""

    delivery: Delivery
    claim: Claim
    engine: Engine
    caller: Caller
    contract: Contract | None = field(default=None)

    @property
    def kind(self) -> Kind:
        """The job's kind."""
        return self.delivery.kind

    @property
    def context(self) -> JobContext:
        """The body's view of the machinery."""
        return JobContext(self.claim, self.caller, self.engine)


async def execute(delivery: Delivery, engine: Engine) -> Outcome | None:
    """Carry out the job that a wake-up names.

    Returns:
        Where it led; None if there was nothing to do: another worker has the job, it has ended,
        or it is not due.
    """
    verdict, claim = await engine.records.claim(delivery)
    if claim is None:
        log.debug("left", id=delivery.id, verdict=verdict)
        return None
    names = {"id": claim.id, "kind": delivery.kind.name, "app": claim.app, "lane": claim.lane}
    with bound_contextvars(**names, attempt=claim.attempts + 1), engine.leases.held(claim):
        run = Run(delivery, claim, engine, _caller(claim, engine))
        outcome = await _outcome(run)
        return await _settle(run, outcome)


def _caller(claim: Claim, engine: Engine) -> Caller:
    return Caller(
        claim,
        settings=engine.settings,
        limiter=engine.limiter,
        quota=engine.quota,
        dingtalk=engine.dingtalk,
        records=engine.records,
    )


async def _outcome(run: Run) -> Outcome:
    """Run the body; whatever happens becomes an outcome."""
    try:
        run.contract = _contract(run)
        if run.claim.crashes >= run.engine.settings.max_deliveries:
            return _poison(run.claim)
        if run.claim.expires and run.claim.expires <= time.time() * 1000:
            return Outcome(State.EXPIRED, reason="past its expires_at")
        async with asyncio.timeout(run.engine.settings.job_timeout):
            result = await run.kind.run(run.contract, run.context)
    except asyncio.CancelledError:
        if not run.engine.draining:
            raise  # the lease went to another worker
        return Outcome(State.QUEUED, reason="the worker stops")
    except Exception as error:  # noqa: BLE001 - the one place where any error becomes a state
        return _outcome_of(error, run)
    return Outcome(State.DONE, attempts=1, result=result)


def _contract(run: Run) -> Contract:
    """The contract in the record, which is the truth; the message only woke us."""
    if run.delivery.problem and run.claim.payload == run.delivery.job:
        raise run.delivery.problem
    return run.kind.contract.parse(run.claim.payload)


def _outcome_of(error: Exception, run: Run) -> Outcome:
    """The table from errors to states."""
    match error:
        case ContractError():
            return _dead(
                "contract", error.field, str(error), "Correct the job and enqueue it again."
            )
        case Wait():
            return Outcome(State.SNOOZED, reason=error.reason, delay=error.delay.total_seconds())
        case Parked():
            return Outcome(
                State.SNOOZED, reason=error.reason, delay=error.due_in, waits_for_limit=True
            )
        case Draining():
            return Outcome(
                State.QUEUED, reason="the worker stops", waits_for_limit=run.claim.waiting > 0
            )
        case Refused():
            return _dead("refused", error.code, error.reason, error.hint)
        case Unknown():
            return _unknown("unknown", error.reason)
        case Duplicate():
            return Outcome(State.DUPLICATE, reason=str(error), attempts=1, result=error.result)
        case Throttled():
            return _throttled(error, run)
        case Ambiguous() | Transient():
            return _failed(error, run)
        case DingTalkError():
            return _given_up(error, run)
        case TimeoutError():
            late = f"ran longer than {run.engine.settings.job_timeout:g} s"
            return _failed(Transient("job_timeout", late), run)
        case RedisError():
            # Ours to bear, not the job's: no attempt is spent.
            reason = f"Redis was away ({type(error).__name__})"
            return Outcome(State.RETRYING, reason=reason, delay=REDIS_PAUSE)
        case OwnershipLost():
            return Outcome(State.RUNNING, reason="another worker owns the job")
        case _:
            log.exception("job_error", error=type(error).__name__)
            bug = Transient("internal", redact(f"{type(error).__name__}: {error}"))
            return _failed(bug, run)


def _throttled(error: Throttled, run: Run) -> Outcome:
    if run.claim.throttles + 1 > run.engine.settings.max_throttles:
        return _given_up(error, run, throttles=1)
    return Outcome(
        State.SNOOZED,
        reason=f"throttled by DingTalk: {error.code}",
        delay=error.pause,
        throttles=1,
        error=_error(error),
        waits_for_limit=True,
    )


def _failed(error: DingTalkError, run: Run) -> Outcome:
    """An attempt is spent, and the job tried again while there are attempts left."""
    spent = run.claim.attempts + 1
    most = run.engine.settings.max_attempts
    if isinstance(error, Transient) and error.max_attempts:
        most = min(most, error.max_attempts)
    if spent >= most:
        return _given_up(error, run)
    return Outcome(
        State.RETRYING,
        reason=str(error),
        delay=retry.backoff(spent),
        attempts=1,
        error=_error(error),
    )


def _given_up(error: DingTalkError, run: Run, *, throttles: int = 0) -> Outcome:
    """The job is not tried again: dead, or unknown while a call of it has no answer."""
    if run.caller.open_call:
        return _unknown(error.code, error.message, attempts=1)
    return Outcome(
        State.DEAD, reason=str(error), attempts=1, throttles=throttles, error=_error(error)
    )


def _dead(error_class: str, code: str, message: str, hint: str) -> Outcome:
    error = {"class": error_class, "code": code, "message": message, "hint": hint}
    return Outcome(State.DEAD, reason=message, attempts=1, error=error)


def _poison(claim: Claim) -> Outcome:
    return _dead(
        "poison",
        "crashed",
        f"took down {claim.crashes} workers",
        "See the workers' logs before you requeue it.",
    )


def _unknown(code: str, message: str, *, attempts: int = 0) -> Outcome:
    error = {
        "class": "unknown",
        "code": code,
        "message": message,
        "hint": "Look in DingTalk whether it happened: discard the job if so, requeue it if not.",
    }
    return Outcome(State.UNKNOWN, reason=message, attempts=attempts, error=error)


def _error(error: DingTalkError) -> Json:
    return {
        "class": error.name,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
    }


async def _settle(run: Run, outcome: Outcome) -> Outcome | None:
    """Write the outcome into the record, and undo what a job reserved that will not run again."""
    if outcome.state == State.RUNNING:
        log.info("left", reason=outcome.reason)
        return None
    records, claim = run.engine.records, run.claim
    spent = Spent(
        attempts=outcome.attempts,
        throttles=outcome.throttles,
        answered=run.caller.answered,
        steps=run.caller.finished,
    )
    if outcome.state.ended:
        await _abandon(run, outcome)
        kept = await records.settle(
            claim, outcome.state, spent=spent, result=outcome.result, error=outcome.error
        )
        state = outcome.state if kept else None
    else:
        waiting = claim.waiting or int(time.time() * 1000) if outcome.waits_for_limit else 0
        state = await records.park(
            claim,
            outcome.state,
            delay=outcome.delay,
            spent=spent,
            error=outcome.error,
            waiting=waiting,
        )
    _tell(run, outcome, state)
    return outcome if state else None


async def _abandon(run: Run, outcome: Outcome) -> None:
    """Give back what a job that ends early had reserved. It ends all the same if that fails."""
    abandon = run.kind.abandon
    if abandon is None or run.contract is None:
        return
    if outcome.state in {State.DONE, State.DUPLICATE, State.UNKNOWN}:
        return
    try:
        await abandon(run.contract, run.context)
    except Exception:
        log.exception("abandon_failed")


def _tell(run: Run, outcome: Outcome, state: State | None) -> None:
    """One line and one count for where the run led."""
    if state is None:
        log.warning("lease_lost", led_to=outcome.state)
        return
    kind, lane = run.kind.name, run.claim.lane
    JOBS.labels(kind, lane, state).inc()
    if state.ended:
        JOB_SECONDS.labels(kind, lane).observe(max(0.0, time.time() - run.claim.created / 1000))
    words: Json = {"reason": outcome.reason} if outcome.reason else {}
    if not state.ended:
        words["delay"] = round(outcome.delay, 3)
    tell = log.warning if state in {State.DEAD, State.UNKNOWN} else log.info
    tell(str(state), **words)
