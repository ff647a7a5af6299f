"""The job record from the worker's side: every transition one script, under a fencing number."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from dingrelay_producers import keys, record
from dingrelay_producers.record import Draft, Wakeup
from dingrelay_producers.scripts import Script, Value, run_async
from dingrelay_producers.settings import Settings
from dingrelay_producers.states import State
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.delivery import Delivery
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.redis_time import RedisTime

_PACKAGE = "dingrelay_workers"
_BOARD = Script.load(_PACKAGE, "board")
_CLAIM = Script.load(_PACKAGE, "claim")
_HEARTBEAT = Script.load(_PACKAGE, "heartbeat")
_NOTE = Script.load(_PACKAGE, "note")
_PARK = Script.load(_PACKAGE, "park", preludes=["reservations"])
_SETTLE = Script.load(_PACKAGE, "settle", preludes=["reservations"])
_SWEEP = Script.load(_PACKAGE, "sweep")
_WAKE = Script.load(_PACKAGE, "wake")

STEP = "step:"

MOST_LOOKED_AT = 200
"""Waiting jobs that one call considers; twice as many as it can carry."""

Verdict = Literal["claimed", "ended", "busy", "early"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker owns.

    Attributes:
        sender: who asks; empty where the payload doesn't say.
        nonce: its owner; each claim of a job has another.
        fence: grows with each owner. A failover may give one number out twice, so a transition
            names both and is refused unless both are the record's.
        attempts: attempts spent before this run.
        crashes: workers that vanished while they ran it, since it last parked.
        calling: the note of a call whose answer is not known, if there is one.
        steps: outcomes of steps that earlier runs finished.
        waiting: since when it waits for a limit, in ms; 0 if it does not.
        time: Redis's clock.
        shares: where jobs wait with which it may share a call; empty if it goes alone.
        seats: how many recipients it adds to such a call.
    """

    id: str
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
    expires: int
    waiting: int
    calling: Json | None
    steps: Mapping[str, Json]
    created: int
    time: RedisTime = field(compare=False)
    shares: str = ""
    seats: int = 0

    @property
    def place(self) -> str:
        """Key of the place that it shares when it is parked; empty if it goes alone."""
        return keys.place(self.app, self.shares.rpartition(":")[2]) if self.shares else ""


Taken = tuple[Delivery, Claim]
"""A job claimed without a wake-up, as if one had come."""


class Taking(NamedTuple):
    """How taking a job ended.

    Attributes:
        claim: the job, if it was to be had.
        waiting: where others wait for a call like its, if somebody else took it.
    """

    verdict: Verdict
    claim: Claim | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run cost and brought, apart from where it ended.

    Attributes:
        answered: no call of the job is open any more, so the note of one is cleared.
        steps: outcomes of steps that this run finished.
    """

    attempts: int = 0
    throttles: int = 0
    answered: bool = False
    steps: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found.

    Attributes:
        mine: whether this worker sweeps; another one does otherwise.
        wakeups: messages to publish now.
        batch: their name, by which the next sweep is told that they were published.
        next_due: seconds until somebody must look again; None if nothing is scheduled.
    """

    mine: bool
    wakeups: list[Wakeup]
    batch: str
    next_due: float | None


@dataclass(frozen=True, slots=True)
class Boarding:
    """Jobs that were claimed for a call.

    Attributes:
        taken: they go with it.
        next: more wait than there was room for, and this one makes the next call.
    """

    taken: list[Taken]
    next: Taken | None


