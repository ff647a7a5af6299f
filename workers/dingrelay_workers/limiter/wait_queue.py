"""The local waiters of one rule set and lane: they leave in turn, and only the head requests slots.

Senders take turns; a sender's own waiters are served as they came. Jobs that were parked are served as
they were woken, which is in turn over the whole fleet.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from redis.asyncio import Redis

from dingrelay_workers.limiter.breakers import Breakers, Circuit
from dingrelay_workers.limiter.buckets import (
    Ask,
    Reply,
    SaneAnswers,
    acquire,
    ask,
    costs,
    count_taken,
)
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.slot import Outage, Slot, SlotRequest, Turns

AHEAD = 0.05
"""Seconds of slots that a process reserves at a time, so that a penalty finds few of them out."""
EARLY = 0.02
"""Seconds before a slot at which it is asked for: none passes by while a question is under way.

A little less than what bulk may look ahead (`acquire.lua`).
"""
LEAST_SLEEP = 0.012
"""Seconds of held slots at which the next are requested where slots are closer than that."""
TICK = 0.0005
"""Seconds that are not worth a timer, which is late by more."""
FAR = 0.1
"""Seconds; a slot further away than this is confirmed before it is used: a pause or a late call may have voided it."""
BRIEF = 0.25
"""Seconds of waiting that are not worth parking for."""
BATCH = 100
"""Most waiters in one request to the buckets."""
MANY = 1000
"""Senders that are remembered before those that are done are forgotten."""
AGED = 10.0
"""Seconds of waiting after which a job may reserve a slot whatever its lane."""


class Waiter:
    """One call that wants to leave.

    Attributes:
        slot: what it gets; the size of its request is read for each question to the buckets.
        since: since when it waits, on the limiter's clock.
        deadline: the time at which it is parked instead.
        future: whether its slot has come; False for none within its time.
        turn: its place in the order: each waiter of a sender comes one turn after the last one.
        timer: fires at its slot; None once it has.
        unconfirmed: its slot is so far away that it may be voided before.
        voids: how often slots had been voided when it was given its own.
    """

    __slots__ = ("deadline", "future", "since", "slot", "timer", "turn", "unconfirmed", "voids")

    def __init__(self, request: SlotRequest, turn: int, since: float, deadline: float) -> None:
        self.slot = Slot(request)
        self.turn = turn
        self.since = since
        self.deadline = deadline
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.unconfirmed = False
        self.voids = 0


class WaitQueue:
    """Waiters in order, and a task that asks for the first of them while there are any.

    Attributes:
        rules: under which they wait.
        parked: jobs of the lane are parked, as far as this process has heard.
    """

    def __init__(
        self,
        redis: Redis,
        rules: Sequence[Rule],
        turns: Turns,
        *,
        max_wait: float,
        circuit: Circuit,
        breakers: Breakers,
        answers: SaneAnswers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing yet.

        `turns` is the lane in which the senders take turns, `circuit` what of the `breakers` is before the calls.
        """
        self.rules = rules
        self._circuit = circuit
        self._breakers = breakers
        self._answers = answers
        self._reporting: set[asyncio.Task[None]] = set()
        self._redis = redis
        self._max_wait = max_wait
        self._taking_turns = turns
        self._clock = clock
        self._waiters: dict[Waiter, None] = {}  # by turn
        self._turn = 0
        self._turns: dict[str, int] = {}
        self._held: dict[Waiter, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._asleep_until = 0.0
        self.parked = False
        self._spacing = max((1 / rule.rate for rule in rules if rule.rate), default=0.0)

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def idle(self) -> bool:
        """Whether nothing waits here, and nothing is under way."""
        return not (self._waiters or self._held or self._reporting) and (
            self._asking is None or self._asking.done()
        )

    @property
    def brief(self) -> bool:
        """Whether a new waiter has its turn sooner than it could be parked and be back."""
        return len(self._waiters) * self._spacing < BRIEF

    @property
    def wanted(self) -> int:
        """How many more waiters there should be while jobs of the lane are parked."""
        if not self.parked or not self._spacing:
            return 0
        return min(BATCH, math.ceil(BRIEF / self._spacing)) - len(self._waiters)

    async def slot(self, request: SlotRequest) -> Slot | None:
        """Wait for a slot to come; None if none comes in time.

        Raises:
            Draining: the worker stops.
            RedisError: the buckets can't be asked.
        """
        now = self._clock()
        turn = self._last_turn() if request.woken else self._next_turn(request.sender)
        waiter = Waiter(request, turn, now - request.waited, now + self._max_wait)
        self._enter(waiter)
        self._ask_buckets()
        # The next slot is guessed from the rule that refills slowest, of which tokens may be left.
        if self._asleep_until - now > BRIEF:
            self._wake.set()
        try:
            came = await waiter.future
        except BaseException:
            self._release_unused(waiter)
            raise
        finally:
            self._leave(waiter)
        return waiter.slot if came else None

    def revoke_slots(self, voids: int | None = None) -> None:
        """Take back the slots that have not come: all of them, or those that were voided since they were given.

        `voids` is how often that has happened by now (`Reply.voids`).
        """
        revoked = sorted((w for w in self._held if w.voids != voids), key=_start)
        if not revoked:
            return
        for waiter in revoked:
            self._unhold(waiter)
            self._release_unused(waiter)
            if not waiter.future.done():
                self._enter(waiter)
        self._ask_buckets()
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End every waiter, with a slot or without, with this error."""
        self._fail_waiters([*self._waiters, *self._held], error)

    def _await_end(self, outage: Outage) -> None:
        """Let all wait elsewhere but a probe that is to leave here: the fleet waits for it."""
        self._fail_waiters([w for w in [*self._waiters, *self._held] if not w.slot.trial], outage)
        self._confirm()

    def _fail_waiters(self, waiters: Iterable[Waiter], error: Exception) -> None:
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
            self._leave(waiter)
        self._wake.set()

    async def stop(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await asyncio.gather(*self._reporting, return_exceptions=True)

    def _next_turn(self, sender: str) -> int:
        if len(self._turns) > MANY:
            self._turns = {name: turn for name, turn in self._turns.items() if turn > self._turn}
        turn = self._turns[sender] = max(self._turn, self._turns.get(sender, 0)) + 1
        return turn

    def _last_turn(self) -> int:
        """Behind all that wait: jobs that were woken in their senders' turns keep that order."""
        last = next(reversed(self._waiters), None)
        return max(self._turn, last.turn if last else 0) + 1

    def _enter(self, waiter: Waiter) -> None:
        """Let it wait, in its turn."""
        last = next(reversed(self._waiters), None)
        self._waiters[waiter] = None
        if last is not None and waiter.turn < last.turn:
            self._waiters = dict.fromkeys(sorted(self._waiters, key=lambda waiter: waiter.turn))

    def _remove(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def _leave(self, waiter: Waiter) -> None:
        self._remove(waiter)
        self._unhold(waiter)

    def _unhold(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        self._held.pop(waiter, None)

    def _release_unused(self, waiter: Waiter) -> None:
        """Have it reported that a probe does not leave: the fleet would wait for its answer."""
        if waiter.slot.trial:
            report = self._breakers.probe_unused(self._circuit)
            task = asyncio.get_running_loop().create_task(report)
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)
        waiter.slot.trial = False

    def _ask_buckets(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._keep_asking())

    async def _keep_asking(self) -> None:
        try:
            while self._waiters or any(waiter.unconfirmed for waiter in self._held):
                await self._ask_once()
        except Exception as error:  # noqa: BLE001 - any error must reach the waiters
            self.fail(error)

    async def _ask_once(self) -> None:
        """One question to the buckets, and what follows from the answer."""
        front = list(islice(self._waiters, self._at_once()))
        now = queried_at = self._clock()
        asks: list[Ask] = []
        for waiter in front:
            slot, request = waiter.slot, waiter.slot.request
            slot.paid = request.recipients
            aged = now - waiter.since >= AGED
            asks.append(Ask(costs(self.rules, slot.paid), aged, request.woken, request.sender))
        self._wake.clear()
        call = acquire(
            self.rules,
            self._taking_turns.lane,
            asks,
            circuit=self._circuit.keys,
            pace=self._breakers.pace,
            unreported=self._answers.take(),
            max_wait=self._max_wait,
            turns=self._taking_turns,
        )
        reply = await ask(self._redis, call)
        if reply.outage:
            self._await_end(Outage(self._circuit.name, reply.outage, reply.reason, reply.wait))
            return
        now = self._clock()
        self.parked = reply.parked > 0
        self._spacing = reply.slot or self._spacing
        self.revoke_slots(reply.voids)
        self._confirm()
        for waiter, start in zip(front, reply.starts, strict=False):
            waiter.slot.due = queried_at + start
            count_taken(self.rules, waiter.slot.paid)
            self._give(waiter, start, reply)
        for waiter in front[len(reply.starts) :]:
            waiter.slot.waited = True
        if reply.wait:
            self._dismiss(now + reply.wait)
        await self._sleep(reply)

    def _at_once(self) -> int:
        return min(BATCH, max(1, math.ceil(AHEAD / self._spacing))) if self._spacing else BATCH

    def _give(self, waiter: Waiter, start: float, reply: Reply) -> None:
        self._remove(waiter)
        slot = waiter.slot
        slot.probing, slot.sick, slot.trial = reply.probing, reply.sick, reply.trial
        if waiter.future.done():  # it gave up during the request
            self._release_unused(waiter)
            return
        self._turn = max(self._turn, waiter.turn)
        now = self._clock()
        start = self._behind_those_before(now, start)
        slot.at = now + start
        # It may have had an unconfirmed slot before, which was taken back.
        waiter.unconfirmed, waiter.voids = start > FAR, reply.voids
        if start <= TICK:
            self._release_waiter(waiter)
            return
        slot.waited = True
        self._held[waiter] = None
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(start, self._release_waiter, waiter)

    def _behind_those_before(self, now: float, start: float) -> float:
        """Seconds until a slot, at least those of the slots before it.

        Slots are counted from when an answer is read, and the one before may have been read late.
        """
        last = max(map(_start, self._held), default=now) - now
        return last if start < last < start + FAR else start

    def _confirm(self) -> None:
        """They were not voided in between: the slots stand, and those that are due are used.

        A timer may fire a little before the clock gets there.
        """
        now = self._clock()
        for waiter in sorted(self._held, key=_start):
            waiter.unconfirmed = False
            if waiter.timer is None or waiter.slot.at <= now:
                self._release(waiter)

    def _release_waiter(self, waiter: Waiter) -> None:
        """Let a waiter leave whose slot has come. On a loop that is behind, those before it may not have left yet.

        One that is not confirmed yet waits for the answer, which is late.
        """
        waiter.timer = None
        for held in [held for held in self._held if held.slot.at <= waiter.slot.at]:
            if not held.unconfirmed:
                self._release(held)
        if not waiter.unconfirmed:
            self._release(waiter)

    def _release(self, waiter: Waiter) -> None:
        self._unhold(waiter)
        if not waiter.future.done():
            waiter.future.set_result(True)

    def _dismiss(self, next_slot: float) -> None:
        """End the waiting of those that will get no slot in time."""
        for waiter in list(self._waiters):
            if next_slot > waiter.deadline:
                if not waiter.future.done():
                    waiter.future.set_result(False)
                self._remove(waiter)
            else:
                next_slot += self._spacing

    async def _sleep(self, reply: Reply) -> None:
        """Sleep until the next question makes sense, or something happened."""
        if not self._waiters and not self._held:
            return
        now = self._clock()
        until = now + reply.wait
        if self._held:
            last = max(map(_start, self._held))
            until = max(until, last + max(self._spacing - EARLY, -LEAST_SLEEP))
            if unconfirmed := [waiter for waiter in self._held if waiter.unconfirmed]:
                until = min(until, min(map(_start, unconfirmed)) - EARLY)
        if until > now:
            self._asleep_until = until
            with suppress(TimeoutError):
                async with asyncio.timeout(until - now):
                    await self._wake.wait()


def _start(waiter: Waiter) -> float:
    """The time of its slot."""
    return waiter.slot.at
