"""The run of one job: parse → claim → run → complete.

The only place where an error becomes a state; which one is in `outcome.py`. The diagram is in
ARCHITECTURE.md.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any, Self

from opentelemetry.trace import Span
from structlog.contextvars import bound_contextvars
from structlog.stdlib import get_logger

from dingrelay_producers.store.states import State
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.kinds import KINDS, Kind
from dingrelay_workers.calls.batch import BatchKey, BatchMember
from dingrelay_workers.calls.registry import ClaimedRun
from dingrelay_workers.jobs import outcome
from dingrelay_workers.jobs.context import JobContext
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.metrics import JOB_SECONDS, JOBS
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.records import Claim, Usage
from dingrelay_workers.store.wakeup import ReceivedWakeup

FAILED = frozenset({State.DEAD, State.UNKNOWN})
"""Ends that need attention. A run after which the job waits has not failed."""


def run_span(kind: Kind, claim: Claim) -> AbstractContextManager[Span]:
    """Span around a run. Its calls are part of the trace, and so are the jobs that it enqueues."""
    return spans.span(
        f"process {kind.task}",
        "CONSUMER",
        parent=claim.trace,
        attributes=lambda: _of_job(kind, claim),
    )


def end_span(span: Span, outcome: Outcome, state: State | None) -> None:
    """Record the result of the run: the job's state, or None if it is another worker's by now.

    A reason is not recorded: it may be DingTalk's sentence about a person.
    """
    if not span.is_recording():
        return
    attributes: dict[str, str | int | float | bool] = {"dingrelay.state": str(state or "lost")}
    error = outcome.error or {}
    if error and state is not None:
        attributes["dingrelay.error.code"] = str(error.get("code", ""))
        attributes[spans.ERROR_TYPE] = str(error.get("class", ""))
    if state is not None and not state.ended:
        attributes["dingrelay.delay"] = round(outcome.delay, 3)
    span.set_attributes(attributes)
    if state in FAILED:
        spans.fail(span, str(error.get("class") or state))


def _of_job(kind: Kind, claim: Claim) -> Attributes:
    return {
        "messaging.system": "dingrelay",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": claim.queue,
        "messaging.message.id": claim.id,
        "dingrelay.kind": kind.name,
        "dingrelay.app": claim.app,
        "dingrelay.lane": claim.lane,
        "dingrelay.attempt": claim.attempts + 1,
    }


LOOK_AGAIN = 0.1
"""Seconds after which a worker that stops looks whether jobs are still being claimed for batches."""

log = get_logger("dingrelay.jobs")


class Observer:
    """Notified of each run of a job that this process has claimed; it neither waits nor fails."""

    def began(self, kind: Kind, claim: Claim) -> None:
        """A run has begun."""

    def ended(
        self, kind: Kind, claim: Claim, outcome: Outcome, state: State, seconds: float
    ) -> None:
        """A run has ended, and that is written.

        Args:
            kind: of the job.
            claim: the job.
            outcome: where the run led.
            state: the job's state by now; `cancelled` where that was asked for while it ran.
            seconds: how long the run took.
        """


class Executor:
    """Runs jobs on the loop of its resources: those that wake-ups name, and those that batches claim.

    Use as an async context, within that of the resources.

    Args:
        resources: everything that the process holds.
        observer: notified of each run.
    """

    def __init__(self, resources: Resources, observer: Observer | None = None) -> None:
        self.resources = resources
        self._observer = observer or Observer()
        self._runs: set[asyncio.Task[object]] = set()
        self._left = False

    async def __aenter__(self) -> Self:
        self._taking = asyncio.get_running_loop().create_task(self._run_claimed())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.resources.drain()
        await self._finish()
        self._taking.cancel()
        await asyncio.gather(self._taking, return_exceptions=True)

    async def execute(self, wakeup: ReceivedWakeup) -> Outcome | None:
        """Run the job that a wake-up names.

        Returns:
            Where it led; None if there was nothing to do: another worker has the job, it has ended,
            it is not due, or is left to a newer release.
        """
        resources = self.resources
        # A job that can't be claimed keeps its message, and its place here: while Redis takes
        # nothing, nothing more is taken from the broker.
        result = await resources.redis_retry.begin(lambda: resources.records.claim(wakeup))
        if (claim := result.claim) is not None:
            # Two tasks of a client without our package may have one id: then it is the other one's.
            problem = wakeup.problem if claim.payload == wakeup.job else None
            return await self._run_job(claim, problem=problem)
        log.debug("claim_skipped", id=wakeup.id, verdict=result.verdict)
        if result.verdict == "newer":
            self._log_left(wakeup.id, wakeup.kind.name)
        if result.waiting:
            resources.batches.claim_next(BatchKey(result.waiting, wakeup.lane))
        return None

    async def leave(self, job_id: str, kind: str) -> None:
        """Have a job woken again, for a worker of a newer release: this one does not know its kind."""
        await self.resources.redis_retry.begin(lambda: self.resources.records.leave(job_id))
        self._log_left(job_id, kind)

    def _log_left(self, job_id: str, kind: str) -> None:
        """One line for all such jobs: this worker needs an upgrade."""
        if not self._left:
            log.warning("left_to_newer_release", id=job_id, kind=kind)
        self._left = True

    async def _run_job(
        self,
        claim: Claim,
        member: BatchMember | None = None,
        *,
        problem: ContractError | None = None,
    ) -> Outcome | None:
        """Run a job that is claimed.

        Args:
            claim: the job.
            member: kept for it in the batch that claimed it.
            problem: what is wrong with the message that is all there is of the job.

        Returns:
            Where it led; None if it is another worker's by now.
        """
        kind = KINDS[claim.kind]
        names = {"id": claim.id, "kind": claim.kind, "app": claim.app, "lane": claim.lane}
        leases = self.resources.leases
        with (
            run_span(kind, claim) as span,
            bound_contextvars(**names, attempt=claim.attempts + 1, **spans.ids()),
            leases.held(claim),
        ):
            began = time.monotonic()
            self._observer.began(kind, claim)
            run = JobContext(kind, claim, self.resources, member)
            try:
                led_to = await self._run_body(run, problem)
            finally:
                if member:
                    member.leave()
            state = await self._complete(run, led_to)
            end_span(span, led_to, state)
            if state is None:
                return None
            self._observer.ended(kind, claim, led_to, state, time.monotonic() - began)
            return led_to

    async def _run_body(self, run: JobContext, problem: ContractError | None) -> Outcome:
        """Run the body; whatever happens becomes an outcome."""
        resources, claim = self.resources, run.claim
        try:
            run.contract = _contract(run, problem)
            if claim.intent:
                await run.intents.read_clock()
            if outcome.is_poison(claim):
                return outcome.poison(claim, open_call=run.intents.open)
            # The effect of a call in time may still be read; none leaves now (`IntentLog.write`).
            if claim.expired and (run.intents.open or not claim.steps):
                return outcome.expired(open_call=run.intents.open)
            async with resources.deadlines.kept():
                return outcome.done(await run.kind.run(run.contract, run))
        except TimeoutError as error:
            if resources.draining:
                return outcome.given_back()
            return outcome.of(error, claim, resources.settings, open_call=run.intents.open)
        except Exception as error:  # noqa: BLE001 - the one place where any error becomes a state
            return outcome.of(error, claim, resources.settings, open_call=run.intents.open)

    async def _complete(self, run: JobContext, led_to: Outcome) -> State | None:
        """Write the outcome into the record; its state then, None if the job is another worker's."""
        if led_to.state == State.RUNNING:
            log.info("claim_skipped", reason=led_to.reason)
            return None
        if led_to.state.ended:
            await _abandon(run, led_to)
        state = await self.resources.redis_retry.finish(lambda: self._write_outcome(run, led_to))
        _report(run, led_to, state)
        return state

    async def _write_outcome(self, run: JobContext, led_to: Outcome) -> State | None:
        """The state of the record after; None if the job is another worker's by now."""
        records, claim = self.resources.records, run.claim
        usage = Usage(
            attempts=led_to.attempts,
            throttles=led_to.throttles,
            answered=run.intents.answered,
            steps=run.intents.finished,
            reserved=run.intents.reserved,
            approval=run.intents.approval,
        )
        if led_to.state.ended:
            is_settled = await records.settle(
                claim, led_to.state, usage=usage, result=led_to.result, error=led_to.error
            )
            return led_to.state if is_settled else None
        return await records.park(
            claim,
            led_to.state,
            delay=led_to.delay,
            usage=usage,
            error=led_to.error,
            waiting=(claim.waiting or claim.time.at) if led_to.waits_for_limit else 0,
            alone=led_to.alone,
            turn=led_to.turn,
            outage=self.resources.limiter.breakers.named(led_to.outage) if led_to.outage else None,
        )

    async def _run_claimed(self) -> None:
        """Run what batches claim, each job on its own."""
        while True:
            self._spawn(self._run_one(await self.resources.batches.next_claimed()))

    async def _run_one(self, claimed: ClaimedRun) -> None:
        claim, member, key = claimed
        try:
            await self._run_job(claim, member)
        except Exception:
            log.exception("job_crashed", id=claim.id)
        finally:
            self.resources.batches.ended(key)

    def _spawn(self, run: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(run)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _finish(self) -> None:
        """Wait for the jobs that batches claimed; what still runs in the end is left to its lease."""
        while self._runs or self.resources.batches.busy:
            remaining_seconds = self.resources.seconds_left
            if remaining_seconds <= 0:
                break
            await asyncio.wait(
                [*self._runs, self._taking],
                timeout=min(remaining_seconds, LOOK_AGAIN),
                return_when=asyncio.FIRST_COMPLETED,
            )
        late = [*self._runs]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _contract(run: JobContext, problem: ContractError | None) -> Contract:
    """The contract in the record, which is the truth; the message only woke us."""
    if problem:
        raise problem
    return run.kind.contract.parse(run.claim.payload)


async def _abandon(run: JobContext, led_to: Outcome) -> None:
    """Note elsewhere that a job ends without success. It ends all the same if that fails."""
    abandon = run.kind.abandon
    if abandon is None or run.contract is None:
        return
    if led_to.state in {State.DONE, State.DUPLICATE}:
        return
    try:
        await abandon(run.contract, run, in_doubt=led_to.state == State.UNKNOWN)
    except Exception:
        log.exception("abandon_failed")


def _report(run: JobContext, led_to: Outcome, state: State | None) -> None:
    """One line and one count for where the run led."""
    if state is None:
        log.warning("ownership_lost", led_to=led_to.state)
        return
    kind, lane = run.kind.name, run.claim.lane
    JOBS.labels(kind, lane, state).inc()
    words: dict[str, Any] = {"reason": led_to.reason} if led_to.reason else {}
    if state.ended:
        JOB_SECONDS.labels(kind, lane).observe(
            max(0.0, (run.claim.time.now() - run.claim.created) / 1000)
        )
    else:
        words["delay"] = round(led_to.delay, 3)
    write = log.warning if state in {State.DEAD, State.UNKNOWN} else log.info
    write(str(state), **words)