class Records:
    """The job records in Redis."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        on_made: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.redis = redis
        self._settings = settings
        self._on_made = on_made
        self._lease = int(settings.lease * 1000)

    async def claim(self, delivery: Delivery) -> Taking:
        """Take the job that a wake-up names, if it is to be had.

        A message of a Celery client without our package has no record yet: it gets one first. An
        ephemeral job's was deleted: it is over.
        """
        claim = _CLAIM.call(
            [keys.job(delivery.id), keys.SCHEDULE, keys.queue(delivery.queue)],
            [
                delivery.id,
                delivery.nonce,
                self._lease,
                delivery.woken,
                keys.JOB_MARGIN_MS,
                keys.QUEUE_TTL_MS,
            ],
        )
        answer = await run_async(self.redis, claim)
        if answer[0] == b"missing":
            if delivery.kind.ephemeral:
                return Taking("ended")
            await self.enqueue([delivery.draft()])
            if self._on_made:
                await self._on_made(delivery.id)
            answer = await run_async(self.redis, claim)
        verdict: Verdict = answer[0].decode()
        if verdict != "claimed":
            return Taking(verdict, waiting=answer[1].decode())
        return Taking(verdict, _claim(delivery.id, _texts(answer[1:])))

    async def board(
        self, waiting: str, *, nonce: str, room: int, lane: str, bucket: Rule | None = None
    ) -> Boarding:
        """Claim jobs that wait for a call, for one that leaves now.

        Args:
            waiting: where they wait.
            nonce: tells this call from every other.
            room: how many more recipients the call takes.
            lane: of the job that makes the call.
            bucket: of the recipients, which are taken from it; None if they are not limited.
        """
        where = [waiting, keys.SCHEDULE, *([bucket.key] if bucket else [])]
        arguments: list[Value] = [nonce, self._lease, keys.JOB_MARGIN_MS, keys.job(""), room, lane]
        arguments += [MOST_LOOKED_AT, *((bucket.burst, bucket.rate) if bucket else ())]
        next_caller, *found = await run_async(self.redis, _BOARD.call(where, arguments))
        taken = [_taken(job_id.decode(), _texts(pairs)) for job_id, pairs in found]
        return Boarding(taken, taken.pop() if next_caller else None)

    async def note(
        self, claim: Claim, note: Json, spent: Spent, *, until: int = 0
    ) -> Literal["noted", "cancelled", "lost", "late"]:
        """Note that a call is about to leave, with what the run brought; unless noted, it must not.

        Cancelled: that was asked for while the job ran. Lost: it is another worker's by now.
        Late: it may leave until a moment (ms; 0 for any time) that is over.
        """
        arguments: list[Value] = [
            claim.nonce,
            claim.fence,
            record.canonical_json(note),
            int(spent.answered),
            until,
            *_pairs(spent.steps),
        ]
        answer = await run_async(self.redis, _NOTE.call([keys.job(claim.id)], arguments))
        verdict: Literal["noted", "cancelled", "lost", "late"] = answer.decode()
        return verdict

    async def park(
        self,
        claim: Claim,
        state: State,
        *,
        delay: float,
        spent: Spent,
        error: Json | None = None,
        waiting: int = 0,
        alone: bool = False,
    ) -> State | None:
        """Put the job on the schedule, `delay` seconds ahead; the state after.

        None: the job is another worker's by now. Cancelled: it was asked to be while it ran. With
        `alone` it never shares a call again.
        """
        answer = await run_async(
            self.redis,
            _PARK.call(
                [keys.job(claim.id), keys.SCHEDULE],
                [
                    claim.id,
                    claim.nonce,
                    claim.fence,
                    state,
                    int(delay * 1000),
                    spent.attempts,
                    spent.throttles,
                    record.canonical_json(error) if error else "",
                    int(spent.answered),
                    waiting,
                    keys.JOB_MARGIN_MS,
                    int(self._settings.record_ttl * 1000),
                    int(alone),
                    keys.WAITING_TTL_MS,
                    *_pairs(spent.steps),
                ],
            ),
        )
        return State(answer.decode()) if answer else None

    async def settle(
        self,
        claim: Claim,
        state: State,
        *,
        spent: Spent,
        result: Json | None = None,
        error: Json | None = None,
    ) -> bool:
        """End the job; False: it is another worker's by now."""
        answer = await run_async(
            self.redis,
            _SETTLE.call(
                [keys.job(claim.id), keys.SCHEDULE, keys.DEAD],
                [
                    claim.id,
                    claim.nonce,
                    claim.fence,
                    state,
                    spent.attempts,
                    spent.throttles,
                    record.canonical_json(result) if result is not None else "",
                    record.canonical_json(error) if error else "",
                    int(spent.answered),
                    int(self._settings.record_ttl * 1000),
                    int(self._settings.dead_ttl * 1000),
                    *_pairs(spent.steps),
                ],
            ),
        )
        return bool(answer)

    async def heartbeat(self, claims: Sequence[Claim]) -> set[str]:
        """Renew the leases; the nonces of claims that have lost their jobs."""
        if not claims:
            return set()
        identities = [value for claim in claims for value in (claim.id, claim.nonce, claim.fence)]
        lost = await run_async(
            self.redis,
            _HEARTBEAT.call(
                [keys.SCHEDULE, *(keys.job(claim.id) for claim in claims)],
                [self._lease, *identities],
            ),
        )
        return {nonce.decode() for nonce in lost}

    async def serve(self, queues: Sequence[str], *, ttl: float) -> None:
        """Tell that these queues have a worker, for `ttl` seconds."""
        pipe = self.redis.pipeline(transaction=False)
        for queue in queues:
            pipe.set(keys.alive(queue), 1, px=int(ttl * 1000))
        await pipe.execute()

    async def sweep(self, worker: str, *, lease: float, most: int, published: str = "") -> Sweep:
        """Take what is due on the schedule, if nobody else does.

        Args:
            worker: who sweeps.
            lease: seconds after which another worker may.
            most: schedule entries to look at.
            published: the last batch whose wake-ups were all published; a later one comes again.
        """
        answer = await run_async(
            self.redis,
            _SWEEP.call(
                [keys.SWEEPER, keys.SCHEDULE, keys.SWEPT],
                [
                    worker,
                    int(lease * 1000),
                    most,
                    int(self._settings.wake_grace * 1000),
                    keys.job(""),
                    keys.queue(""),
                    keys.alive(""),
                    keys.SWEPT_TTL_MS,
                    published,
                ],
            ),
        )
        if not answer[0]:
            return Sweep(mine=False, wakeups=[], batch="", next_due=None)
        wakeups = [
            Wakeup(
                id=job_id.decode(),
                kind=kind.decode(),
                queue=queue.decode(),
                job=json.loads(payload),
                summary=summary.decode(),
                at=at,
            )
            for job_id, kind, queue, payload, summary, at in answer[3:]
        ]
        next_due = None if answer[1] < 0 else answer[1] / 1000
        return Sweep(True, wakeups, answer[2].decode(), next_due)

    async def release_sweeper(self, worker: str) -> None:
        """Let another worker sweep at once."""
        if await self.redis.get(keys.SWEEPER) == worker.encode():
            await self.redis.delete(keys.SWEEPER)

    async def enqueue(
        self, drafts: Sequence[Draft], *, fence: tuple[str, str] | None = None
    ) -> list[Wakeup]:
        """Accept child jobs; the wake-ups to publish. Known ones are left as they are.

        With `fence`, as `record.enqueue`.
        """
        grace = int(self._settings.wake_grace * 1000)
        calls = [record.enqueue(draft, grace_ms=grace, fence=fence) for draft in drafts]
        answers = await asyncio.gather(*(run_async(self.redis, call) for call in calls))
        enqueued = map(record.enqueued, drafts, answers)
        return [answer.wakeup for answer in enqueued if answer.wakeup]

    async def states(self, job_ids: Sequence[str]) -> list[str | None]:
        """The states of jobs; None where there is no record."""
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(keys.job(job_id), "state")
        found = await pipe.execute() if job_ids else []
        return [None if state is None else state.decode() for state in found]

    async def wake(self, job_id: str) -> bool:
        """Have a waiting job looked at now; whether it waited."""
        call = _WAKE.call([keys.job(job_id), keys.SCHEDULE], [job_id])
        return bool(await run_async(self.redis, call))


