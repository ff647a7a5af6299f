"""The job record from the worker's side: every transition one script, under a fencing number."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft, Wakeup
from dingrelay_producers.store.scripts import Call, run_async
from dingrelay_producers.store.states import Ownership, State
from dingrelay_producers.store.status import STEP
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import LANES, Json, Lane
from dingrelay_tasks.sentence import with_parts
from dingrelay_workers.limiter.breakers import Circuit
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.slot import Turn, Turns
from dingrelay_workers.store import transitions
from dingrelay_workers.store.transitions import FinishedStep
from dingrelay_workers.store.wakeup import ReceivedWakeup


@dataclass(frozen=True, slots=True)
class RedisTime:
    """Redis's time when it was read, carried on by this process's monotonic clock.

    It is behind Redis by the time that the answer took, never ahead of it.

    Attributes:
        at: Redis's time, in ms since the epoch.
        read: when it was received, by the monotonic clock.
    """

    at: int
    read: float = field(default_factory=time.monotonic)

    def now(self) -> int:
        """The time, in ms since the epoch."""
        return self.at + int((time.monotonic() - self.read) * 1000)


Verdict = Literal["claimed", "ended", "busy", "early", "held", "newer"]
"""Newer: only a worker of a newer release knows how to run the job; it is woken again for one. Held: its lane is paused."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker owns.

    Attributes:
        sender: who asks; empty where the payload doesn't say.
        kind: of the job; a message of its id may name another.
        nonce: its owner; each claim of a job has another.
        fence: grows with each owner; see `Ownership`.
        attempts: attempts made before this run.
        crashes: workers that vanished while a call of it was under way, since it last parked.
        losses: workers that vanished while they ran it otherwise.
        expires: when it is of no use any more, in ms; None for never.
        intent: of a call whose answer is not known, if there is one.
        requeued: a person had it carried on since that call left.
        steps: outcomes of steps that earlier runs finished.
        waiting: since when it waits for a limit, in ms; 0 if it does not.
        turn: the lane where it was parked and woken in its sender's turn (`Turns.in_turn`), or empty.
        queue: that its wake-ups come from.
        time: Redis's clock, since the claim.
        started: when a worker first had it, in ms; 0 if that is not known.
        retried: seconds that it has waited for attempts since the first failure, or the last outage.
        failures: attempts that failed since then.
        batch_key: where jobs wait with which it may share a call; empty if it goes alone.
        recipients: how many recipients it adds to such a call.
        summary: one line, free of the job's text.
        trace: that it belongs to (`tracing.spans`); empty for none.
    """

    id: str
    kind: str
    nonce: str
    fence: int
    app: str
    lane: Lane
    sender: str
    payload: Any
    parent: str
    attempts: int
    throttles: int
    crashes: int
    expires: int | None
    waiting: int
    intent: Json | None
    steps: Mapping[str, Json]
    created: int
    time: RedisTime = field(compare=False)
    losses: int = 0
    requeued: bool = False
    turn: str = ""
    queue: str = ""
    started: int = 0
    retried: float = 0.0
    failures: int = 0
    batch_key: str = ""
    recipients: int = 0
    summary: str = ""
    trace: str = ""

    @property
    def ownership(self) -> Ownership:
        """This run of the job."""
        return Ownership(self.id, self.nonce, self.fence)

    @property
    def expired(self) -> bool:
        """Whether it was of no use any more when it was claimed."""
        return self.expires is not None and self.expires <= self.time.at

    @property
    def age(self) -> float:
        """Seconds since a worker first had it, by Redis's clock."""
        return (self.time.now() - self.started) / 1000 if self.started else 0.0

    @property
    def shared(self) -> str:
        """Key of what is known of parked jobs that it could share a call with; empty if it goes alone."""
        content = self.batch_key.rpartition(":")[2]
        return keys.parked_content(self.app, content) if content else ""


class ClaimResult(NamedTuple):
    """The result of claiming a job.

    Attributes:
        claim: the job, if it was claimed.
        waiting: where jobs wait for a call like its, if another worker claimed it.
    """

    verdict: Verdict
    claim: Claim | None = None
    waiting: str = ""


