"""Two limiters on one Valkey, as two worker processes, in real time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.store.keys import bucket
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import wait_queue
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.buckets import Reply, ask
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import Draining, Parked, Slot, SlotRequest, Turns
from support.outages import eventually

API = "message.send"
FAST = {"*": {"calls": "200/1s"}, API: {"recipients": "100000/1s"}}
SLOW = {"*": {"calls": "2/1s"}}
PAUSE = 0.005
STALL = 0.05
"""Seconds that a process does not run and an answer of Redis waits, by which its slots come later."""

Process = Callable[..., Limiter]


@pytest.fixture
async def process(valkey_url: str) -> AsyncIterator[Process]:
    """Start the limiter of one more process."""
    made: list[tuple[Limiter, Redis]] = []

    def make(
        overrides: dict[str, dict[str, str]] = FAST,
        *,
        max_wait: float = 5,
        local_waiters: int = 10_000,
    ) -> Limiter:
        redis = Redis.from_url(valkey_url)
        rules = Rules.from_settings(overrides, "office")
        limiter = Limiter(
            redis,
            rules,
            max_wait=max_wait,
            local_waiters=local_waiters,
            breakers=Breakers(redis, rules),
        )
        made.append((limiter, redis))
        return limiter

    yield make
    for limiter, redis in made:
        await limiter.close()
        await redis.aclose()


def to_one(lane: Lane = "normal", *, returning: bool = False, sender: str = "") -> SlotRequest:
    """A call to one person."""
    return SlotRequest(Turns("default", API, lane), 1, sender=sender, returning=returning)


async def call(
    limiter: Limiter, lane: Lane = "normal", *, returning: bool = False, sender: str = ""
) -> float:
    """Acquire; when the call left. It is answered at once, but for a probe."""
    slot = await limiter.acquire(to_one(lane, returning=returning, sender=sender))
    slot.sent = not slot.probing
    await limiter.report(slot)
    return time.monotonic()


def queue_of(lane: Lane) -> tuple[Turns, str, str, str]:
    """The name of the wait queue of such calls."""
    request = to_one(lane)
    return (request.turns, *request.circuit)


async def through_in(redis: Redis) -> float:
    """Seconds until those that must park are through."""
    tails = [
        float(value)
        for name, value in (await redis.hgetall(bucket("app:default", API, "calls"))).items()
        if name.startswith(b"tail:")
    ]
    return max(tails) / 1e6 - datetime.now(UTC).timestamp()


async def somebody_parked(redis: Redis) -> None:
    """A job of a sender that has had three seconds of the limit waits for its turn."""
    turns = Turns("default", API, "bulk")
    await redis.zadd(turns.key, {"many": 3.0})
    await redis.expire(turns.key, 60)


async def questions(redis: Redis) -> int:
    """Scripts that Redis has run so far."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


@asynccontextmanager
async def callers(
    *limiters: Limiter, each: int, lane: Lane = "normal", returning: bool = False
) -> AsyncIterator[list[asyncio.Task[float]]]:
    """Calls that wait; those that still do are cancelled when the block ends."""
    tasks = [
        asyncio.create_task(call(limiter, lane, returning=returning))
        for _ in range(each)
        for limiter in limiters
    ]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ended(tasks: Sequence[asyncio.Task[Any]], least: int = 1) -> int:
    """How many have ended, once there are so many."""
    await eventually(lambda: sum(task.done() for task in tasks) >= least)
    return sum(task.done() for task in tasks)


@pytest.mark.parametrize("lane", ["urgent", "normal", "bulk"])
async def test_the_fleet_keeps_and_uses_the_limit(process: Process, lane: Lane) -> None:
    fleet = [process(max_wait=60), process(max_wait=60)]
    left = sorted(await asyncio.gather(*(call(fleet[n % 2], lane) for n in range(400))))
    began = left[0]
    in_two_windows = [sum(t <= at < t + 1 for at in left) for t in (began, began + 0.5)]
    # Timers are early or late, on a busy machine by more: the limit itself is checked on the
    # script's clock, in the unit tests.
    assert max(in_two_windows) <= 200 * 1.1
    # A process that never waited on itself takes two seconds; a busy machine takes it longer.
    assert left[-1] - began < 400 / 199 * 2


async def test_a_thousand_waiters_ask_as_one(process: Process, redis: Redis) -> None:
    limiter = process(max_wait=60)
    before = await questions(redis)
    async with callers(limiter, each=1000, lane="bulk") as tasks:
        await ended(tasks, 200)
        assert await questions(redis) - before <= 150