def _taken(job_id: str, fields: Mapping[str, str]) -> Taken:
    claim = _claim(job_id, fields)
    kind, queue = KINDS[fields["kind"]], fields["queue"]
    return Delivery(
        job_id, kind, claim.payload, queue, woken=claim.created, nonce=claim.nonce
    ), claim


def _texts(pairs: Sequence[bytes]) -> dict[str, str]:
    return {pairs[i].decode(): pairs[i + 1].decode() for i in range(0, len(pairs), 2)}


def _claim(job_id: str, fields: Mapping[str, str]) -> Claim:
    payload: Any = json.loads(fields["payload"])
    sender: Any = payload.get("sender") if isinstance(payload, dict) else None
    return Claim(
        id=job_id,
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
        expires=int(fields.get("expires", 0)),
        waiting=int(fields.get("waiting", 0)),
        calling=json.loads(fields["calling"]) if "calling" in fields else None,
        steps={
            name.removeprefix(STEP): json.loads(value)
            for name, value in fields.items()
            if name.startswith(STEP)
        },
        created=int(fields["created"]),
        time=RedisTime(int(fields["woken"])),
        shares=fields.get("shares", ""),
        seats=int(fields.get("seats", 0)),
    )


def _lane(name: str) -> Lane:
    match name:
        case "urgent" | "normal" | "bulk":
            return name
        case _:
            return "normal"


def _pairs(steps: Mapping[str, Json]) -> list[str]:
    return [
        text for step, outcome in steps.items() for text in (step, record.canonical_json(outcome))
    ]