def claim_of(job_id: str, now: int, pairs: Sequence[bytes]) -> Claim:
    """A job that was claimed at a moment (ms), of its record's names and values in turn."""
    fields = {pairs[i].decode(): pairs[i + 1].decode() for i in range(0, len(pairs), 2)}
    payload: Any = json.loads(fields["payload"])
    sender: Any = payload.get("sender") if isinstance(payload, dict) else None
    return Claim(
        id=job_id,
        kind=fields["kind"],
        nonce=fields["owner"],
        fence=int(fields["fence"]),
        app=fields["app"],
        lane=_lane(fields["lane"]),
        sender=sender if isinstance(sender, str) else "",
        payload=payload,
        parent=fields.get("parent", ""),
        attempts=int(fields.get("attempts", 0)),
        throttles=int(fields.get("throttles", 0)),
        crashes=int(fields.get("crashes", 0)),
        expires=int(fields["expires"]) if "expires" in fields else None,
        waiting=int(fields.get("waiting", 0)),
        intent=json.loads(fields["intent"]) if "intent" in fields else None,
        steps={
            name.removeprefix(STEP): json.loads(value)
            for name, value in fields.items()
            if name.startswith(STEP)
        },
        created=int(fields["created"]),
        time=RedisTime(now),
        losses=int(fields.get("losses", 0)),
        requeued="requeued" in fields,
        turn=fields.get("turn", ""),
        queue=fields["queue"],
        started=int(fields.get("started", 0)),
        retried=int(fields.get("retried", 0)) / 1000,
        failures=int(fields.get("failed", 0)),
        batch_key=fields.get("batch_key", ""),
        recipients=int(fields.get("recipients", 0)),
        summary=fields.get("summary", ""),
        trace=fields.get("trace", ""),
    )


def _lane(name: str) -> Lane:
    match name:
        case "urgent" | "normal" | "bulk":
            return name
        case _:
            return "normal"


log = get_logger("dingrelay.jobs")


LARGE_RESULT = 1_000_000
"""Characters of a result as JSON; only answers to an api-call are larger."""
LARGE_RESULT_TTL = 3600.0
"""Seconds for which the record of a job with a larger result is kept."""

MOST_LOOKED_AT = 200
"""Waiting jobs that one call considers; twice as many as it can carry."""


Written = Literal["written", "cancelled", "lost", "late", "unreserved"]
"""Answers of `Records.write_intent`."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost and results of a run, apart from where it ended.

    Attributes:
        answered: no call of the job is open any more, so its intent is cleared.
        steps: outcomes of steps that this run finished.
        reserved: users of its last reservation.
        approval: the instance that the job has, and since when (ms) its call may have made it.
    """

    attempts: int = 0
    throttles: int = 0
    answered: bool = False
    steps: Mapping[str, Json] = field(default_factory=dict)
    reserved: int = 0
    approval: tuple[str, int] | None = None


