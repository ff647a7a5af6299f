"""The scripts against a real Valkey, on a clock of the test's own; and calls that arrive late (API §2.1)."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import run
from dingrelay_tasks.contract import LANES, Lane
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import Ask, Reply
from dingrelay_workers.limiter.rules import JITTER, Rule

EPOCH = 1_800_000_000_000_000
MICRO = 1_000_000
CALLS = Rule("app:a", "message.send", "calls", 20, 1)
RECIPIENTS = Rule("app:a", "message.send", "recipients", 500, 10)
EGRESS = Rule("egress:e", "*", "calls", 100, 2)
GATE = Rule("app:a", "token", "calls", None)
BOTH = (CALLS, RECIPIENTS)
SPREAD = 0.025
"""Seconds between the shortest and the longest way to DingTalk."""
SAFE = 20 / (1 + SPREAD * 1.05)
"""Calls a second that are not refused, however they are counted."""


def most_in_a_window(left: Iterable[tuple[int, int]], window: float) -> int:
    """The largest sum of costs, each with its moment, in any window."""
    left = sorted(left)
    length = round(window * MICRO) - 2 * len(left)  # each start is rounded up to a us
    first = total = most = 0
    for at, cost in left:
        total += cost
        while left[first][0] <= at - length:
            total -= left[first][1]
            first += 1
        most = max(most, total)
    return most


@dataclass
class Fleet:
    """Every worker at once, at a time that the test sets."""

    redis: Redis
    now: int = EPOCH
    left: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def restart(self) -> "Fleet":
        self.redis.flushall()
        self.now, self.left = EPOCH, []
        return self

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * MICRO)

    def ask(
        self, rules: tuple[Rule, ...], lane: Lane, *costs: tuple[int, ...], aged: bool = False
    ) -> Reply:
        asks = [Ask(cost, aged) for cost in costs]
        reply = Reply.read(run(self.redis, buckets.acquire(rules, lane, asks, self.now)))
        for cost, start in zip(costs, reply.starts, strict=False):
            self.left.append((self.now + round(start * MICRO), cost))
        return reply

    def call(self, lane: Lane = "normal", *, aged: bool = False) -> Reply:
        return self.ask((CALLS,), lane, (1,), aged=aged)

    def penalize(self, pause: float, *, rule: Rule = CALLS) -> tuple[float, bool]:
        call = buckets.penalize(rule, pause, "90018", SPREAD, self.now)
        micros, new = run(self.redis, call)
        return micros / MICRO, bool(new)

    def succeed(self, rule: Rule = CALLS) -> None:
        run(self.redis, buckets.ended((rule,), self.now, probed=True))

    def rate(self, rule: Rule = CALLS) -> float:
        return float(self.redis.hget(rule.key, "rate") or rule.rate)

    def most_in_a_window(self, number: int, window: float) -> int:
        """The largest cost under one rule that left in any window, however it is placed."""
        return most_in_a_window([(at, costs[number]) for at, costs in self.left], window)

    def saturate(self, seconds: float, lane: Lane = "normal") -> int:
        """Ask for calls as fast as they are given; how many were."""
        until, count = self.now + round(seconds * MICRO), 0
        while self.now < until:
            reply = self.call(lane)
            count += len(reply.starts)
            self.sleep(reply.wait or max(0.0, reply.starts[0]))
        return count


@pytest.fixture
def fleet(valkey_url: str) -> Iterator[Fleet]:
    with Redis.from_url(valkey_url) as redis:
        yield Fleet(redis)


lanes = st.sampled_from(LANES)
gaps = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 12))
one_fleet_for_all = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(
    arrivals=st.lists(
        st.tuples(
            gaps,
            lanes,
            st.lists(st.one_of(st.integers(1, 3), st.integers(1, 400)), min_size=1, max_size=12),
            st.booleans(),
        ),
        max_size=60,
    )
)
@one_fleet_for_all
def test_no_window_holds_more_than_its_limit(
    fleet: Fleet, arrivals: list[tuple[float, Lane, list[int], bool]]
) -> None:
    fleet.restart()
    for gap, lane, recipients, aged in arrivals:
        fleet.sleep(gap)
        fleet.ask(BOTH, lane, *((1, count) for count in recipients), aged=aged)
    assert fleet.most_in_a_window(0, CALLS.window) <= 20
    assert fleet.most_in_a_window(1, RECIPIENTS.window) <= 500


@given(arrivals=st.lists(st.tuples(gaps, lanes, st.integers(1, 40), st.booleans()), max_size=60))
@one_fleet_for_all
def test_no_address_sends_more_than_it_may(
    fleet: Fleet, arrivals: list[tuple[float, Lane, int, bool]]
) -> None:
    fleet.restart()
    for gap, lane, count, aged in arrivals:
        fleet.sleep(gap)
        fleet.ask((EGRESS,), lane, *[(1,)] * count, aged=aged)
    assert fleet.most_in_a_window(0, EGRESS.window) <= 100


@given(
    before=st.lists(st.tuples(gaps, lanes, st.integers(1, 400)), max_size=30),
    lane=lanes,
    recipients=st.integers(1, 400),
)
@one_fleet_for_all
def test_asking_again_at_the_given_time_gets_a_slot(
    fleet: Fleet, before: list[tuple[float, Lane, int]], lane: Lane, recipients: int
) -> None:
    fleet.restart()
    for gap, other, count in before:
        fleet.sleep(gap)
        fleet.ask(BOTH, other, (1, count))
    reply = fleet.ask(BOTH, lane, (1, recipients))
    if not reply.starts:
        fleet.sleep(reply.wait)
        assert fleet.ask(BOTH, lane, (1, recipients)).starts


def test_saturated_calls_use_the_limit(fleet: Fleet) -> None:
    for lane in LANES:
        fleet.restart()
        assert 19 * 30 <= fleet.saturate(30, lane) <= 20 * 30 + 1


def test_all_or_nothing(fleet: Fleet) -> None:
    scarce = Rule("app:a", "message.send", "recipients", 110, 10)
    assert fleet.ask((CALLS, scarce), "bulk", (1, 100)).starts
    reply = fleet.ask((CALLS, scarce), "bulk", (1, 100))
    assert not reply.starts
    fleet.sleep(1)
    # The refused call took nothing from the calls: they are as if it had not asked.
    assert fleet.call("bulk").starts == (0,)


def test_urgent_waits_for_the_urgent_before_it_and_nothing_else(fleet: Fleet) -> None:
    for _ in range(40):
        fleet.call("bulk")
    for _ in range(40):
        fleet.call("normal")
    normal = max(at for at, _ in fleet.left)
    assert normal <= EPOCH + 0.6 * MICRO
    first = fleet.call("urgent").starts[0]
    second = fleet.call("urgent").starts[0]
    assert first == pytest.approx(normal / MICRO - EPOCH / MICRO + 1 / 19, abs=1e-3)
    assert second == pytest.approx(first + 1 / 19, abs=1e-3)
    assert not fleet.call("normal").starts
    assert not fleet.call("bulk").starts


def test_urgent_may_not_reserve_without_end(fleet: Fleet) -> None:
    granted = [fleet.call("urgent") for _ in range(100)]
    starts = [reply.starts[0] for reply in granted if reply.starts]
    assert 2 <= max(starts) <= 2.1
    assert granted[-1].wait > 0


def test_bulk_takes_only_what_is_there(fleet: Fleet) -> None:
    assert fleet.call("bulk").starts == (0,)
    reply = fleet.call("bulk")
    assert not reply.starts
    assert reply.wait == pytest.approx(1 / 19 - 0.025, abs=1e-3)
    fleet.sleep(reply.wait)
    assert fleet.call("bulk").starts[0] == pytest.approx(0.025, abs=1e-3)


def test_bulk_goes_on_while_normal_takes_all_it_can(fleet: Fleet) -> None:
    fresh = aged = normal = 0
    for _ in range(3000):
        normal += len(fleet.call("normal").starts)
        fresh += len(fleet.call("bulk").starts)
        aged += len(fleet.call("bulk", aged=True).starts)
        fleet.sleep(0.01)
    assert fresh == 0
    assert 0.05 <= aged / (normal + aged) <= 0.15


def test_a_large_call_keeps_its_distance_before_and_after(fleet: Fleet) -> None:
    start = fleet.ask((RECIPIENTS,), "normal", (400,)).starts[0]
    rate = RECIPIENTS.rate
    assert start == pytest.approx(300 / rate, abs=1e-3)
    fleet.sleep(start)
    reply = fleet.ask((RECIPIENTS,), "bulk", (1,))
    assert reply.wait == pytest.approx(301 / rate - 0.025, abs=1e-3)


def test_a_throttle_pauses_everyone_once_a_second(fleet: Fleet) -> None:
    fleet.call()
    assert fleet.penalize(2) == (2, True)
    for _ in range(20):
        fleet.sleep(0.04)
        assert fleet.penalize(2)[1] is False
    for lane in LANES:
        reply = fleet.call(lane)
        assert (reply.starts, reply.voids, reply.reason) == ((), 21, "90018")
        assert reply.wait == pytest.approx(1.2, abs=1e-3)
    assert fleet.redis.hget(CALLS.key, "throttles") == b"21"
    assert fleet.rate() == pytest.approx(19 * 0.7, rel=1e-2)


def test_a_longer_pause_wins_over_the_one_that_runs(fleet: Fleet) -> None:
    fleet.penalize(1)
    fleet.sleep(0.1)
    assert fleet.penalize(60) == (60, False)
    assert fleet.call().wait == 60


def test_after_a_pause_one_call_goes_ahead(fleet: Fleet) -> None:
    fleet.penalize(1)
    fleet.sleep(1)
    probe = fleet.ask((CALLS,), "normal", (1,), (1,), (1,))
    assert len(probe.starts) == 1
    assert probe.probing
    others = fleet.call("urgent")
    assert not others.starts
    assert others.wait == pytest.approx(0.05)
    fleet.succeed()
    fleet.sleep(0.1)
    reply = fleet.call()
    assert reply.starts
    assert not reply.probing


def test_a_probe_whose_answer_is_lost_is_followed_by_another(fleet: Fleet) -> None:
    fleet.penalize(1)
    fleet.sleep(1)
    assert fleet.call().probing
    fleet.sleep(0.9)
    assert not fleet.call().starts
    fleet.sleep(0.2)
    assert fleet.call().probing


def test_a_storm_of_ten_seconds_meets_few_calls(fleet: Fleet) -> None:
    calls = 0
    while fleet.now < EPOCH + 10 * MICRO:
        reply = fleet.call()
        if reply.starts:
            calls += 1
            fleet.sleep(reply.starts[0] + 0.03)
            fleet.penalize(1)
        else:
            fleet.sleep(reply.wait)
    assert calls <= 4
    # Only the first of them says something about the rate.
    assert fleet.rate() == pytest.approx(19 * 0.7, rel=1e-2)


def test_pauses_double_up_to_a_cap_and_ease(fleet: Fleet) -> None:
    pauses = []
    for _ in range(10):
        pause, _ = fleet.penalize(1)
        pauses.append(pause)
        fleet.sleep(pause + 0.1)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    fleet.restart()
    fleet.penalize(1)
    fleet.sleep(1)
    fleet.succeed()
    fleet.sleep(1)
    assert fleet.penalize(1)[0] == 1, "a success in between eased it"
    fleet.sleep(1)
    fleet.sleep(11)
    assert fleet.penalize(1)[0] == 1, "long ago"
    fleet.restart()
    long = [fleet.penalize(600)[0]]
    for _ in range(2):
        fleet.sleep(long[-1] + 1)
        long.append(fleet.penalize(600)[0])
    assert long == [600, 1200, 1200]


def test_a_limit_that_was_lifted_still_takes_penalties(fleet: Fleet) -> None:
    gate = (GATE,)
    assert fleet.ask(gate, "bulk", *[(1,)] * 50).starts == (0,) * 50
    fleet.penalize(3, rule=GATE)
    assert fleet.ask(gate, "urgent", (1,)).wait == 3
    fleet.sleep(3)
    assert len(fleet.ask(gate, "urgent", (1,), (1,)).starts) == 1
    fleet.succeed(GATE)
    assert len(fleet.ask(gate, "urgent", (1,), (1,)).starts) == 2


def test_a_paused_address_pauses_every_api(fleet: Fleet) -> None:
    fleet.penalize(300, rule=EGRESS)
    assert fleet.ask((CALLS, EGRESS), "urgent", (1, 1)).wait == 300
    assert fleet.ask((GATE, EGRESS), "urgent", (1, 1)).wait == 300


def test_the_rate_climbs_close_to_the_limit_while_calls_wait_and_only_then(fleet: Fleet) -> None:
    fleet.saturate(1.5)
    assert 19.1 <= fleet.rate() <= 19.4, "slowly first"
    fleet.saturate(4)
    assert fleet.rate() == pytest.approx(19.75)
    fleet.saturate(60)
    assert fleet.rate() == pytest.approx(19.75)
    fleet.restart()
    for _ in range(100):
        fleet.call()
        fleet.sleep(0.2)
    assert fleet.rate() == 19


def test_a_rate_that_was_cut_climbs_back(fleet: Fleet) -> None:
    fleet.penalize(1)
    fleet.sleep(1)
    fleet.call()
    fleet.succeed()
    fleet.saturate(1.5)
    assert fleet.rate() <= 0.75 * 19, "slowly first"
    fleet.saturate(12)
    assert fleet.rate() == pytest.approx(19.75)


@pytest.mark.parametrize("lane", ["urgent", "normal"])
def test_slots_that_were_reserved_at_a_low_rate_are_counted_while_it_climbs(
    fleet: Fleet, lane: Lane
) -> None:
    fleet.call()
    after_an_outage = {"rate": 5, "grown": fleet.now, "climbs": fleet.now - 10 * MICRO}
    fleet.redis.hset(CALLS.key, mapping=after_an_outage)
    until = fleet.now + 10 * MICRO
    while fleet.now < until:
        while fleet.call(lane).starts:
            pass
        fleet.sleep(0.05)
    assert fleet.rate() == pytest.approx(19.75)
    assert fleet.most_in_a_window(0, CALLS.window) <= 20


def test_a_single_throttle_at_the_limit_pauses_nobody(fleet: Fleet) -> None:
    fleet.saturate(10)
    assert fleet.penalize(1) == (0, False)
    assert fleet.saturate(20) >= 19.75 * 20 - 1
    assert fleet.penalize(1) == (0, False)
    assert fleet.rate() == pytest.approx(19.75), "the first one is forgotten"
    assert fleet.redis.hget(CALLS.key, "throttles") == b"2"


def test_frequent_throttles_at_the_limit_bring_the_rate_to_where_none_are(fleet: Fleet) -> None:
    fleet.saturate(10)
    for _ in range(2):
        assert fleet.penalize(1) == (0, False)
        fleet.saturate(1)
    lowered = fleet.rate()
    assert 0.995 * SAFE <= lowered <= SAFE
    fleet.saturate(55)
    assert fleet.rate() == lowered
    fleet.saturate(10)
    assert fleet.rate() == pytest.approx(19.75), "a minute later it is tried again"


def test_throttles_in_a_row_pause_everyone_and_halve_the_rate(fleet: Fleet) -> None:
    fleet.saturate(10)
    verdicts = [fleet.penalize(1)[1] for _ in range(3)]
    assert verdicts == [False, False, True]
    assert fleet.call("urgent").wait == 1
    assert fleet.rate() == pytest.approx(19.75 / 2, rel=0.02)
    fleet.sleep(1)
    assert fleet.call().probing
    fleet.succeed()
    fleet.saturate(1)
    # No rate is known to be good by now: the next one is taken seriously at once.
    assert fleet.penalize(1) == (1, True)


def test_a_throttle_for_longer_than_the_window_is_never_by_chance(fleet: Fleet) -> None:
    fleet.saturate(10)
    assert fleet.penalize(60) == (60, True)


def test_a_throttle_of_a_few_calls_is_never_by_chance(fleet: Fleet) -> None:
    for _ in range(19):
        fleet.call()
        fleet.sleep(1)
    assert fleet.penalize(1) == (1, True)


def test_the_rate_never_falls_below_a_quarter_of_the_limit(fleet: Fleet) -> None:
    for _ in range(12):
        fleet.saturate(2)
        fleet.penalize(1)
        fleet.sleep(1)
        fleet.call()
        fleet.succeed()
    assert fleet.rate() >= 5


def test_recipients_never_creep(fleet: Fleet) -> None:
    for _ in range(400):
        fleet.ask((RECIPIENTS,), "urgent", (20,))
        fleet.sleep(0.2)
    assert fleet.rate(RECIPIENTS) == RECIPIENTS.rate


def test_a_slot_beyond_what_a_call_may_wait_is_not_reserved(fleet: Fleet) -> None:
    slow = Rule("app:a", "message.send", "calls", 2, 100)

    def ask(lane: Lane, *, aged: bool = False) -> Reply:
        call = buckets.acquire((slow,), lane, [Ask((1,), aged)], fleet.now, max_wait=5)
        return Reply.read(run(fleet.redis, call))

    assert ask("normal").starts == (0,)
    refused = ask("normal")
    assert not refused.starts
    assert 5 < refused.wait <= 100
    fleet.sleep(refused.wait - 4)
    (start,) = ask("normal").starts
    assert start == pytest.approx(4, abs=0.1)
    # Who has waited long, and what is urgent, keeps what it can reserve.
    fleet.sleep(5)
    (start,) = ask("bulk", aged=True).starts
    assert start > 5


def test_buckets_are_noted_and_expire(fleet: Fleet) -> None:
    fleet.ask((CALLS, EGRESS), "normal", (1, 1))
    noted = fleet.redis.zrange("dingrelay:buckets", 0, -1)
    assert noted == [CALLS.key.encode(), EGRESS.key.encode()]
    assert 3_600_000 < fleet.redis.pttl(CALLS.key) <= 4_200_000
    fleet.penalize(4000)
    assert fleet.redis.pttl(CALLS.key) > 7_000_000


def test_the_servers_clock_counts_where_no_other_is_given(fleet: Fleet) -> None:
    call = buckets.acquire((CALLS,), "urgent", [Ask((1,))] * 3)
    starts = Reply.read(run(fleet.redis, call)).starts
    assert starts == pytest.approx((0, 1 / 19, 2 / 19), abs=1e-3)


def test_the_index_forgets_buckets_that_are_gone(fleet: Fleet) -> None:
    """Buckets of API keys and robots come and go, while others are in use all the time."""
    fleet.ask((RECIPIENTS,), "normal", (1,))
    for _ in range(13):
        fleet.call()
        fleet.sleep(601)
    assert fleet.redis.zrange(keys.BUCKETS, 0, -1) == [CALLS.key.encode()]


SLOW = Rule("app:a", "message.send", "recipients", 600, 12)
LONGEST = 4.0
"""Seconds that a call is on its way at most."""

Sent = tuple[Lane, int, float, float]
"""Lane and recipients of a call, seconds until it arrives, and from then until its answer."""


class Network:
    """Calls that leave as soon as the bucket lets them, and arrive later."""

    def __init__(self, redis: Redis, rule: Rule) -> None:
        redis.flushall()
        self.redis = redis
        self.rule = rule
        self.now = EPOCH
        self.arrived: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int]] = []

    def send(self, lane: Lane, cost: int, way: float, back: float) -> None:
        while True:
            ask = buckets.acquire((self.rule,), lane, [Ask((cost,))], self.now)
            reply = Reply.read(run(self.redis, ask))
            if reply.starts:
                break
            self._sleep(max(reply.wait, 0.001))
        left = self.now + round(reply.starts[0] * MICRO)
        self.arrived.append((left + round(way * MICRO), cost))
        if way + back > JITTER:
            heapq.heappush(self._answers, (left + round((way + back) * MICRO), cost))

    def most(self) -> int:
        """The most recipients that arrived in any window."""
        return most_in_a_window(self.arrived, self.rule.window)

    def _sleep(self, seconds: float) -> None:
        until = self.now + round(seconds * MICRO)
        while self._answers and self._answers[0][0] <= until:
            at, cost = heapq.heappop(self._answers)
            self.now = max(self.now, at)
            run(self.redis, buckets.ended((self.rule,), self.now, charged=(self.rule, cost)))
        self.now = until


def bunched(slow: int, fast: int) -> list[Sent]:
    """Slow calls, and then fast ones that arrive together with them."""
    ways = [LONGEST] * slow + [0.0] * fast
    return [("normal", 20, way, 0.0) for way in ways]


@given(
    calls=st.lists(
        st.tuples(
            lanes,
            st.integers(1, 100),
            st.one_of(st.sampled_from((0.0, LONGEST)), st.floats(0, LONGEST)),
            st.floats(0, 0.4),
        ),
        max_size=60,
    )
)
@example(calls=bunched(slow=14, fast=40))
@example(calls=bunched(slow=30, fast=40))
@one_fleet_for_all
def test_windows_hold_however_slow_the_calls(valkey_url: str, calls: Sequence[Sent]) -> None:
    with Redis.from_url(valkey_url) as redis:
        network = Network(redis, SLOW)
        for call in calls:
            network.send(*call)
    assert network.most() <= 600


@pytest.mark.parametrize("limit", [1, 2, 3, 50, 99, 100, 101])
def test_a_limit_of_a_hundred_or_less_holds(valkey_url: str, limit: int) -> None:
    rule = Rule("app:a", "message.send", "recipients", limit, 60)
    with Redis.from_url(valkey_url) as redis:
        for cost in {1, rule.burst}:
            network = Network(redis, rule)
            for _ in range(3 * limit // cost):
                network.send("bulk", cost, 0.0, 0.0)
            assert network.most() <= limit
            used = sum(cost for _, cost in network.arrived) / (network.now - EPOCH) * MICRO * 60
            assert used >= min(limit / 3, 1), "it is used, too"
