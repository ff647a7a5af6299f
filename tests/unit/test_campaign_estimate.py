from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_tasks.beijing import BEIJING
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.documents import CampaignSpec
from dingrelay_workers.campaigns.estimate import Month, pace, share_of_month
from dingrelay_workers.campaigns.pace import QuietHours
from dingrelay_workers.limiter.rules import Rules

NOON = datetime(2026, 11, 24, 12, tzinfo=BEIJING)
MINUTES = st.integers(0, 24 * 60 - 1)


def span(begin: int, end: int) -> str:
    return f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


@given(MINUTES, MINUTES, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_quiet_hours_hold_a_moment(begin: int, end: int, later: timedelta) -> None:
    moment = (NOON + later).astimezone(UTC)
    if begin == end:
        with pytest.raises(ValueError, match="begins when it ends"):
            QuietHours.parse(span(begin, end))
        return
    quiet = QuietHours.parse(span(begin, end))
    local = moment.astimezone(BEIJING)
    minute = local.hour * 60 + local.minute
    inside = begin <= minute < end if begin < end else minute >= begin or minute < end
    over = quiet.ends(moment)
    assert (over is not None) == inside
    if over is not None:
        assert (over.astimezone(BEIJING).hour * 60 + over.astimezone(BEIJING).minute) == end
        assert timedelta(0) < over - moment <= timedelta(days=1)
        assert quiet.ends(over) is None
    pause = quiet.begins(moment)
    assert pause is not None
    assert timedelta(0) < pause - moment <= timedelta(days=1)
    assert quiet.ends(pause) is not None


@pytest.mark.parametrize("text", ["22-8", "24:00-08:00", "22:00-08:60", "22:00", "08:00-08:00"])
def test_quiet_hours_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be like|begins when"):
        QuietHours.parse(text)


@pytest.mark.parametrize(
    ("quiet", "start", "hours", "wanted"),
    [
        ("", NOON, 30, NOON + timedelta(hours=30)),
        ("22:00-08:00", NOON, 10, NOON.replace(hour=22)),
        ("22:00-08:00", NOON, 11, NOON.replace(day=25, hour=9)),
        ("22:00-08:00", NOON.replace(hour=23), 1, NOON.replace(day=25, hour=9)),
        ("22:00-08:00", NOON, 25, NOON.replace(day=26, hour=9)),
        ("12:00-13:00", NOON, 0, NOON.replace(hour=13)),
    ],
)
def test_quiet_hours_pause_work(quiet: str, start: datetime, hours: int, wanted: datetime) -> None:
    assert QuietHours.parse(quiet).finish(start, timedelta(hours=hours)) == wanted


@pytest.mark.parametrize(
    ("size", "rules", "rate", "minutes", "limit"),
    [
        ((1_000_000, 10_000), {}, None, 205.8, "5,000 recipients a minute"),
        ((10_000, 10_000), {}, None, 8.8, "20 calls a second"),
        ((1_000, 10), {}, 100, 10.0, "100 recipients a minute, its own rate"),
        ((1_000, 10), {"message.send": {"calls": "", "recipients": ""}}, None, 0.0, "10,000 calls"),
        ((1_000, 10), {"message.send": {"recipients": "60/60s"}}, None, 33.6, "60 recipients"),
    ],
)
def test_the_narrowest_limit_sets_the_pace(
    size: tuple[int, int],
    rules: dict[str, dict[str, str]],
    rate: int | None,
    minutes: float,
    limit: str,
) -> None:
    recipients, calls = size
    seconds, narrowest = pace(
        Rules.from_settings(rules, "default"),
        "default",
        recipients=recipients,
        calls=calls,
        look_ups=0,
        rate=rate,
    )
    assert seconds / 60 == pytest.approx(minutes, abs=0.1)
    assert narrowest.startswith(limit)


@pytest.mark.parametrize(
    ("used", "limit", "share", "fits"),
    [
        (7, None, None, True),
        (0, 5_000, 0.2, True),
        (3_500, 5_000, 0.2, True),
        (3_501, 5_000, 0.2, False),
    ],
)
def test_a_broadcast_leaves_the_last_calls_of_the_month(
    used: int, limit: int | None, share: float | None, fits: bool
) -> None:
    assert share_of_month(1_000, used=used, limit=limit) == Month(
        used=used, limit=limit, share=share, fits=fits
    )


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": ""}, "name: "),
        ({"app": "a b"}, "app: "),
        ({"message": {"msgtype": "text", "text": {"content": "{"}}}, "message.text.content: "),
        ({"message": "x"}, "message: "),
        ({"start_at": "2026-11-24T12:00:00"}, "start_at: "),
        ({"quiet": "always"}, "quiet: must be like"),
        ({"rate": 0}, "rate: "),
        ({"weight": 0}, "weight: "),
        ({"error_share": 0}, "error_share: "),
        ({"error_share": 1.1}, "error_share: "),
        ({"speed": 1}, "speed: "),
    ],
)
def test_every_field_of_a_campaign_is_checked(fields: dict[str, object], error: str) -> None:
    whole = {"name": "n", "message": {"msgtype": "text", "text": {"content": "x"}}}
    assert CampaignSpec.parse(whole).weight == 1
    with pytest.raises(ContractError) as raised:
        CampaignSpec.parse(whole | fields)
    assert str(raised.value).startswith(error)
