"""The run of one job: parse → claim → run → settle.

The only place where an error becomes a state; which one is in `outcome.py`. The diagram is in
ARCHITECTURE.md.
"""

import time
from dataclasses import dataclass
from typing import Any

from structlog.contextvars import bound_contextvars
from structlog.stdlib import get_logger

from dingrelay_producers.states import State
from dingrelay_tasks.contract import Contract
from dingrelay_workers import outcome
from dingrelay_workers.caller import Caller
from dingrelay_workers.delivery import Delivery
from dingrelay_workers.dingtalk.calls import Calls
from dingrelay_workers.engine import Engine
from dingrelay_workers.job_context import JobContext
from dingrelay_workers.metrics import JOB_SECONDS, JOBS
from dingrelay_workers.outcome import Outcome
from dingrelay_workers.passenger import Passenger
from dingrelay_workers.records import Claim, Spent
from dingrelay_workers.rides import Likeness, Seat

log = get_logger("dingrelay.jobs")


@dataclass(slots=True)
class Run:
    """One run of one job."""

    delivery: Delivery
    claim: Claim
    engine: Engine
    caller: Caller
    context: JobContext
    contract: Contract | None = None
    """Set once the payload has proved to be one."""


async def execute(delivery: Delivery, engine: Engine) -> Outcome | None:
    """Carry out the job that a wake-up names.

    Returns:
        Where it led; None if there was nothing to do: another worker has the job, it has ended,
        or it is not due.
    """
    # A job that can't be claimed keeps its message, and its place here: while Redis takes nothing,
    # nothing more is taken from the broker.
    taking = await engine.patience.begin(lambda: engine.records.claim(delivery))
    if taking.claim is not None:
        return await carry(delivery, taking.claim, engine)
    log.debug("left", id=delivery.id, verdict=taking.verdict)
    alike = Likeness(taking.waiting, delivery.lane)
    if taking.waiting and engine.rides.idle(alike):
        engine.rides.carry(_stand_in(delivery, taking.waiting, engine), leads=alike)
    return None


async def _stand_in(delivery: Delivery, waiting: str, engine: Engine) -> None:
    """A job was taken along by a call: its wake-up becomes that of one who waits for the next.

    Otherwise a worker would only meet wake-ups of jobs that another one has just taken.
    """
    boarding = await engine.records.board(waiting, nonce=delivery.nonce, room=0, lane=delivery.lane)
    if boarding.next:
        await carry(*boarding.next, engine)


async def carry(
    delivery: Delivery, claim: Claim, engine: Engine, seat: Seat | None = None
) -> Outcome | None:
    """Carry out a job that is claimed.

    Args:
        delivery: what woke it.
        claim: the job.
        engine: carries it.
        seat: kept for it in another job's call.

    Returns:
        Where it led; None if it is another worker's by now.
    """
    names = {"id": claim.id, "kind": delivery.kind.name, "app": claim.app, "lane": claim.lane}
    with bound_contextvars(**names, attempt=claim.attempts + 1), engine.leases.held(claim):
        run = _prepare(delivery, claim, engine, seat)
        try:
            led_to = await _carry_out(run)
        finally:
            if seat:
                seat.leave()
        return await _settle(run, led_to)


def _prepare(delivery: Delivery, claim: Claim, engine: Engine, seat: Seat | None) -> Run:
    caller = Caller(
        claim,
        settings=engine.settings,
        limiter=engine.limiter,
        quota=engine.quota,
        dingtalk=engine.dingtalk,
        records=engine.records,
    )
    notifying: Calls = caller
    if claim.shares:
        notifying = Passenger(
            claim,
            caller,
            rides=engine.rides,
            records=engine.records,
            limiter=engine.limiter,
            carry=lambda delivery, claim, seat: carry(delivery, claim, engine, seat),
            seat=seat,
        )
    context = JobContext(claim, caller, engine, notifying=notifying)
    return Run(delivery, claim, engine, caller, context)


async def _carry_out(run: Run) -> Outcome:
    """Run the body; whatever happens becomes an outcome."""
    settings, claim = run.engine.settings, run.claim
    try:
        run.contract = _contract(run)
        if outcome.is_poison(claim, settings):
            return outcome.poison(claim, open_call=run.caller.open_call)
        if claim.expired:
            return outcome.expired(open_call=run.caller.open_call)
        async with run.engine.deadlines.kept():
            return outcome.done(await run.delivery.kind.run(run.contract, run.context))
    except TimeoutError as error:
        if run.engine.draining:
            return outcome.given_back()
        return outcome.of(error, claim, settings, open_call=run.caller.open_call)
    except Exception as error:  # noqa: BLE001 - the one place where any error becomes a state
        return outcome.of(error, claim, settings, open_call=run.caller.open_call)


def _contract(run: Run) -> Contract:
    """The contract in the record, which is the truth; the message only woke us."""
    if run.delivery.problem and run.claim.payload == run.delivery.job:
        raise run.delivery.problem
    return run.delivery.kind.contract.parse(run.claim.payload)


async def _settle(run: Run, led_to: Outcome) -> Outcome | None:
    """Write the outcome into the record; None if the job is another worker's by now."""
    if led_to.state == State.RUNNING:
        log.info("left", reason=led_to.reason)
        return None
    if led_to.state.ended:
        await _abandon(run, led_to)
    state = await run.engine.patience.finish(lambda: _written(run, led_to))
    _tell(run, led_to, state)
    return led_to if state else None


async def _written(run: Run, led_to: Outcome) -> State | None:
    """The state of the record after; None if the job is another worker's by now."""
    records, claim, caller = run.engine.records, run.claim, run.caller
    spent = Spent(
        attempts=led_to.attempts,
        throttles=led_to.throttles,
        answered=caller.answered,
        steps=caller.finished,
    )
    if led_to.state.ended:
        kept = await records.settle(
            claim, led_to.state, spent=spent, result=led_to.result, error=led_to.error
        )
        return led_to.state if kept else None
    return await records.park(
        claim,
        led_to.state,
        delay=led_to.delay,
        spent=spent,
        error=led_to.error,
        waiting=(claim.waiting or claim.time.at) if led_to.waits_for_limit else 0,
        alone=led_to.alone,
        outage=led_to.outage,
        failures=led_to.failures,
    )


async def _abandon(run: Run, led_to: Outcome) -> None:
    """Give back what a job had reserved that ends undone. It ends all the same if that fails."""
    abandon = run.delivery.kind.abandon
    if abandon is None or run.contract is None:
        return
    if led_to.state in {State.DONE, State.DUPLICATE, State.UNKNOWN}:
        return
    try:
        await abandon(run.contract, run.context)
    except Exception:
        log.exception("abandon_failed")


def _tell(run: Run, led_to: Outcome, state: State | None) -> None:
    """One line and one count for where the run led."""
    if state is None:
        log.warning("lease_lost", led_to=led_to.state)
        return
    kind, lane = run.delivery.kind.name, run.claim.lane
    JOBS.labels(kind, lane, state).inc()
    words: dict[str, Any] = {"reason": led_to.reason} if led_to.reason else {}
    if state.ended:
        JOB_SECONDS.labels(kind, lane).observe(max(0.0, time.time() - run.claim.created / 1000))
    else:
        words["delay"] = round(led_to.delay, 3)
    tell = log.warning if state in {State.DEAD, State.UNKNOWN} else log.info
    tell(str(state), **words)
