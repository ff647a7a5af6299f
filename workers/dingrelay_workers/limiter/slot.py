"""A slot: what a call asks of the limiter, the leave to make it, and what keeps it from coming.

What can't wait in its process is parked in Redis, each sender's jobs as they came. Just before a slot comes
one of them is woken, of the sender that has had least (`lua/turns.lua`). So all that have jobs waiting
share the rate evenly, in whatever order they came and however many jobs they have.
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import Call, run_async
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.limiter import transitions
from dingrelay_workers.limiter.rules import Rule, Rules

MOST_SENDERS, MOST_JOBS = 200, 2_000
"""Senders and jobs of a lane that are read to count parked jobs: some milliseconds of Redis's time."""


class Turns(NamedTuple):
    """A lane of one API of an app, in which senders take turns."""

    app: str
    api: str
    lane: Lane

    @property
    def name(self) -> str:
        """Name of this lane among all of them."""
        return f"{self.app} {self.api} {self.lane}"

    @classmethod
    def from_name(cls, name: str) -> Self:
        """The lane with this name."""
        app, _, api_and_lane = name.partition(" ")
        api, _, lane = api_and_lane.rpartition(" ")
        return cls(app, api, lane)  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """The key of what senders have had."""
        return keys.turns(self.name)

    @property
    def in_turn(self) -> str:
        """The key of jobs that were woken for their turn and have not had their call."""
        return keys.in_turn(self.name)

    def parked(self, sender: str) -> str:
        """The key of a sender's parked jobs."""
        return keys.parked(self.name, sender)


def wake_parked(rules: tuple[Rule, ...], turns: Turns, now: int | None = None) -> Call:
    """Wake parked jobs for the slots that come next.

    Answer: how many calls they make, and 1 if there is more to read: jobs that have ended since.
    """
    return transitions.wake_parked(
        turns=turns.key,
        in_turn=turns.in_turn,
        lanes=keys.LANES,
        buckets=[rule.key for rule in rules],
        time_us=now,
        lane=turns.lane,
        name=turns.name,
        prefix=turns.parked(""),
        ttl=keys.BUCKET_TTL_MS,
        carries=turns.api == MESSAGE_SEND.rule,
        limits=transitions.limits_of(rules),
    )


class ParkedTotal(NamedTuple):
    """The jobs parked in one lane, or several.

    Attributes:
        jobs: that wait for their turn.
        calls: that they make, about: those of equal content share some.
        recipients: of these calls, about.
    """

    jobs: int = 0
    calls: int = 0
    recipients: int = 0


async def parked(redis: Redis) -> dict[tuple[str, str], ParkedTotal]:
    """The jobs parked of each application and API, over all lanes."""
    names: list[Any] = await redis.zrange(keys.LANES, 0, -1)
    totals: dict[tuple[str, str], ParkedTotal] = {}
    for name in names:
        turns = Turns.from_name(name.decode())
        call = transitions.parked(
            turns=turns.key,
            prefix=turns.parked(""),
            most_senders=MOST_SENDERS,
            most_jobs=MOST_JOBS,
        )
        counted = await run_async(redis, call)
        total = totals.get((turns.app, turns.api), ParkedTotal())
        totals[turns.app, turns.api] = ParkedTotal(*map(sum, zip(total, counted, strict=True)))
    return totals


class ParkedJobs:
    """The parked jobs of the fleet.

    Args:
        redis: where they are.
        rules: by which slots come.
    """

    def __init__(self, redis: Redis, rules: Rules) -> None:
        self._redis = redis
        self._rules = rules

    async def wake(self) -> int:
        """Wake jobs for the slots that come within a second; how many calls they make."""
        names: list[Any] = await self._redis.zrange(keys.LANES, 0, -1)
        return sum(
            await asyncio.gather(*(self._wake(Turns.from_name(name.decode())) for name in names))
        )

    async def _wake(self, turns: Turns) -> int:
        call = wake_parked(self._rules.of(turns.app, turns.api), turns)
        calls, more = 0, 1
        while more:
            woken, more = await run_async(self._redis, call)
            calls += woken
        return calls


