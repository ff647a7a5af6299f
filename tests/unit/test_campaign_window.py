"""When a campaign sends, and how it is planned."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.client.campaign_documents import Plan
from dingrelay_workers.campaigns.documents import CampaignSpec
from dingrelay_workers.campaigns.pace import (
    LARGEST,
    SMALLEST,
    Allowance,
    ShareRequest,
    Stride,
    Window,
)


def wants(weight: int, most: int, sender: str = "") -> ShareRequest:
    return ShareRequest(("default", sender), weight, most)


def test_a_window_follows_the_pace_within_its_bounds() -> None:
    window = Window()
    assert window.size == SMALLEST
    for tick in range(100):
        window.settled(10, tick / 10)
    assert 120 <= window.size <= 130
    for tick in range(100, 200):
        window.settled(1000, tick / 10)
    assert window.size == LARGEST
    for tick in range(200, 400):
        window.settled(0, tick / 10)
    assert window.size == SMALLEST


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 60))
def test_shares_are_those_of_the_weights(weights: list[int], free: int) -> None:
    stride, got = Stride(), dict.fromkeys(map(str, range(len(weights))), 0)
    wanted = {str(index): wants(weight, 1_000) for index, weight in enumerate(weights)}
    for _ in range(20):
        for name, chunks in stride.share(free, wanted).items():
            got[name] += chunks
    total = sum(got.values())
    assert total == 20 * free
    for index, weight in enumerate(weights):
        fair = total * weight / sum(weights)
        assert abs(got[str(index)] - fair) <= len(weights)


def test_unused_shares_go_to_the_others() -> None:
    got = Stride().share(10, {"a": wants(9, 2), "b": wants(1, 100), "c": wants(1, 0)})
    assert got == {"a": 2, "b": 8}


def test_a_later_campaign_gains_nothing_by_being_late() -> None:
    stride = Stride()
    stride.share(100, {"a": wants(1, 1_000)})
    assert stride.share(10, {"a": wants(1, 1_000), "b": wants(1, 1_000)}) == {"a": 5, "b": 5}
    late = {"a": wants(1, 1_000), "b": wants(1, 1_000), "c": wants(1, 1_000, sender="late")}
    assert stride.share(20, late) == {"a": 5, "b": 5, "c": 10}


def test_senders_share_evenly_however_many_campaigns_they_have() -> None:
    many = {str(number): wants(1, 1_000) for number in range(19)}
    got = Stride().share(190, {**many, "one": wants(1, 1_000, sender="other")})
    assert (got.pop("one"), set(got.values())) == (95, {5})
    assert Stride().share(190, {**many, "one": wants(1, 10, sender="other")})["one"] == 10


@given(st.integers(60, 6_000), st.integers(1, 100), st.lists(st.floats(0.01, 5), max_size=200))
def test_a_minute_holds_the_rate(rate: int, size: int, pauses: list[float]) -> None:
    began = datetime(2026, 11, 24, 4, tzinfo=UTC)
    now, allowance = 0.0, Allowance(0, began)
    sent: list[tuple[float, int]] = []
    for pause in pauses:
        now += pause
        allowance = allowance.later(rate, began + timedelta(seconds=now))
        people = size * allowance.chunks(rate, size, under_way=0)
        allowance = replace(allowance, people=allowance.people - people)
        sent.append((now, people))
    for start, _ in sent:
        within = sum(people for at, people in sent if start <= at < start + 60)
        assert within <= rate + rate / 60 * Allowance.BURST_SECONDS + size


def test_chunks_waiting_for_the_end_of_a_pause_are_bounded_by_the_rate() -> None:
    allowance = Allowance(0, datetime(2026, 11, 24, 4, tzinfo=UTC))
    allowed = [allowance.chunks(6_000, 100, under_way) for under_way in range(5)]
    assert allowed == [1, 1, 1, 0, 0]


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing() -> None:
    noon = datetime(2026, 11, 24, 4, tzinfo=UTC)
    allowance = Allowance(-50, noon).later(60, noon - timedelta(hours=1))
    assert allowance == Allowance(-50, noon - timedelta(hours=1))
    assert allowance.later(60, allowance.at + timedelta(seconds=50)).people == 0


def test_a_plan_has_every_stored_field() -> None:
    stored = CampaignSpec.model_fields
    assert stored.keys() <= Plan.__annotations__.keys()
    required = {name for name, field in stored.items() if field.is_required()}
    assert required == Plan.__required_keys__
