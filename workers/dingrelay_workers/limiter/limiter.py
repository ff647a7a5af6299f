"""The limiter: a call leaves when every rule of DingTalk lets it, counted over the whole fleet.

A call waits here for seconds at most. Before it, in this order, go the urgent calls, those of
this process whose turn is earlier (senders take turns), and those of other processes that got
their slots. What would wait longer is parked until its sender's turn (`turns.py`).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store.scripts import run_async
from dingrelay_tasks.contract import Lane
from dingrelay_workers.dingtalk.apis import TOKEN
from dingrelay_workers.dingtalk.errors import UNREACHABLE, DingTalkError, Held, Throttled
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.breakers import NEEDED, Breakers, Circuit
from dingrelay_workers.limiter.buckets import MICRO, BucketState, UnreportedAnswers
from dingrelay_workers.limiter.grant import Draining, Grant, Outage, Parked, Turn
from dingrelay_workers.limiter.latency import LatencyEstimator
from dingrelay_workers.limiter.rules import JITTER, LARGEST_COST, Rule, Rules
from dingrelay_workers.limiter.slot_request import SlotRequest
from dingrelay_workers.limiter.turns import Turns
from dingrelay_workers.limiter.wait_queue import WaitQueue

RETURNING_SHARE = 4
"""Local waiters are so many times as many where they were parked already: their turn is near."""
MOST_QUEUES = 1_000
"""Queues of waiting calls that are kept before those are forgotten where no call waits."""
SOONEST = 0.1
"""Seconds that a job is parked at least."""
REASON = 200
"""Characters of an error that are kept as the reason of an outage."""

log = get_logger("dingrelay.limiter")


@contextmanager
def _despite_redis_errors(of: str) -> Generator[None]:
    """Update the limits after a call: the call's own outcome must not be lost with an update.

    A lost update costs a probe more, or a throttle that the next call meets itself.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        log.warning("limit_update_failed", of=of, reason=type(error).__name__)


