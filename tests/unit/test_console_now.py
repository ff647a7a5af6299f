"""Sentences of the console's first page, by readings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dingrelay_workers.backlog.estimate import BacklogGroup, Tally
from dingrelay_workers.console.now import Standing
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.overview import FleetLimits, PublishedRules

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def throttled(api: str, paused_until: datetime | None) -> Standing:
    """How things stand while one limit is paused."""
    bucket = BucketState(
        scope="app:default",
        api=api,
        unit="calls",
        limit=20,
        window=1,
        rate=1,
        ceiling=None,
        balance=0,
        paused_until=paused_until,
        reason="90018",
        level=1,
        throttles=1,
        horizon=None,
        waiting=0,
    )
    rules = PublishedRules(workers=1, differences=[])
    limits = FleetLimits(rules=rules, buckets=[bucket], outages=[], quota=[])
    return Standing(limits, Tally(groups=[], exact=True, now=NOW), lanes=[], dead=0, lately=0)


def test_a_robot_that_is_throttled_is_called_by_its_name() -> None:
    standing = throttled("robot.webhook@1b4b6ae7665c", NOW + timedelta(seconds=60))
    words = standing.sentences({"robot.webhook@1b4b6ae7665c": "alerts1"}, "default")[0].words
    assert ("alerts1" in words, "1b4b" in words) == (True, False)


def test_a_lane_without_a_worker_is_no_normal_delivery() -> None:
    lane = BacklogGroup("default", "normal", "", "", "", ready=7, held_by="worker")
    sentence = replace(throttled("message.send", None), lanes=[lane]).sentences({}, "default")[0]
    assert (sentence.tone, sentence.words) == (
        "bad",
        "No worker serves the lane normal: 7 jobs wait.",
    )


@pytest.mark.parametrize(("seconds", "tone"), [(60, "doubt"), (-1, "good"), (None, "good")])
def test_delivery_is_not_normal_while_dingtalk_throttles(seconds: int | None, tone: str) -> None:
    standing = throttled(
        "message.send", None if seconds is None else NOW + timedelta(seconds=seconds)
    )
    delivery = standing.sentences({}, "default")[0]
    assert delivery.tone == tone
    assert ("throttles default" in delivery.words) == (tone == "doubt")
