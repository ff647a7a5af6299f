"""Moments as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from dingrelay_producers.language import CHINESE
from dingrelay_producers.language import spoken as in_language
from dingrelay_producers.zone import CHINA
from dingrelay_workers.console.job_filter import moment
from dingrelay_workers.console.moments import spoken

NOW = datetime(2026, 12, 1, 16, 30, tzinfo=UTC)
"""Half past midnight in China, on 2 December."""


@pytest.mark.parametrize(
    ("before", "english", "chinese"),
    [
        (timedelta(minutes=5), "today 00:25", "今天 00:25"),
        (timedelta(hours=1), "yesterday 23:30", "昨天 23:30"),
        (timedelta(hours=-50), "Dec 4, 02:30", "12月4日 02:30"),
        (timedelta(hours=-24), "tomorrow 00:30", "明天 00:30"),
        (timedelta(days=30), "Nov 2, 00:30", "11月2日 00:30"),
        (timedelta(days=365), "Dec 2, 2025, 00:30", "2025年12月2日 00:30"),
    ],
)
def test_a_moment_is_named_by_its_day(before: timedelta, english: str, chinese: str) -> None:
    at = NOW - before
    assert spoken(at, NOW, CHINA) == english
    with in_language(CHINESE):
        assert spoken(at, NOW, CHINA) == chinese


def test_a_life_is_told_to_the_second() -> None:
    assert spoken(NOW, NOW, CHINA, seconds=True) == "today 00:30:00"


def test_today_begins_at_midnight_where_the_reader_is() -> None:
    assert moment("since", "today", NOW) == datetime(2026, 12, 1, 16, 0, tzinfo=UTC)