class Records:
    """The job records in Redis.

    Args:
        redis: where they are.
        settings: how long they live, and a lease.
        worker: the process that claims jobs, by which others find them should it vanish. Without a
            name only their leases show it.
        on_made: called with the id of a job that came as a message, once it has a record.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        worker: str = "",
        on_made: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.redis = redis
        self._settings = settings
        self._on_made = on_made
        self._lease = int(settings.lease * 1000)
        self._slot = progress_slot(settings)
        self._owner = f"{worker}/" if worker else ""

    async def claim(self, wakeup: ReceivedWakeup) -> ClaimResult:
        """Take the job that a wake-up names, if it is to be had.

        A message of a Celery client without our package has no record yet: it gets one first. One
        of ours had a record once: the job is over.
        """
        claim = transitions.claim(
            record=keys.job(wakeup.id),
            progress=keys.progress(wakeup.queue),
            job=wakeup.id,
            owner=self._owner + wakeup.nonce,
            lease=self._lease,
            woken=wakeup.woken,
            slot=self._slot,
        )
        answer = await run_async(self.redis, claim)
        if wakeup.bare:
            missing = answer[0] == b"missing"
            if missing:
                await self.enqueue([wakeup.draft()])
            elif await self._is_another(wakeup):
                log.error("task_id_taken", id=wakeup.id, kind=wakeup.kind.name)
            # The process that made the record may have been killed before this.
            if self._on_made:
                await self._on_made(wakeup.id)
            if missing:
                answer = await run_async(self.redis, claim)
        if answer[0] == b"missing":
            return ClaimResult("ended")
        verdict: Verdict = answer[0].decode()
        if verdict != "claimed":
            return ClaimResult(verdict, waiting=answer[1].decode())
        return ClaimResult(verdict, claim_of(wakeup.id, answer[1], answer[2]))

    async def _is_another(self, wakeup: ReceivedWakeup) -> bool:
        """Whether the job of this id asks for something else than the message that has it, too."""
        digest = record.asked_digest(wakeup.job).encode()
        return await self.redis.hget(keys.job(wakeup.id), "digest") not in {None, digest}

    async def leave(self, job_id: str) -> None:
        """Have a job woken again, if it is due, since this release does not know its kind."""
        await run_async(self.redis, transitions.leave(record=keys.job(job_id), job=job_id))

    async def claim_batch(
        self, waiting: str, *, nonce: str, room: int, lane: str, bucket: Rule | None = None
    ) -> tuple[list[Claim], Claim | None]:
        """Claim jobs that wait for a call, for one that leaves now.

        More may wait than there is room for: the second is one of them, which makes the next call.

        Args:
            waiting: where they wait.
            nonce: distinguishes this call from every other.
            room: how many more recipients the call takes.
            lane: of the job that makes the call.
            bucket: of the recipients, which are taken from it; None if they are not limited.
        """
        return await self._read_claims(
            transitions.claim_batch(
                waiting=waiting,
                bucket=bucket.key if bucket else None,
                owner=self._owner + nonce,
                lease=self._lease,
                room=room,
                lane=lane,
                most=MOST_LOOKED_AT,
                burst=bucket.burst if bucket else 0,
                rate=bucket.rate if bucket else 0,
            )
        )

    async def claim_late(
        self, turns: Turns, queue: str, *, nonce: str, most: int, late: float
    ) -> list[Claim]:
        """Claim jobs that were woken for their turn `late` seconds ago and are not started.

        Args:
            turns: the lane in which they were parked.
            queue: in which their wake-ups are.
            nonce: distinguishes this claim from every other.
            most: so many at most.
            late: seconds.
        """
        jobs, _ = await self._read_claims(
            transitions.claim_late(
                in_turn=turns.in_turn,
                owner=self._owner + nonce,
                lease=self._lease,
                queue=queue,
                most=most,
                late=int(late * 1000),
            )
        )
        return jobs

    async def _read_claims(self, call: Call) -> tuple[list[Claim], Claim | None]:
        next_caller, now, *claimed_jobs = await run_async(self.redis, call)
        claims = [claim_of(job_id.decode(), now, pairs) for job_id, pairs in claimed_jobs]
        following = claims.pop() if next_caller else None
        return claims, following

    async def write_intent(
        self, claim: Claim, intent: Json, usage: Usage, *, until: int = 0, reserves: str = ""
    ) -> Written:
        """Write that a call leaves now, with what the run brought; unless written, it must not.

        Cancelled: that was asked for while the job ran. Lost: it is another worker's by now.
        Late: it may leave until a moment (ms; 0 for any time) that is over. Unreserved: Redis has forgotten the
        reservation of the step that `reserves`.
        """
        call = transitions.write_intent(
            record=keys.job(claim.id),
            owner=claim.nonce,
            fence=claim.fence,
            intent=record.canonical_json(intent),
            answered=usage.answered,
            leaves_until=until or None,
            reserves=reserves or None,
            steps=_steps(usage.steps),
        )
        answer = await run_async(self.redis, call)
        verdict: Written = answer.decode()
        return verdict

    async def park(
        self,
        claim: Claim,
        state: State,
        *,
        delay: float,
        usage: Usage,
        error: Json | None = None,
        waiting: int = 0,
        alone: bool = False,
        turn: Turn | None = None,
        outage: Circuit | None = None,
    ) -> State | None:
        """Put the job on the schedule, `delay` seconds ahead; the state after.

        None: the job is another worker's by now. Cancelled: it was asked to be while it ran. With
        `alone` it never shares a call again. With `turn` it is woken in that turn of its sender, and
        `delay` is a guess. With `outage` it is also woken at the end of that,
        looked at by the time at which it waits no longer, and its record says which breaker it waits for.
        """
        latest = min(
            sys.maxsize if claim.expires is None else claim.expires,
            claim.started + int(self._settings.max_age * 1000),
        )
        of_api, of_host, of_app = outage.keys if outage else (None, None, None)
        call = transitions.reschedule(
            record=keys.job(claim.id),
            dead=keys.DEAD,
            outages=keys.OUTAGES,
            lanes=keys.LANES,
            waiting_for_it=keys.outage(outage.name) if outage else None,
            breaker_of_api=of_api,
            breaker_of_host=of_host,
            breaker_of_app=of_app,
            turns=turn.turns.key if turn else None,
            parked=turn.turns.parked(claim.sender) if turn else None,
            job=claim.id,
            owner=claim.nonce,
            fence=claim.fence,
            state=state,
            delay=int(delay * 1000),
            attempts=usage.attempts,
            throttles=usage.throttles,
            error=record.canonical_json(with_parts(error)) if error else None,
            answered=usage.answered,
            waiting=waiting or None,
            cancelled_ttl=int(self._settings.record_ttl * 1000),
            dead_ttl=int(self._settings.dead_ttl * 1000),
            lost=record.canonical_json(record.CANCELLED_TOO_LATE),
            alone=alone,
            batch_key_ttl=keys.WAITING_TTL_MS,
            outage=outage.name if outage else None,
            rank=LANES.index(claim.lane),
            outage_ttl=keys.OUTAGE_TTL_MS,
            latest=latest if outage else None,
            lane=turn.turns.name if turn else None,
            sender=claim.sender,
            had=turn.had if turn else "0",
            recipients=turn.recipients if turn else 0,
            trace=None if claim.trace else spans.current() or None,
            steps=_steps(usage.steps),
        )
        answer = await run_async(self.redis, call)
        return State(answer.decode()) if answer else None

    async def settle(
        self,
        claim: Claim,
        state: State,
        *,
        usage: Usage,
        result: Json | None = None,
        error: Json | None = None,
    ) -> bool:
        """End the job; False: it is another worker's by now, or the approval that it has is another job's.

        A record with a large result is kept for a shorter time, so that a few of them don't fill
        Redis.
        """
        result_json = record.canonical_json(result) if result is not None else None
        record_ttl = self._settings.record_ttl
        steps: Mapping[str, Json] = usage.steps
        if result_json and len(result_json) > LARGE_RESULT:
            record_ttl = min(record_ttl, LARGE_RESULT_TTL)
            steps = {}  # the same once more, which a job that is done has no use for
        instance, since = usage.approval or ("", 0)
        call = transitions.settle(
            record=keys.job(claim.id),
            dead=keys.DEAD,
            job=claim.id,
            owner=claim.nonce,
            fence=claim.fence,
            state=state,
            attempts=usage.attempts,
            throttles=usage.throttles,
            result=result_json,
            error=record.canonical_json(with_parts(error)) if error else None,
            answered=usage.answered,
            ttl=int(record_ttl * 1000),
            dead_ttl=int(self._settings.dead_ttl * 1000),
            steps=_steps(steps),
            approval_owner=keys.approval_owner(instance) if instance else None,
            job_approval=keys.job_approval(claim.id) if instance else None,
            instance=instance,
            since=str(since),
            approval_ttl=record.longest_life_ms(self._settings),
            job_ttl=keys.JOB_MARGIN_MS,
        )
        answer = await run_async(self.redis, call._replace(besides=2 * usage.reserved))
        return bool(answer)

    async def heartbeat(self, claims: Sequence[Claim]) -> set[str]:
        """Renew the leases; the nonces of claims that have lost their jobs."""
        if not claims:
            return set()
        runs = [claim.ownership for claim in claims]
        lost = await run_async(self.redis, transitions.heartbeat(lease=self._lease, runs=runs))
        return {nonce.decode() for nonce in lost}

    async def enqueue(
        self, drafts: Sequence[Draft], *, fence: tuple[str, str] | None = None
    ) -> list[Wakeup]:
        """Accept child jobs; the wake-ups to publish. Known ones are left as they are.

        With `fence`, as `record.enqueue`.
        """
        calls = [record.enqueue(draft, fence=fence) for draft in drafts]
        answers = await asyncio.gather(*(run_async(self.redis, call) for call in calls))
        enqueued = map(record.enqueued, drafts, answers)
        return [answer.wakeup for answer in enqueued if answer.wakeup]

    async def publish(self, publisher: Publisher, wakeups: Sequence[Wakeup]) -> None:
        """Publish wake-ups; the scheduler publishes those that the broker does not take."""
        if wakeups and (untaken := await publisher.publish_on_loop(wakeups)):
            await asyncio.gather(
                *(run_async(self.redis, call) for call in record.unpublished(untaken))
            )

    async def states(self, job_ids: Sequence[str]) -> list[str | None]:
        """The states of jobs; None where there is no record."""
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(keys.job(job_id), "state")
        states = await pipe.execute() if job_ids else []
        return [None if state is None else state.decode() for state in states]

    async def wake(self, job_id: str) -> bool:
        """Have a waiting job looked at now; whether it waited."""
        return bool(await run_async(self.redis, record.wake(job_id)))


def progress_slot(settings: Settings) -> int:
    """Milliseconds of a slot of a queue's progress; six are a grace."""
    return max(1, int(settings.lease * 1000 / 6))


def _steps(steps: Mapping[str, Json]) -> list[FinishedStep]:
    return [FinishedStep(step, record.canonical_json(outcome)) for step, outcome in steps.items()]
