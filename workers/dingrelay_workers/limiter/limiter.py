"""The limiter: a call leaves when every rule of DingTalk lets it, counted over the whole fleet.

A call waits here for seconds at most. Before it, in this order, go the urgent calls, those of
this process whose turn is earlier (senders take turns), and those of other processes that got
their slots. What would wait longer is parked until its sender's turn (`slot.py`).
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store.scripts import run_async
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.apis import TOKEN
from dingrelay_workers.dingtalk.errors import (
    UNREACHABLE,
    DingTalkError,
    Held,
    Throttled,
    TokenInvalid,
)
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.breakers import NEEDED, Breakers, Circuit
from dingrelay_workers.limiter.buckets import MICRO, BucketState, SaneAnswers
from dingrelay_workers.limiter.rules import JITTER, LARGEST_COST, Rule, Rules
from dingrelay_workers.limiter.slot import Draining, Outage, Parked, Slot, SlotRequest, Turn, Turns
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


class Limiter:
    """The buckets of the fleet, seen from one process and its event loop."""

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        *,
        max_wait: float,
        local_waiters: int,
        breakers: Breakers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing to Redis yet.

        Args:
            redis: where the buckets are.
            rules: the limits to keep.
            max_wait: seconds a call may wait here before it is parked.
            local_waiters: calls of one API and lane that may wait here at a time.
            breakers: of the fleet.
            clock: seconds that only grow.
        """
        self._redis = redis
        self._rules = rules
        self._max_wait = max_wait
        self._local_waiters = local_waiters
        self._clock = clock
        self.breakers = breakers
        self._wait_queues: dict[tuple[Turns, str, str, str], WaitQueue] = {}
        self._answers: defaultdict[tuple[str, str], SaneAnswers] = defaultdict(SaneAnswers)
        self._suspected: set[Circuit] = set()
        self._draining = False

    async def acquire(self, request: SlotRequest) -> Slot:
        """Wait until the call may leave. Its end is to be reported.

        Raises:
            Parked: its slot is too far away.
            Outage: a breaker before the call stands open.
            Draining: the worker stops.
            RedisError: the buckets can't be asked.
        """
        if self._draining:
            raise Draining
        wait_queue = self._wait_queue(request)
        if self._admits(wait_queue, returning=request.returning):
            slot = await wait_queue.slot(request)
            if slot is not None:
                return slot
        wait_queue.parked = True
        raise await self._parked(request)

    def wanted(self, request: SlotRequest) -> int:
        """How many parked jobs of a lane this process should have, so that no slot goes by unused."""
        wait_queue = self._wait_queues.get((request.turns, *request.circuit))
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
        spread = self._answers[app, api].spread
        micros, _ = await run_async(self._redis, buckets.penalize(rule, pause, reason, spread))
        if not micros:
            return
        # The slots given out here are void at once; other processes see it at their next request.
        for wait_queue in self._wait_queues.values():
            if rule in wait_queue.rules:
                wait_queue.revoke_slots()

    async def report(self, slot: Slot, error: BaseException | None = None) -> float:
        """A call is over, or does not leave: report to the fleet what that means.

        Costs no round trip where all is well: only for a probe, a slow call, or where sick answers were
        met before. Where Redis can't be reached the call's own outcome stands: a lost report costs a
        probe more, or a throttle that the next call meets itself.

        Args:
            slot: under which the call left.
            error: how it ended, or why it does not leave; an outage is noted in it.

        Returns:
            Seconds to the next probe, if it is an outage or the app is held.
        """
        try:
            return await self._report(slot, error)
        except (RedisError, OSError) as trouble:
            call = error.name if isinstance(error, DingTalkError) else "a call"
            log.warning("limit_update_failed", of=call, reason=type(trouble).__name__)
            return 0.0

    async def _report(self, slot: Slot, error: BaseException | None) -> float:
        circuit, turns = self._circuit(slot.request), slot.request.turns
        wait, sane, probed = 0.0, False, False
        match error:
            case Throttled() if not error.alone and not error.unsent:
                await self.throttled(
                    *turns[:2], pause=error.pause, everything=error.everything, reason=error.code
                )
                sane = True
            case DingTalkError() if (isinstance(error, Held) or error.sick) and not error.unsent:
                wait = await self._failed(slot, circuit, error)
            # A refused token is no answer of the API: its call is made again in another slot.
            case None | DingTalkError() if slot.sent and not (
                error and (error.unsent or isinstance(error, TokenInvalid))
            ):
                self._answers[turns.app, turns.api].add(self._clock() - slot.at)
                sane, probed = True, slot.probing
            case _ if slot.trial:
                # It does not leave, or its answer is lost with its job: another probe is needed.
                await self.breakers.probe_unused(circuit)
            case _:
                pass
        sane = sane and (slot.sick or slot.trial or circuit in self._suspected)
        # DingTalk counts a call when it arrives, at any time before its answer. Charged at both ends, a slow
        # call is within every window that holds it.
        charged = self._late(slot) if slot.sent else None
        if sane or probed or charged:
            call = buckets.ended(
                self._rules.of(turns.app, turns.api),
                circuit=circuit.keys,
                probed=probed,
                sane=sane,
                trial=slot.trial,
                charged=charged,
            )
            self.breakers.note_closed(circuit, await run_async(self._redis, call))
        if sane:
            self._suspected.discard(circuit)
        return wait

    async def _failed(self, slot: Slot, circuit: Circuit, error: DingTalkError) -> float:
        """A call failed; seconds to the next probe. An outage is noted in its error."""
        self._suspected.add(circuit)
        held = isinstance(error, Held)
        # A call made directly by a user may be refused for its content. A token has no content.
        alone = error.verbatim is None if held else slot.request.turns.api == TOKEN.name
        message = error.message if len(error.message) <= REASON else error.message[:REASON]
        verdict = await self.breakers.sick(
            circuit,
            "held" if held else "cut" if error.code == UNREACHABLE else error.sick or "answer",
            trial=slot.trial,
            needed=1 if alone else NEEDED,
            code=error.code if held else "",
            reason=en("{}: {}", error.code, message),
        )
        if verdict.outage:
            error.outage = circuit.name
        return verdict.wait

    async def trial(self, app: str, api: str, host: str) -> Slot:
        """Permission for a call that no other makes at the same time, and that waits for no slot.

        Raises:
            Outage: a breaker before it stands open.
            Parked: the API is paused.
        """
        request = SlotRequest(Turns(app, api, "urgent"), host=host)
        rules, circuit = self._rules.of(app, api), self._circuit(request)
        call = buckets.acquire(
            rules,
            "urgent",
            [buckets.Ask(buckets.costs(rules, 0))],
            circuit=circuit.keys,
            pace=self.breakers.pace,
            unreported=self._answers[app, api].take(),
        )
        reply = await buckets.ask(self._redis, call)
        if reply.outage:
            raise Outage(circuit.name, reply.outage, reply.reason, reply.wait)
        if not reply.starts:
            raise Parked(max(SOONEST, reply.wait), en("{} is paused: {}", api, reply.reason))
        buckets.count_taken(rules, 0)
        return Slot(
            request, at=self._clock(), probing=reply.probing, sick=reply.sick, trial=reply.trial
        )

    def _circuit(self, request: SlotRequest) -> Circuit:
        return self.breakers.circuit(*request.circuit)

    def stale(self, slot: Slot) -> bool:
        """Whether the slot came too long ago for a call that may not be late.

        A process that was stopped with it would call in a window that was given to others.
        """
        late = self._late(slot)
        # Calls one by one may be late by some of them: each is charged again, so the next ones leave later.
        return late is not None and self._clock() - slot.at > late[0].window / 2 * late[0].even

    def _late(self, slot: Slot) -> tuple[Rule, float] | None:
        """The rule that a late call would break in silence or for minutes, and what it takes of it; None if it is on time."""
        request = slot.request
        calls = self._rules.of(request.turns.app, request.turns.api)[0]
        if calls.even and calls.rate:
            late = self._clock() - slot.due  # so much later the next ones leave
            return (calls, min(1.0, late * calls.rate)) if late > JITTER else None
        recipients = self.recipients_rule(request.turns.app, request.turns.api)
        if recipients is None or not request.recipients or self._clock() - slot.at <= JITTER:
            return None
        return recipients, request.recipients

    async def waits(self, app: str, apis: Sequence[str]) -> list[float]:
        """Seconds until a call of each of these APIs could leave, about; those that wait here are before it."""
        rules = [self._rules.of(app, api)[0] for api in apis]
        bucket_waits = await buckets.read_waits(self._redis, rules)
        waiting = Counter[str]()
        for wait_queue in self._wait_queues.values():
            waiting[wait_queue.rules[0].key] += len(wait_queue)
        return [
            wait + waiting[rule.key] / (rule.rate or math.inf)
            for wait, rule in zip(bucket_waits, rules, strict=True)
        ]

    async def states(self) -> list[BucketState]:
        """Every bucket of the fleet as it stands."""
        return await buckets.read_buckets(self._redis, self._rules)

    def drain(self) -> None:
        """Let nothing leave any more: who waits, and who comes later, gets `Draining`."""
        self._draining = True
        for wait_queue in self._wait_queues.values():
            wait_queue.fail(Draining())

    async def close(self) -> None:
        """Drain, and leave no task behind. The connection stays the caller's."""
        self.drain()
        for wait_queue in self._wait_queues.values():
            await wait_queue.stop()

    def _wait_queue(self, request: SlotRequest) -> WaitQueue:
        name = request.turns, *request.circuit
        wait_queue = self._wait_queues.get(name)
        if wait_queue is None:
            if len(self._wait_queues) >= MOST_QUEUES:
                self._wait_queues = {k: q for k, q in self._wait_queues.items() if not q.idle}
            turns = request.turns
            wait_queue = self._wait_queues[name] = WaitQueue(
                self._redis,
                self._rules.of(turns.app, turns.api),
                turns,
                max_wait=self._max_wait,
                clock=self._clock,
                circuit=self._circuit(request),
                breakers=self.breakers,
                answers=self._answers[turns.app, turns.api],
            )
        return wait_queue

    def _admits(self, wait_queue: WaitQueue, *, returning: bool) -> bool:
        if returning:
            return len(wait_queue) < self._local_waiters * RETURNING_SHARE
        # No call overtakes the parked ones, but with an empty queue a slot would go unused.
        return not wait_queue or (
            not wait_queue.parked and (wait_queue.brief or len(wait_queue) < self._local_waiters)
        )

    async def _parked(self, request: SlotRequest) -> Parked:
        turns, rules = request.turns, self._rules.of(request.turns.app, request.turns.api)
        call = buckets.park(
            rules,
            turns,
            buckets.costs(rules, request.recipients),
            request.sender,
            woken=request.woken,
            shared=request.shared,
            recipients=request.recipients,
        )
        micros, pause, had = await run_async(self._redis, call)
        limit = (
            en("{} is paused: {}", turns.api, pause.decode())
            if pause
            else en("the limit of {}", turns.api)
        )
        turn = Turn(turns, had.decode(), request.recipients)
        return Parked(max(SOONEST, micros / MICRO), limit, turn)