@dataclass(eq=False, slots=True)
class SlotRequest:
    """A request of one call for its slot.

    Attributes:
        turns: the application, API and lane under whose limits it falls.
        recipients: people that it reaches; 0 for none.
        sender: who asks; the senders of a lane share it evenly.
        waited: seconds that the job has waited for this call before.
        returning: the job was parked and woken in its sender's turn; it joins those who wait here.
        woken: the job, if it was woken for this call and not for an earlier one of the same run.
        shared: key of what is known of parked jobs that it could share a call with.
        host: whose API it calls.
        breaker: what its breaker is known by; empty if that is the API's name.
    """

    turns: Turns
    recipients: int = 0
    sender: str = ""
    waited: float = 0
    returning: bool = False
    woken: str = ""
    shared: str = ""
    host: str = "oapi"
    breaker: str = ""

    def ask_for(self, recipients: int) -> None:
        """Ask for the slot of a call to so many people by now: the next question to the buckets does."""
        self.recipients = recipients

    @property
    def circuit(self) -> tuple[str, str, str]:
        """The app, API and host by which its breakers are known."""
        return self.turns.app, self.breaker or self.turns.api, self.host


@dataclass(slots=True)
class Slot:
    """A call may leave now. Its end is reported to the limiter once.

    Attributes:
        request: what was asked for.
        paid: recipients that were charged for it.
        at: its time, on the limiter's clock.
        due: the earliest that this can be: how long Redis's answer was under way is not known.
        waited: no slot was free when it was asked for.
        probing: the API comes out of a pause and this call tries it: the others wait for how it
            is answered.
        sick: the fleet waits for a sane answer: this one must be reported.
        trial: it probes a breaker that stands open.
        sent: the call has left, or may have; set by its caller.
    """

    request: SlotRequest
    paid: int = 0
    at: float = 0.0
    waited: bool = False
    probing: bool = False
    sick: bool = False
    trial: bool = False
    sent: bool = False
    due: float = math.inf


class Turn(NamedTuple):
    """The turn that a parked job waits for.

    Attributes:
        turns: the lane in which senders take turns.
        had: what its sender has had, if it is new there; in seconds of the limit, as Redis writes it.
        recipients: of the call that it would have made.
    """

    turns: Turns
    had: str
    recipients: int = 0


class Parked(Exception):
    """The slot is too far away to wait for it here: the job goes back to the queue until then.

    Attributes:
        due_in: seconds until the job should be back; where it waits for a turn that is a guess.
        reason: what it waits for, one short phrase.
        turn: that of its sender for which it waits; None if it waits for a time.
    """

    def __init__(self, due_in: float, reason: str, turn: Turn | None = None) -> None:
        super().__init__(en("parked for {:.3g} s: {}", due_in, reason))
        self.due_in = due_in
        self.reason = reason
        self.turn = turn


class Outage(Exception):
    """The API does not answer sanely, or DingTalk refuses the app: nothing leaves but a probe.

    The job waits where its end is heard of.

    Attributes:
        name: of the place where it waits (`breakers.Circuit.name`).
        kind: which breaker is open: ``api``, ``host`` or ``hold``.
        reason: what it waits for, one short phrase.
        wait: seconds to the next probe.
    """

    def __init__(self, name: str, kind: str, reason: str, wait: float) -> None:
        app, api, host = name.split(" ")
        what = {"api": en("{} is out", api), "host": en("DingTalk ({}) is out", host)}
        self.name = name
        self.kind = kind
        self.reason = en("{}: {}", what.get(kind, en("app {} is held", app)), reason)
        self.wait = wait
        super().__init__(self.reason)


class Draining(Exception):
    """The worker stops: nothing more leaves from here."""

    def __init__(self) -> None:
        super().__init__(en("the worker is stopping"))
