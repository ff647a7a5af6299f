"""Breakers and a clock that steps back, against a real Valkey on a clock of the test's own."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import run
from dingrelay_workers.limiter import breakers, buckets
from dingrelay_workers.limiter.breakers import Circuit, Pace, Symptom, Verdict
from dingrelay_workers.limiter.buckets import Ask, Reply
from dingrelay_workers.limiter.rules import Rule
from support.examples import either

EPOCH = 1_800_000_000_000_000
MICRO = 1_000_000
HOUR = 3600.0
CALLS = Rule("app:a", "message.send", "calls", 20, 1)
PACE = Pace(beat=1.0, hold=60.0, call=15.0)
CIRCUIT = Circuit("a", "message.send", "oapi", "dingrelay:b:1", "dingrelay:b:2", "dingrelay:b:3")


class Fleet:
    """Every worker at once, at a time that the test sets."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.now = EPOCH
        self.calls = 0

    def restart(self) -> "Fleet":
        self.redis.flushall()
        self.now, self.calls = EPOCH, 0
        return self

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * MICRO)

    def ask(self, *, unreported: tuple[int, int] = (0, 0)) -> Reply:
        call = buckets.acquire(
            (CALLS,),
            "normal",
            [Ask((1,))],
            self.now,
            circuit=CIRCUIT.keys,
            pace=PACE,
            unreported=unreported,
        )
        reply = Reply.read(run(self.redis, call))
        self.calls += len(reply.starts)
        return reply

    def sick(
        self,
        symptom: Symptom = "way",
        *,
        trial: bool = False,
        needed: int = 5,
        circuit: Circuit = CIRCUIT,
        code: str = "",
    ) -> Verdict:
        call = breakers.sick(
            circuit,
            PACE,
            symptom,
            trial=trial,
            needed=needed,
            reason="r",
            now=self.now,
            code=code,
        )
        return breakers.verdict(run(self.redis, call))

    def sane(self, *, trial: bool = False) -> list[bytes]:
        call = buckets.ended((CALLS,), self.now, circuit=CIRCUIT.keys, sane=True, trial=trial)
        return run(self.redis, call)

    def is_open(self) -> bool:
        return bool(self.redis.zcard(keys.BREAKERS))


@pytest.fixture
def fleet(valkey_url: str) -> Iterator[Fleet]:
    with Redis.from_url(valkey_url) as redis:
        yield Fleet(redis)


def test_five_sick_answers_in_a_row_open_it_and_a_sane_one_closes_it(fleet: Fleet) -> None:
    assert [fleet.sick().outage for _ in range(4)] == [False] * 4
    fleet.sane()
    assert [fleet.sick().outage for _ in range(5)] == [False] * 4 + [True]
    assert fleet.ask().outage == "api"
    fleet.sleep(1)
    assert fleet.ask().trial
    assert fleet.ask().outage == "api", "one probe at a time"
    assert fleet.sane(trial=True) == [b"api"]
    assert not fleet.ask().outage


def test_one_apis_refusal_stops_that_api_and_anothers_the_app(fleet: Fleet) -> None:
    other = CIRCUIT._replace(api="approval.create", breaker="dingrelay:b:4")
    assert fleet.sick("held", needed=1, code="60020").opened == ("api",)
    assert not fleet.sick("held", circuit=other, code="40089").outage
    fleet.sane()
    for _ in range(20):
        assert not fleet.sick("held", circuit=other, code="60020").outage
    fleet.sleep(599)
    assert fleet.sick("held", needed=1, code="60020").opened == ("hold",)
    assert fleet.ask().outage == "hold"
    fleet.sleep(60)
    assert fleet.ask().trial
    assert fleet.sane(trial=True) == [b"hold"]
    assert fleet.ask().starts


def test_the_refusal_of_a_token_stops_the_app(fleet: Fleet) -> None:
    token = CIRCUIT._replace(api="token")
    assert fleet.sick("held", circuit=token, code="40096").opened == ("hold",)
    fleet.sane()
    assert fleet.ask().outage == "hold", "a token from before may still be good"