class Limiter:
    """The buckets of the fleet, seen from one process and its event loop."""

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        *,
        max_wait: float,
        local_waiters: int,
        breakers: Breakers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing to Redis yet.

        Args:
            redis: where the buckets are.
            rules: the limits to keep.
            max_wait: seconds a call may wait here before it is parked.
            local_waiters: calls of one API and lane that may wait here at a time.
            breakers: of the fleet; None for calls that pass none and whose answers are not reported.
            clock: seconds that only grow.
        """
        self._redis = redis
        self._rules = rules
        self._max_wait = max_wait
        self._local_waiters = local_waiters
        self._clock = clock
        self.breakers = breakers or Breakers(redis, rules)
        self._listens = breakers is not None
        self._wait_queues: dict[tuple[str, str, str, Lane, str], WaitQueue] = {}
        self._latencies: defaultdict[tuple[str, str], LatencyEstimator] = defaultdict(
            LatencyEstimator
        )
        self._unreported: defaultdict[tuple[str, str], UnreportedAnswers] = defaultdict(
            UnreportedAnswers
        )
        self._suspected: set[Circuit] = set()
        self._draining = False

    async def acquire(
        self,
        app: str,
        api: str,
        *,
        lane: Lane,
        request: SlotRequest,
        sender: str = "",
        waited: float = 0,
        returning: bool = False,
        woken: str = "",
        shared: str = "",
        host: str = "oapi",
        breaker: str = "",
    ) -> Grant:
        """Wait until the call may leave.

        Args:
            app: for which the call is.
            api: the API's name in the rules, such as ``message.send``.
            lane: who goes first.
            request: what it asks for; it may be resized while it waits.
            sender: who asks; the senders of a lane share it evenly.
            waited: seconds that the job has waited for this call before.
            returning: the job was parked and woken in its sender's turn; it joins those who wait here.
            woken: the job, if it was woken for this call and not for an earlier one of the same run.
            shared: key of what is known of parked jobs that it could share a call with.
            host: whose API it calls.
            breaker: what its breaker is known by; empty if that is the API's name.

        Raises:
            Parked: its slot is too far away.
            Outage: a breaker before the call stands open.
            Draining: the worker stops.
            RedisError: the buckets can't be asked.
        """
        if self._draining:
            raise Draining
        wait_queue = self._wait_queue(app, api, host, lane, breaker or api)
        if self._admits(wait_queue, returning=returning):
            waiter = await wait_queue.slot(request, waited, sender, woken=woken)
            if waiter is not None:
                reply = waiter.reply
                return Grant(
                    app,
                    api,
                    waiter.charged,
                    waiter.probing,
                    waiter.waited,
                    waiter.starts,
                    host,
                    breaker,
                    sick=reply is not None and reply.sick,
                    trial=reply is not None and reply.trial,
                )
        wait_queue.parked = True
        raise await self._parked(
            Turns(app, api, lane), request.costs, sender, woken=woken, shared=shared
        )

    def wanted(self, turns: Turns, host: str, breaker: str) -> int:
        """How many parked jobs of a lane this process should have, so that no slot goes by unused."""
        wait_queue = self._wait_queues.get((turns.app, turns.api, host, turns.lane, breaker))
        return wait_queue.wanted if wait_queue and not self._draining else 0

    def recipients_per_call(self, app: str, api: str) -> int:
        """How many recipients a call may have: what DingTalk takes, or what a rule allows."""
        rule = self.recipients_rule(app, api)
        return rule.burst if rule else LARGEST_COST["recipients"]

    def recipients_rule(self, app: str, api: str) -> Rule | None:
        """The rule by which recipients of this API are limited; None if they are not."""
        return self._rules.recipients(app, api)

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
        spread = self._latencies[app, api].spread
        micros, _ = await run_async(self._redis, buckets.penalize(rule, pause, reason, spread))
        if not micros:
            return
        # The slots given out here are void at once; other processes see it at their next request.
        for wait_queue in self._wait_queues.values():
            if rule in wait_queue.rules:
                wait_queue.revoke_slots()

    async def answered(self, grant: Grant) -> None:
        """A call was answered sanely, and not with a throttle.

        Costs a round trip only for a probe, or where sick answers were met before.
        """
        took = self._clock() - grant.left
        self._latencies[grant.app, grant.api].add(took)
        self._unreported[grant.app, grant.api].add(took)
        with _despite_redis_errors("an answer"):
            if grant.probing:
                rules = self._rules.of(grant.app, grant.api)
                await run_async(self._redis, buckets.succeed(rules))
            await self._recovered(grant)

    async def failed(self, grant: Grant, error: DingTalkError) -> float:
        """A call failed: tell the fleet what it means, and the error whether it is an outage.

        Args:
            grant: under which the call left.
            error: how it ended.

        Returns:
            Seconds to the next probe, if it is an outage or the app is held. 0 too where Redis
            can't be reached: the error stands for itself then.
        """
        with _despite_redis_errors(error.name):
            return await self._report(grant, error)
        return 0.0

    async def _report(self, grant: Grant, error: DingTalkError) -> float:
        circuit = self._circuit(grant)
        reason = f"{error.code}: {error.message}"[:REASON]
        match error:
            case Throttled() if not error.alone:
                await self.throttled(
                    grant.app,
                    grant.api,
                    pause=error.pause,
                    everything=error.everything,
                    reason=error.code,
                )
                await self._recovered(grant)
                return 0.0
            case Held():
                self._suspected.add(circuit)
                # A call made directly by a user may be refused for its content.
                sickness = await self.breakers.sick(
                    circuit,
                    "held",
                    trial=grant.trial,
                    needed=NEEDED if error.verbatim else 1,
                    code=error.code,
                    reason=reason,
                )
            case _ if error.sick:
                self._suspected.add(circuit)
                symptom = "cut" if error.code == UNREACHABLE else error.sick
                sickness = await self.breakers.sick(
                    circuit,
                    symptom,
                    trial=grant.trial,
                    needed=1 if grant.api == TOKEN.name else NEEDED,
                    reason=reason,
                )
            case _:
                await self.answered(grant)
                return 0.0
        if sickness.outage:
            error.outage = circuit.name
        return sickness.wait

    async def forgone(self, grant: Grant) -> None:
        """The call did not leave: if it was a probe, another one is needed."""
        if grant.trial:
            await self._forgone(self._circuit(grant))

    async def _forgone(self, circuit: Circuit) -> None:
        with _despite_redis_errors("a probe that did not leave"):
            await self.breakers.sick(circuit, "forgone", trial=True)

    async def trial(self, app: str, api: str, host: str) -> Grant:
        """Permission for a call that no other makes at the same time, and that waits for no slot.

        Raises:
            Outage: a breaker before it stands open.
            Parked: the API is paused.
        """
        rules = self._rules.of(app, api)
        circuit = self.breakers.circuit(app, api, host)
        reply = await buckets.ask(
            self._redis,
            rules,
            "urgent",
            [buckets.Ask(tuple(int(rule.unit == "calls") for rule in rules))],
            circuit=circuit.keys,
            pace=self.breakers.pace,
            unreported=self._unreported[app, api].take(),
        )
        if reply.outage:
            raise Outage(circuit.name, reply.outage, reply.reason, reply.wait)
        if not reply.starts:
            raise Parked(max(SOONEST, reply.wait), f"{api} is paused: {reply.reason}")
        return Grant(
            app,
            api,
            {"calls": 1},
            reply.probing,
            left=self._clock(),
            host=host,
            sick=reply.sick,
            trial=reply.trial,
        )

    async def _recovered(self, grant: Grant) -> None:
        """Tell of a sane answer where the fleet waits for one."""
        circuit = self._circuit(grant)
        if grant.sick or grant.trial or circuit in self._suspected:
            await self.breakers.sane(circuit, trial=grant.trial)
            self._suspected.discard(circuit)

    def _circuit(self, grant: Grant) -> Circuit:
        return self.breakers.circuit(grant.app, grant.breaker or grant.api, grant.host)

    def stale(self, grant: Grant) -> bool:
        """Whether the slot came too long ago for a call whose recipients are counted.

        A process that was stopped with it would call in a window that was given to others.
        """
        return bool(self._counted(grant)) and self._clock() - grant.left > JITTER

    async def over(self, grant: Grant) -> None:
        """A call has ended: charge again what may have arrived long after its slot.

        DingTalk counts recipients when a call arrives, at any time before its answer. Charged at
        both ends it is within every window that holds it. Costs a round trip for slow calls only.
        """
        rule = self._counted(grant)
        if rule and self.stale(grant):
            call = buckets.charge(rule, grant.costs["recipients"])
            with _despite_redis_errors("a slow call"):
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
        for wait_queue in self._wait_queues.values():
            wait_queue.fail(Draining())

    async def close(self) -> None:
        """Drain, and leave no task behind. The connection stays the caller's."""
        self.drain()
        for wait_queue in self._wait_queues.values():
            await wait_queue.close()

    def _wait_queue(self, app: str, api: str, host: str, lane: Lane, breaker: str) -> WaitQueue:
        wait_queue = self._wait_queues.get((app, api, host, lane, breaker))
        if wait_queue is None:
            if len(self._wait_queues) >= MOST_QUEUES:
                self._wait_queues = {k: q for k, q in self._wait_queues.items() if not q.idle}
            circuit = self.breakers.circuit(app, breaker, host)
            wait_queue = self._wait_queues[app, api, host, lane, breaker] = WaitQueue(
                self._redis,
                self._rules.of(app, api),
                lane,
                max_wait=self._max_wait,
                turns=Turns(app, api, lane),
                clock=self._clock,
                circuit=circuit if self._listens else None,
                pace=self.breakers.pace,
                unreported=self._unreported[app, api] if self._listens else None,
                forgone=lambda: self._forgone(circuit),
            )
        return wait_queue

    def _admits(self, wait_queue: WaitQueue, *, returning: bool) -> bool:
        if returning:
            return len(wait_queue) < self._local_waiters * RETURNING_SHARE
        # No call overtakes the parked ones, but with an empty queue a slot would go unused.
        return not wait_queue or (
            not wait_queue.parked and (wait_queue.brief or len(wait_queue) < self._local_waiters)
        )

    async def _parked(
        self, turns: Turns, costs: Mapping[str, int], sender: str, *, woken: str, shared: str
    ) -> Parked:
        rules = self._rules.of(turns.app, turns.api)
        recipients = costs.get("recipients", 0)
        call = buckets.park(
            rules,
            turns,
            [costs.get(rule.unit, 0) for rule in rules],
            sender,
            woken=woken,
            shared=shared,
            recipients=recipients,
        )
        micros, pause, had = await run_async(self._redis, call)
        limit = f"{turns.api} is paused: {pause.decode()}" if pause else f"the limit of {turns.api}"
        return Parked(max(SOONEST, micros / MICRO), limit, Turn(turns, had.decode(), recipients))