async def test_waiters_leave_in_the_order_they_came(process: Process) -> None:
    assert await undisturbed(lambda: leave(process())) == list(range(100))


async def test_a_late_answer_keeps_order(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = count()

    async def read_late(*arguments: Any, **options: Any) -> Reply:
        reply = await ask(*arguments, **options)
        if next(answers) == 0:
            time.sleep(0.05)  # noqa: ASYNC251 - the loop stands still
        return reply

    monkeypatch.setattr(wait_queue, "ask", read_late)
    assert await leave(process()) == list(range(100))


async def leave(limiter: Limiter) -> list[int]:
    """The order in which a hundred waiters left."""
    order: list[int] = []

    async def leaves(number: int) -> None:
        await call(limiter)
        order.append(number)

    await asyncio.gather(*(leaves(number) for number in range(100)))
    return order


async def undisturbed(act: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    """Results of a measurement during which the process was not suspended for long."""
    while True:
        async with stalls() as stall:
            found = await act()
        if max(stall) <= STALL:
            return found


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """Times for which the process does not run (s), as the list grows."""
    found = [0.0]

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(PAUSE)
            found.append(time.monotonic() - began - PAUSE)

    watching = asyncio.create_task(watch())
    try:
        yield found
    finally:
        watching.cancel()


async def test_senders_take_turns(process: Process) -> None:
    order = await undisturbed(lambda: take_turns(process()))
    began = order.index("few")
    assert order[began:].index("many") <= 1
    last = len(order) - 1 - order[::-1].index("few")
    assert last - began <= 20


async def take_turns(limiter: Limiter) -> list[str]:
    """Owners of the waiters that left, in order."""
    order: list[str] = []

    async def ask_as(sender: str) -> None:
        await call(limiter, sender=sender)
        order.append(sender)

    many = [asyncio.create_task(ask_as("many")) for _ in range(100)]
    await eventually(lambda: len(order) >= 10)
    few = [asyncio.create_task(ask_as("few")) for _ in range(10)]
    await asyncio.gather(*many, *few)
    return order


async def test_a_new_job_waits_behind_parked_ones(process: Process, redis: Redis) -> None:
    one, two = process(SLOW, local_waiters=1), process(SLOW, local_waiters=1)
    async with callers(one, two, each=4, lane="bulk", returning=True) as waiting:
        await ended(waiting)
        await somebody_parked(redis)
        queue = two._wait_queues[queue_of("bulk")]
        await eventually(lambda: queue.parked)
        with pytest.raises(Parked) as parked:
            await two.acquire(to_one("bulk", sender="few"))
    turn = parked.value.turn
    assert (turn.turns.name, turn.recipients) == ("default message.send bulk", 1)
    assert 3 < float(turn.had) < 3.1, "behind the one that is next, and for no other"


async def test_urgent_overtakes_a_broadcast(process: Process) -> None:
    fleet = [process({"*": {"calls": "20/1s"}}), process({"*": {"calls": "20/1s"}})]
    async with callers(*fleet, each=30, lane="bulk") as broadcast:
        before = await ended(broadcast, 3)
        await asyncio.gather(*(call(limiter, "urgent") for limiter in fleet))
        # Those whose slots were reserved already: up to a look ahead of each process.
        assert await ended(broadcast) - before <= 10


async def test_a_waiter_that_gives_up_holds_up_nobody(process: Process) -> None:
    limiter = process()
    async with callers(limiter, each=300) as tasks:
        await eventually(tasks[10].done)
        for task in tasks[20:290]:
            task.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(*tasks[:20], *tasks[290:])
    line = limiter._wait_queues[queue_of("normal")]
    assert (len(line), len(line._held)) == (0, 0)
    await eventually(lambda: line._asking is None or line._asking.done())


async def test_a_throttle_stops_the_other_process_too(process: Process, redis: Redis) -> None:
    one, two = process(), process()
    left: list[float] = []

    async def keep_calling(limiter: Limiter) -> None:
        while True:
            await call(limiter)
            left.append(time.monotonic())

    tasks = [asyncio.create_task(keep_calling(limiter)) for limiter in (one, two) for _ in range(8)]
    await eventually(lambda: len(left) > 40)
    await one.throttled("default", API, pause=0.5, everything=False, reason="43004")
    penalized = time.monotonic()
    await eventually(lambda: any(at > penalized + 0.45 for at in left))
    # What they had reserved in the 50 ms that they look ahead leaves, late on a busy machine: ten calls
    # each. Without a pause it would be ninety.
    assert len([at for at in left if penalized < at < penalized + 0.45]) <= 30
    # One probe each second until its answer is known.
    assert len([at for at in left if at >= penalized + 0.45]) == 1
    await one.report(Slot(to_one(), probing=True, sent=True))
    count = len(left)
    await eventually(lambda: len(left) > count + 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    (state,) = [s for s in await two.states() if (s.api, s.unit) == (API, "calls")]
    assert (state.throttles, state.reason, state.level) == (1, "43004", 0)
    assert state.rate < 199


@pytest.mark.parametrize("late", [0, 0.3])
async def test_a_reserved_slot_far_ahead_is_void_after_a_throttle_elsewhere(
    process: Process, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    async def ask_late(*args: Any, **options: Any) -> Reply:
        reply = await ask(*args, **options)
        await asyncio.sleep(late)  # so long the answer is under way
        return reply

    monkeypatch.setattr(wait_queue, "ask", ask_late)
    # Two seconds ahead: so long does no machine stand still between the two.
    rules = {"*": {"calls": "1/2s"}}
    one, two = process(rules), process(rules)
    assert await call(one)
    later = asyncio.create_task(call(one, "urgent"))
    line = one._wait_queues
    await eventually(lambda: len(line) == 2 and line[queue_of("urgent")]._held)
    began = time.monotonic()
    await two.throttled("default", API, pause=4, everything=False, reason="90018")
    assert await later - began >= 3.9


async def test_only_a_probe_costs_a_round_trip(process: Process, redis: Redis) -> None:
    limiter = process()
    slot = await limiter.acquire(to_one())
    assert (slot.paid, slot.probing) == (1, False)
    before = await questions(redis)
    slot.sent = True
    await limiter.report(slot)
    assert await questions(redis) == before
    await limiter.throttled("default", API, pause=0.1, everything=False, reason="90018")
    probe = await limiter.acquire(to_one())
    assert probe.probing
    probe.sent = True
    await limiter.report(probe)
    assert not (await limiter.acquire(to_one())).probing


async def test_a_banned_address_stops_every_app_and_api(process: Process) -> None:
    limiter = process(max_wait=1)
    await limiter.throttled("default", API, pause=300, everything=True, reason="1111")
    for app, api in (("default", API), ("other", "contacts.user"), ("default", "token")):
        with pytest.raises(Parked, match="1111") as parked:
            await limiter.acquire(SlotRequest(Turns(app, api, "urgent"), 1))
        assert 240 < parked.value.due_in < 302


async def test_a_call_that_would_wait_too_long_is_parked(process: Process, redis: Redis) -> None:
    limiter = process(SLOW, max_wait=1.5)
    outcomes = await asyncio.gather(
        *(call(limiter, "bulk") for _ in range(10)), return_exceptions=True
    )
    parked = [outcome for outcome in outcomes if isinstance(outcome, Parked)]
    assert len(parked) >= 7
    assert await through_in(redis) > 4
    assert all("limit" in outcome.reason for outcome in parked)


async def test_too_many_local_waiters_park(process: Process, redis: Redis) -> None:
    limiter = process(SLOW, local_waiters=2)
    async with callers(limiter, each=50, lane="bulk") as tasks:
        await ended(tasks, 47)
        await somebody_parked(redis)
        # Who comes later does not overtake those who are parked, even where there is room.
        await ended(tasks[:3], 3)
        waiting = asyncio.create_task(call(limiter, "bulk", returning=True))
        (queue,) = limiter._wait_queues.values()
        await eventually(lambda: queue.parked and len(queue) == 1)
        with pytest.raises(Parked):
            await call(limiter, "bulk")
        assert await through_in(redis) > 20
        await waiting


async def test_a_parked_job_keeps_its_place_in_the_wait_queue(process: Process) -> None:
    limiter = process(SLOW, local_waiters=1)
    async with callers(limiter, each=60, lane="bulk") as tasks:
        await ended(tasks, 58)
        async with callers(limiter, each=6, lane="bulk", returning=True) as back:
            await ended(back, 2)
            again = [task.exception() for task in back if task.done()]
    assert all(isinstance(error, Parked) and error.due_in < 5 for error in again)


async def test_a_request_that_grew_while_it_waited_is_asked_for_anew(process: Process) -> None:
    limiter = process({"*": {"calls": "5/1s"}})
    await call(limiter)
    request = to_one("bulk")
    joined = asyncio.create_task(limiter.acquire(request))
    await eventually(lambda: limiter._wait_queues.get(queue_of("bulk")))
    request.recipients = 7
    assert (await joined).paid == 7


async def test_draining_ends_every_wait(process: Process) -> None:
    limiter = process(SLOW)
    async with callers(limiter, each=5) as tasks:
        await ended(tasks)
        limiter.drain()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, Draining) for outcome in outcomes) == 4
    with pytest.raises(Draining):
        await call(limiter)


async def test_waiters_end_when_redis_is_gone() -> None:
    redis = Redis.from_url("redis://127.0.0.1:1/0", retry=None)
    rules = Rules.from_settings({}, "x")
    breakers = Breakers(redis, rules)
    limiter = Limiter(redis, rules, max_wait=5, local_waiters=8, breakers=breakers)
    for _ in range(2):
        with pytest.raises(RedisError):
            await call(limiter)
    await limiter.close()
    await redis.aclose()


async def test_states_show_each_bucket(process: Process) -> None:
    limiter = process({"message.send": {"recipients": "500/60s"}})
    await call(limiter)
    await limiter.throttled("default", "token", pause=30, everything=False, reason="45009")
    states = {(state.scope, state.api, state.unit): state for state in await limiter.states()}
    assert set(states) == {
        ("app:default", API, "calls"),
        ("app:default", API, "recipients"),
        ("egress:office", "*", "calls"),
        ("app:default", "token", "calls"),
    }
    recipients = states["app:default", API, "recipients"]
    assert (recipients.limit, recipients.window, recipients.paused_until) == (500, 60, None)
    assert 98 < recipients.balance <= 100
    token = states["app:default", "token", "calls"]
    assert (token.limit, token.reason, token.level, token.throttles) == (None, "45009", 1, 1)
    assert token.paused_until is not None
    assert token.horizon is None


async def test_nothing_of_a_bucket_outlives_its_use(process: Process, redis: Redis) -> None:
    limiter = process(SLOW, local_waiters=1)
    await asyncio.gather(*(call(limiter, "bulk") for _ in range(3)), return_exceptions=True)
    await limiter.throttled("default", API, pause=1, everything=False, reason="90018")
    names = [name async for name in redis.scan_iter("dingrelay:*")]
    assert bucket("app:default", API, "calls").encode() in names
    for name in names:
        assert 0 < await redis.pttl(name) <= 2 * 3_600_000


async def test_a_call_is_not_delayed_by_the_slowest_rule(process: Process) -> None:
    # Of the recipients' tokens a hundred are there, and one more comes in a quarter of an hour.
    rules = {"*": {"calls": "5/2s"}, API: {"recipients": "101/1000s"}}
    limiter = process(rules, max_wait=60)
    await call(limiter)
    (queue,) = limiter._wait_queues.values()
    first = asyncio.create_task(call(limiter))
    while not (queue._held and not any(each.unconfirmed for each in queue._held)):
        if first.done():  # its slot came and went while this process did not run
            first = asyncio.create_task(call(limiter))
        await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await asyncio.gather(first, call(limiter))


async def test_a_late_call_moves_slots_that_are_given_out(process: Process) -> None:
    # Five recipients at once, and five more a second later.
    rules = {API: {"recipients": "10/0.5s"}}
    one, other = process(rules), process(rules)
    request = SlotRequest(Turns("default", API, "urgent"), recipients=5)
    late = await one.acquire(request)
    waiting = asyncio.create_task(other.acquire(request))
    await eventually(lambda: [w for q in other._wait_queues.values() for w in q._held])
    (queue,) = other._wait_queues.values()
    (waiter,) = queue._held
    reserved = waiter.slot.at
    # DingTalk may have counted it at any time until its answer, so its five stand beside those that come now.
    late.sent, late.at = True, late.at - 1
    await one.report(late)
    async with asyncio.timeout(30):
        slot = await waiting
    assert slot.at > reserved + 0.9


async def test_a_lost_far_slot_becomes_the_next_free_one(process: Process, redis: Redis) -> None:
    limiter = process(SLOW)
    await call(limiter)
    waiting = asyncio.create_task(call(limiter))
    (queue,) = limiter._wait_queues.values()
    # Its slot is half a second ahead: until it is confirmed a penalty may come in between.
    await eventually(lambda: [waiter for waiter in queue._held if waiter.unconfirmed])
    await redis.delete(*(rule.key for rule in queue.rules))
    queue.revoke_slots()
    async with asyncio.timeout(20):
        await waiting
