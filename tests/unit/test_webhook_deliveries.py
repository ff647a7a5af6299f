"""How long a delivery is tried, when its endpoint rests, and what an endpoint chooses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_workers.outbox.notice import Subject, Subscription
from dingrelay_workers.webhooks import deliveries
from dingrelay_workers.webhooks.deliveries import CAP, Delivery
from dingrelay_workers.webhooks.endpoints import (
    GIVE_UP,
    HEALTHY,
    LONGEST_PAUSE,
    NEEDED,
    StoredEndpoint,
)
from dingrelay_workers.webhooks.http import Receipt

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAYS = GIVE_UP
TAKEN = Receipt("taken", "taken", "it accepted the notice", 204)


def failed(code: str = "http_503", **rest: Any) -> Receipt:
    return Receipt("failed", code, "it failed", 503, **rest)


def an_endpoint(**fields: Any) -> StoredEndpoint:
    long_ago = NOW - 9 * DAYS
    row: dict[str, Any] = {
        "id": "e",
        "name": "",
        "url": "",
        "types": ("*",),
        "state": "enabled",
        "reason": "",
        "created_at": long_ago,
        "changed_at": NOW,
        "old_secret_until": None,
        "generations": (),
        "enabled_at": long_ago,
        "taken_at": None,
        **HEALTHY,
    }
    return StoredEndpoint(**row | fields)


def settled(
    receipt: Receipt, endpoint: StoredEndpoint, *, failed_at: datetime | None = None
) -> tuple[str, StoredEndpoint]:
    delivery = Delivery("e", 1, 0, failed_at, "pending")
    row = deliveries.settled_row(delivery, receipt, endpoint, NOW)
    return row["to_state"], endpoint.after(receipt, NOW)


@given(st.integers(1, 200))
def test_the_pause_grows_to_its_bound(attempt: int) -> None:
    pause = deliveries.pause(attempt)
    assert timedelta() <= pause <= timedelta(seconds=CAP)
    if attempt <= 3:
        assert pause <= timedelta(seconds=5 * 4 ** (attempt - 1))


def test_an_accepted_delivery_is_delivered_and_its_endpoint_is_well() -> None:
    ill = an_endpoint(failures=7, failing_since=NOW, breaker=2, retry_at=NOW, last_failure="x")
    assert settled(TAKEN, ill) == ("delivered", an_endpoint(taken_at=NOW))


@pytest.mark.parametrize(
    ("failed_days", "enabled_days", "taken_days", "state", "disabled"),
    [
        (None, 9, None, "pending", False),  # it failed now
        (4, 9, 1, "dead", False),  # the endpoint accepts others
        (2, 9, 1, "pending", False),
        (4, 9, 5, "pending", True),  # the endpoint has accepted nothing since
        (4, 9, None, "pending", True),
        (4, 2, 1, "pending", False),  # it was paused or disabled in between
        (4, 2, None, "pending", False),
    ],
)
def test_a_delivery_is_given_up_after_days_of_its_own_failures_only(
    failed_days: int | None, enabled_days: int, taken_days: int | None, state: str, disabled: bool
) -> None:
    def ago(days: int | None) -> datetime | None:
        return NOW - timedelta(days=days) if days else None

    endpoint = an_endpoint(
        enabled_at=ago(enabled_days),
        taken_at=ago(taken_days),
        failing_since=ago(failed_days) if disabled or enabled_days == 2 else None,
    )
    found, after = settled(failed(), endpoint, failed_at=ago(failed_days))
    assert (found, not after.enabled) == (state, disabled)


def test_a_breaker_stands_open_no_longer_for_a_clock_that_stepped_back() -> None:
    hour = timedelta(hours=1)
    ahead = an_endpoint(failures=9, failing_since=NOW - hour, failed_at=NOW + hour)
    opened = {"breaker": 3, "retry_at": NOW + hour + LONGEST_PAUSE}
    failed_again = ahead.model_copy(update=opened).after(failed(), NOW)
    assert failed_again.retry_at
    assert failed_again.retry_at <= NOW + LONGEST_PAUSE


def test_failures_in_a_row_open_the_breaker_for_longer_and_longer() -> None:
    endpoint = an_endpoint()
    for _ in range(NEEDED - 1):
        endpoint = endpoint.after(failed(), NOW)
        assert not endpoint.breaker
    opened = endpoint.after(failed(), NOW)
    # Those that were under way when it opened do not open it further.
    assert opened.after(failed(), NOW).retry_at == opened.retry_at
    pauses = list[timedelta]()
    for _ in range(12):
        assert opened.retry_at
        later = opened.retry_at
        opened = opened.after(failed(), later)
        assert opened.retry_at
        pauses.append(opened.retry_at - later)
    assert LONGEST_PAUSE / 2 <= pauses[-1] <= LONGEST_PAUSE
    assert pauses[0] < pauses[-1]
    assert opened.failing_since == NOW


def takes(subject: tuple[str, ...], *types: str, **only: Any) -> bool:
    chosen = {name: frozenset(values) for name, values in only.items()}
    return Subscription(name="", url="", types=types, **chosen).takes(Subject(*subject))


def test_an_endpoint_takes_what_it_chose() -> None:
    job = ("job.dead", "hr", "crm", "message-send")
    assert takes(job, "*")
    assert takes(
        job, "campaign.*", "job.dead", apps=["hr"], senders=["crm"], kinds=["message-send"]
    )
    assert not takes(job, "job.done")
    assert not takes(job, "*", apps=["default"])
    post = ("job.dead", "robots", "crm", "robot-message", "group:oncall")
    assert takes(post, "*", apps=["group:oncall"])
    assert takes(post, "*", apps=["robots"])
    assert not takes(post, "*", apps=["group:other"])
    assert not takes(job, "*", senders=["erp"])
    assert not takes(job, "*", kinds=["user-sync"])


def test_a_filter_for_jobs_still_lets_the_directory_through() -> None:
    left = ("directory.user.left", "hr", "", "")
    assert takes(left, "*", senders=["crm"], kinds=["message-send"])
    assert not takes(left, "*", apps=["default"])
    assert not takes(("campaign.paused", "hr", "erp", ""), "*", senders=["crm"])
    assert not takes(("approval.approved", "hr", "", "approval-create"), "*", senders=["crm"])
    assert takes(("approval.approved", "hr", "crm", "approval-create"), "*", kinds=["user-sync"])