def test_an_outage_of_150_seconds_costs_few_probes_and_its_end_is_found_soon(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.sick()
    probes: list[float] = []
    while fleet.now < EPOCH + 150 * MICRO:
        reply = fleet.ask()
        if reply.trial:
            probes.append((fleet.now - EPOCH) / MICRO)
            fleet.sick(trial=True)
        fleet.sleep(max(reply.wait, 0.05))
    assert len(probes) <= 19
    assert max(after - before for before, after in itertools.pairwise(probes)) <= 13


def test_a_probe_that_is_never_answered_is_made_by_another(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.sick()
    fleet.sleep(1)
    assert fleet.ask().trial
    fleet.sleep(PACE.call + breakers.ANSWER_MARGIN + 0.1)
    assert fleet.ask().trial


def test_calls_that_nobody_answers_slow_the_fleet_down(fleet: Fleet) -> None:
    while fleet.now < EPOCH + 15 * MICRO:
        fleet.sleep(max(fleet.ask().wait, 0.05))
    assert 5 <= fleet.calls <= 14


def test_a_dingtalk_that_is_merely_slow_is_soon_called_at_the_full_rate(fleet: Fleet) -> None:
    answers: list[int] = []
    counted = 0
    while fleet.now < EPOCH + 30 * MICRO:
        due = [at for at in answers if at <= fleet.now]
        answers = [at for at in answers if at > fleet.now]
        reply = fleet.ask(unreported=(len(due), 4 * MICRO))
        answers += [fleet.now + 4 * MICRO] * len(reply.starts)
        if fleet.now >= EPOCH + 10 * MICRO:
            counted += len(reply.starts)
        fleet.sleep(max(reply.wait, 0.05))
    assert counted >= 19 * 20 * 0.9


@pytest.mark.parametrize("ago", [0.5, 300.0, HOUR])
def test_a_clock_that_steps_back_freezes_no_bucket_and_no_pause(fleet: Fleet, ago: float) -> None:
    for _ in range(30):
        fleet.sleep(fleet.ask(unreported=(1, 0)).wait or 0.05)
    run(fleet.redis, buckets.penalize(CALLS, 1, "90018", 0.025, fleet.now))
    fleet.sleep(-ago)
    began = fleet.now
    while not fleet.ask(unreported=(1, 0)).starts:
        fleet.sleep(0.1)
        assert fleet.now - began <= 3 * MICRO
    run(fleet.redis, buckets.ended((CALLS,), fleet.now, probed=True))
    fleet.calls, began = 0, fleet.now
    while fleet.now - began < 10 * MICRO:
        reply = fleet.ask(unreported=(1, 0))
        fleet.sleep(max(reply.wait, *reply.starts, 0.01))
    assert 50 <= fleet.calls <= 201, "neither frozen nor a burst"


@pytest.mark.parametrize("ago", [0.5, 300.0, HOUR])
def test_a_pause_is_no_longer_when_the_clock_steps_back(fleet: Fleet, ago: float) -> None:
    fleet.ask(unreported=(1, 0))
    run(fleet.redis, buckets.penalize(CALLS, 5, "90018", 0.025, fleet.now))
    assert not fleet.ask().starts
    fleet.sleep(-ago)
    began = fleet.now
    while not fleet.ask(unreported=(1, 0)).starts:
        fleet.sleep(0.1)
        assert fleet.now - began <= 6 * MICRO


@pytest.mark.parametrize("ago", [300.0, HOUR])
def test_a_clock_that_steps_back_freezes_no_breaker(fleet: Fleet, ago: float) -> None:
    for _ in range(5):
        fleet.sick()
    fleet.sleep(-ago)
    assert fleet.ask().trial


steps = st.lists(
    st.tuples(st.sampled_from(["ask", "sick", "sane", "die"]), st.floats(-30, 400)), max_size=40
)


@settings(
    deadline=None,
    max_examples=either(30, 600),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_calls_resume_after_any_fault(fleet: Fleet, story: list[tuple[str, float]]) -> None:
    fleet.restart()
    trial = False
    for what, seconds in story:
        fleet.sleep(seconds)
        match what:
            case "ask":
                trial = fleet.ask(unreported=(1, 0)).trial
            case "sick":
                fleet.sick(trial=trial)
                trial = False
            case "sane":
                fleet.sane(trial=trial)
                trial = False
            case _:
                trial = False
    deadline = fleet.now + 330 * MICRO
    while True:
        reply = fleet.ask(unreported=(1, 0))
        if reply.starts:
            fleet.sane(trial=reply.trial)
            if not fleet.is_open():
                return
        fleet.sleep(max(reply.wait, 0.05))
        assert fleet.now < deadline, "it stays shut"
