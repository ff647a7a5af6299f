"""Parked jobs, and how the senders of a lane take turns.

What can't wait in its process waits in Redis, each sender's jobs as they came. Just before a slot comes
one of them is woken, of the sender that has had least (`lua/turns.lua`). So all that have jobs waiting
share the rate evenly, in whatever order they came and however many jobs they have.
"""

import asyncio
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import transition
from dingrelay_producers.store.scripts import Call, Value, run_async
from dingrelay_tasks.contract import Lane
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.limiter.rules import Rule, Rules

_PARKED = transition("dingrelay_workers.limiter", "parked")
MOST_SENDERS, MOST_JOBS = 200, 2_000
"""Of a lane that are looked at to count what is parked there: some milliseconds of Redis's time."""

_WAKE = transition("dingrelay_workers.limiter", "rules", "turns", "wake_parked")


class Turns(NamedTuple):
    """Where senders take turns: one lane of one API of an app."""

    app: str
    api: str
    lane: Lane

    @property
    def name(self) -> str:
        """Of this lane among all of them."""
        return f"{self.app} {self.api} {self.lane}"

    @classmethod
    def named(cls, name: str) -> Self:
        """The lane with this name."""
        app, _, rest = name.partition(" ")
        api, _, lane = rest.rpartition(" ")
        return cls(app, api, lane)  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """The key of what senders have had."""
        return keys.turns(self.name)

    @property
    def coming(self) -> str:
        """The key of jobs that were woken for their turn and have not had their call."""
        return keys.coming(self.name)

    def parked(self, sender: str) -> str:
        """The key of a sender's parked jobs."""
        return keys.parked(self.name, sender)


def wake_parked(rules: tuple[Rule, ...], turns: Turns, now: int | None = None) -> Call:
    """Wake parked jobs for the slots that come next.

    Answer: how many calls they make, and 1 if there is more to read: jobs that have ended since.
    """
    arguments: list[Value] = ["" if now is None else now, turns.lane, turns.name]
    arguments += (turns.parked(""), keys.BUCKET_TTL_MS, int(turns.api == MESSAGE_SEND.rule))
    for rule in rules:
        arguments += (rule.burst, rule.rate, rule.top)
    where = [turns.key, turns.coming, keys.LANES]
    return _WAKE.call([*(rule.key for rule in rules), *where], arguments)


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
    found: dict[tuple[str, str], ParkedTotal] = {}
    for name in names:
        turns = Turns.named(name.decode())
        call = _PARKED.call([turns.key], [turns.parked(""), MOST_SENDERS, MOST_JOBS])
        counted = await run_async(redis, call)
        known = found.get((turns.app, turns.api), ParkedTotal())
        found[turns.app, turns.api] = ParkedTotal(*map(sum, zip(known, counted, strict=True)))
    return found


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
            await asyncio.gather(*(self._wake(Turns.named(name.decode())) for name in names))
        )

    async def _wake(self, turns: Turns) -> int:
        call = wake_parked(self._rules.of(turns.app, turns.api), turns)
        calls, more = 0, 1
        while more:
            woken, more = await run_async(self._redis, call)
            calls += woken
        return calls
