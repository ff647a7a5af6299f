"""The limiter: a call leaves when every rule of DingTalk lets it, counted over the whole fleet.

A call waits here for seconds at most. Before it, in this order, go the urgent calls, those of
this process whose turn is earlier (senders take turns), and those of other processes that got
their slots. What would wait longer is parked: it goes back to the queue with a place of its own.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.scripts import run_async
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import MICRO, BucketState
from dingrelay_workers.limiter.grant import Draining, Grant, Parked
from dingrelay_workers.limiter.line import Line
from dingrelay_workers.limiter.rules import JITTER, Rule, Rules
from dingrelay_workers.limiter.travel import Travel

RETURNING_SHARE = 4
"""Local waiters are so many times as many where they were parked already: their turn is near."""
CROWDED = 1.5
"""Local waiters are so many times as many again at most while senders even out their shares."""
LEAD = 1.0
"""Seconds before its slot at which a parked job is due: a wake-up takes a moment."""
SOONEST = 0.1
"""Seconds that a job is parked at least."""


class Limiter:
    """The buckets of the fleet, seen from one process and its event loop."""

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        *,
        max_wait: float,
        local_waiters: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked of Redis yet.

        Args:
            redis: where the buckets are.
            rules: the limits to keep.
            max_wait: seconds a call may wait here before it is parked.
            local_waiters: calls of one API and lane that may wait here at a time.
            clock: seconds that only grow.
        """
        self._redis = redis
        self._rules = rules
        self._max_wait = max_wait
        self._local_waiters = local_waiters
        self._clock = clock
        self._lines: dict[tuple[str, str, Lane], Line] = {}
        self._travels: defaultdict[tuple[str, str], Travel] = defaultdict(Travel)
        self._draining = False

    async def acquire(
        self,
        app: str,
        api: str,
        *,
        lane: Lane,
        costs: Mapping[str, int],
        sender: str = "",
        waited: float = 0,
        returning: bool = False,
        place: str = "",
    ) -> Grant:
        """Wait until the call may leave.

        Args:
            app: for which the call is.
            api: the API's name in the rules, such as ``message.send``.
            lane: who goes first.
            costs: by unit, such as ``{"calls": 1, "recipients": 2}``.
            sender: who asks; the senders of a lane share it evenly.
            waited: seconds that the job has waited for this call before.
            returning: the job was parked and comes back; it joins those who wait here.
            place: key of the place that it shares with others, should it be parked.

        Raises:
            Parked: its slot is too far away.
            Draining: the worker stops.
            RedisError: the buckets can't be asked.
        """
        if self._draining:
            raise Draining
        line = self._line(app, api, lane)
        if self._admits(line, sender, returning=returning):
            waiter = await line.slot(costs, waited, sender)
            if waiter is not None:
                probing = bool(waiter.future.result())
                return Grant(app, api, waiter.charged, probing, waiter.waited, waiter.starts)
        raise await self._parked(
            line, app, api, lane, costs, sender, returning=returning, place=place
        )

    def recipients_rule(self, app: str, api: str) -> Rule | None:
        """The rule by which recipients of this API are limited; None if they are not."""
        rules = self._rules.of(app, api)
        return next((rule for rule in rules if rule.unit == "recipients" and rule.rate), None)

    async def throttled(
        self, app: str, api: str, *, pause: float, everything: bool, reason: str
    ) -> None:
        """A call was answered with a throttle: pause its API for the fleet, if it means anything.

        At a rate near the limit single throttles come by chance (`lua/penalize.lua`).

        Args:
            app: whose call it was.
            api: which API it called.
            pause: seconds that the answer asks for; repeats make it longer.
            everything: pause all calls from this address.
            reason: one short phrase for logs and `dingrelay limits`.
        """
        rule = self._rules.egress if everything else self._rules.of(app, api)[0]
        spread = self._travels[app, api].spread
        micros, _ = await run_async(self._redis, buckets.penalize(rule, pause, reason, spread))
        if not micros:
            return
        # The slots given out here are void at once; other processes hear of it when they ask.
        for line in self._lines.values():
            if rule in line.rules:
                line.recall()

    async def answered(self, grant: Grant) -> None:
        """A call was answered, and not with a throttle. Costs a round trip only for a probe."""
        self._travels[grant.app, grant.api].add(self._clock() - grant.left)
        if grant.probing:
            rules = self._rules.of(grant.app, grant.api)
            await run_async(self._redis, buckets.succeed(rules))

    def stale(self, grant: Grant) -> bool:
        """Whether the slot came too long ago for a call whose recipients are counted.

        A process that was stopped with it would call in a window that was given to others.
        """
        return bool(self._counted(grant)) and self._clock() - grant.left > JITTER

    async def over(self, grant: Grant) -> None:
        """A call has ended: charge anew what may have arrived long after its slot.

        DingTalk counts recipients when a call arrives, at any time before its answer. Charged at
        both ends it is within every window that holds it. Costs a round trip for slow calls only.
        """
        rule = self._counted(grant)
        if rule and self.stale(grant):
            call = buckets.charge(rule, grant.costs["recipients"])
            # The call's own outcome must not be lost with this.
            with suppress(RedisError, OSError):
                await run_async(self._redis, call)

    def _counted(self, grant: Grant) -> Rule | None:
        if not grant.costs.get("recipients"):
            return None
        return self.recipients_rule(grant.app, grant.api)

    async def states(self) -> list[BucketState]:
        """Every bucket of the fleet as it stands."""
        return await buckets.states(self._redis, self._rules)

    def drain(self) -> None:
        """Let nothing leave any more: who waits, and who comes later, gets `Draining`."""
        self._draining = True
        for line in self._lines.values():
            line.fail(Draining())

    async def close(self) -> None:
        """Drain, and leave no task behind. The connection stays the caller's."""
        self.drain()
        for line in self._lines.values():
            await line.close()

    def _line(self, app: str, api: str, lane: Lane) -> Line:
        line = self._lines.get((app, api, lane))
        if line is None:
            line = self._lines[app, api, lane] = Line(
                self._redis,
                self._rules.of(app, api),
                lane,
                max_wait=self._max_wait,
                clock=self._clock,
            )
        return line

    def _admits(self, line: Line, sender: str, *, returning: bool) -> bool:
        if returning:
            room = self._local_waiters * RETURNING_SHARE
            # A sender that fills the line leaves the others their share of it, on top of it.
            fair = line.waiting(sender) < room // line.senders_with(sender)
            return fair and len(line) < room * CROWDED
        # Nobody overtakes the parked, but where nobody waits a slot would go unused.
        return not line or (
            not line.overtaken(sender) and (line.brief or len(line) < self._local_waiters)
        )

    async def _parked(
        self,
        line: Line,
        app: str,
        api: str,
        lane: Lane,
        costs: Mapping[str, int],
        sender: str,
        *,
        returning: bool,
        place: str,
    ) -> Parked:
        queue: buckets.ParkedQueue = "again" if returning else "tail"
        charges = [costs.get(rule.unit, 0) for rule in line.rules]
        call = buckets.park(
            line.rules,
            lane,
            charges,
            queue,
            f"{app}/{sender}",
            place=place,
            seats=costs.get("recipients", 0),
        )
        micros, reason = await run_async(self._redis, call)
        due_in = micros / MICRO
        if not returning:
            line.noted(sender, due_in)
        pause = reason.decode()
        why = f"{api} is paused: {pause}" if pause else f"the limit of {api}"
        return Parked(max(SOONEST, due_in - LEAD), why)
