"""How the sandbox counts in windows, and what a wrong clock of its own changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_sandbox.windows import Peak, Rate, WindowKind, new_window
from unit.sandbox_caller import NOON, SEND, Caller

RATES = st.builds(Rate, st.integers(1, 30), st.sampled_from([0.5, 1.0, 60.0]))
GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=80)


def admitted(kind: WindowKind, rate: Rate, gaps: list[float]) -> list[float]:
    window = new_window(kind, rate)
    at, taken = 1_000.0, list[float]()
    for gap in gaps:
        at += gap
        if window.room(at) >= 1:
            window.take(at)
            taken.append(at)
    return taken


@given(RATES, GAPS)
def test_no_calendar_stretch_holds_more_than_the_limit(rate: Rate, gaps: list[float]) -> None:
    stretches = [math.floor(at / rate.seconds) for at in admitted("calendar", rate, gaps)]
    assert all(stretches.count(each) <= rate.limit for each in set(stretches))


@given(RATES, GAPS)
def test_no_interval_of_a_sliding_window_holds_more(rate: Rate, gaps: list[float]) -> None:
    taken = admitted("sliding", rate, gaps)
    for start in taken:
        assert sum(start <= at < start + rate.seconds for at in taken) <= rate.limit


@given(RATES, GAPS)
def test_a_bucket_gives_one_window_and_then_the_steady_rate(rate: Rate, gaps: list[float]) -> None:
    taken = admitted("bucket", rate, gaps)
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            most = rate.limit + (end - start) * rate.limit / rate.seconds
            assert last - first + 1 <= most + 1e-6


@given(st.sampled_from(["calendar", "sliding", "bucket"]), RATES, GAPS)
def test_a_full_window_names_its_end(kind: WindowKind, rate: Rate, gaps: list[float]) -> None:
    window = new_window(kind, rate)
    at = 1_000.0
    for gap in gaps:
        at += gap
        if window.room(at) < 1:
            frees = window.frees_at(at)
            assert at < frees <= at + rate.seconds + 1e-6
            assert window.room(frees + 1e-6) >= 1
            return
        window.take(at)


def test_a_calendar_window_lets_two_limits_pass_around_a_full_second() -> None:
    gaps = [0.99, *[0.0] * 30, 0.02, *[0.0] * 30]
    assert len(admitted("calendar", Rate(20, 1), gaps)) == 40
    assert len(admitted("sliding", Rate(20, 1), gaps)) == 20


@given(GAPS)
def test_a_peak_is_the_most_of_any_interval(gaps: list[float]) -> None:
    peak, at, times = Peak(1), 0.0, list[float]()
    for gap in gaps:
        at += gap
        times.append(at)
        peak.add(at)
    assert peak.most == max(sum(end - 1 < at <= end for at in times) for end in times)


@pytest.mark.parametrize(
    "text", ["", "20", "20/", "/1s", "0/1s", "20/0s", "20/-1s", "a/b", "1/infs"]
)
def test_a_wrong_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        Rate.parse(text)


def test_a_rate_reads_as_it_is_written() -> None:
    assert Rate.parse(" 5000/60s") == Rate(5_000, 60)
    assert str(Rate(20, 0.5)) == "20/0.5s"


INSTANCES = "/v1.0/workflow/processInstances"
QUERY = "/v1.0/workflow/processes/instanceIds/query"
HALF_A_DAY = 43_200.0


@pytest.fixture
def caller() -> Caller:
    return Caller()


def listed(caller: Caller, start: float) -> list[str]:
    wanted = {"processCode": "PROC-ANY", "startTime": int(start * 1000)}
    found = caller.post(QUERY, {**wanted, "nextToken": 0, "maxResults": 20}).body["result"]["list"]
    return [str(each) for each in found]


@pytest.mark.parametrize("offset", [60.0, -60.0])
def test_create_times_and_lists_follow_the_clock(caller: Caller, offset: float) -> None:
    caller.state.clock.offset = offset
    made = caller.create()
    assert caller.state.approvals.instances[made].created_at == NOON + offset
    assert listed(caller, NOON + offset) == [made]
    caller.now += 5
    assert listed(caller, NOON + offset + 1) == []


def test_approvals_are_listed_after_the_clock_went_back(caller: Caller) -> None:
    made = caller.create()
    caller.state.clock.offset = -60
    assert listed(caller, NOON - 60) == [made]


def test_the_day_turns_by_the_clock_and_back(caller: Caller) -> None:
    caller.limit(token_seconds=1_000_000)
    caller.log_in()
    caller.send("hello", "u1")
    caller.state.clock.offset = HALF_A_DAY
    caller.send("hello", "u1")
    caller.state.clock.offset = 0
    caller.send("hello", "u1")
    assert caller.reasons("u1") == ["", "", "143106"]


@pytest.mark.parametrize("window", ["sliding", "bucket"])
@pytest.mark.parametrize("offset", [60.0, -60.0])
def test_rates_go_on_as_before(caller: Caller, window: str, offset: float) -> None:
    caller.limit(calls="2/1s", recipients="3/60s", window=window)
    assert [caller.send(f"{n}", "u1").code for n in range(3)] == ["0", "0", "90018"]
    caller.state.clock.offset = offset
    assert caller.send("4", "u1").code == "90018"
    caller.now += 1.1
    assert caller.send("5", "u1", "u2").code == "0"
    assert (caller.reasons("u1"), caller.reasons("u2")) == (["", "", ""], ["143103"])
    assert caller.state.sends.most_recipients() == 4
    assert caller.state.audit.most_calls()[SEND] == 4


def test_a_ban_lasts_as_long_whatever_the_clock_says(caller: Caller) -> None:
    caller.limit(calls="", egress="1/20s")
    for _ in range(2):
        caller.outcome("POST", SEND, remote="10.0.0.1")
    caller.state.clock.offset = 600
    assert caller.outcome("POST", SEND, remote="10.0.0.1").answer.status == 403


def test_a_reset_sets_the_clock_right(caller: Caller) -> None:
    caller.state.clock.offset = 60
    caller.state.reset()
    assert caller.state.clock() == NOON
