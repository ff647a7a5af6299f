"""webhook-deliver: how long it is tried, and what an endpoint chooses."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.gateway.backend.webhooks import Subject, Subscription
from dingrelay_producers.settings import Settings
from dingrelay_tasks import webhook_deliver
from dingrelay_tasks.context import Receipt
from dingrelay_tasks.outcomes import Refused, TryAgain
from dingrelay_tasks.webhook_deliver import CAP, LONGEST_REST, WebhookDeliver
from dingrelay_workers.jobs import outcome

NOW = datetime.now(UTC)
JOB = WebhookDeliver(endpoint="drw_" + "a" * 12, notice=7, until=NOW + timedelta(days=3))
TAKEN = Receipt("taken", "taken", "it accepted the notice", 204)


def context(receipt: Receipt, *, attempt: int = 1, now: datetime = NOW) -> Any:
    async def deliver(endpoint: str, notice: int) -> Receipt:
        assert (endpoint, notice) == (JOB.endpoint, JOB.notice)
        return receipt

    async def test(endpoint: str) -> Receipt:
        return receipt

    webhooks = SimpleNamespace(deliver=deliver, test=test)
    return SimpleNamespace(webhooks=webhooks, attempt=attempt, now=lambda: now)


def failed(**rest: Any) -> Receipt:
    return Receipt("failed", "http_503", "it answered 503", 503, **rest)


@pytest.mark.parametrize("receipt", [TAKEN, Receipt("void", "removed", "gone")])
async def test_a_delivery_that_is_not_needed_any_more_is_done(receipt: Receipt) -> None:
    result = await webhook_deliver.run(JOB, context(receipt))
    assert (result["verdict"], result["code"]) == (receipt.verdict, receipt.code)


@given(st.integers(1, 200))
async def test_it_is_tried_again_after_a_pause_that_grows_to_its_bound(attempt: int) -> None:
    with pytest.raises(TryAgain) as again:
        await webhook_deliver.run(JOB, context(failed(), attempt=attempt))
    assert timedelta() <= again.value.delay <= timedelta(seconds=CAP)
    if attempt <= 3:
        assert again.value.delay <= timedelta(seconds=5 * 4 ** (attempt - 1))


@pytest.mark.parametrize(
    ("wait", "least"),
    [(timedelta(hours=2), timedelta(hours=2)), (timedelta(days=30), LONGEST_REST)],
)
async def test_an_endpoint_is_left_alone_for_as_long_as_it_asks(
    wait: timedelta, least: timedelta
) -> None:
    with pytest.raises(TryAgain) as again:
        await webhook_deliver.run(JOB, context(failed(retry_after=wait)))
    assert again.value.delay == least


async def test_after_three_days_its_next_failure_is_the_last_one() -> None:
    late = NOW + timedelta(days=3)
    with pytest.raises(Refused) as refused:
        await webhook_deliver.run(JOB, context(failed(), now=late))
    assert refused.value.code == "http_503"
    assert (await webhook_deliver.run(JOB, context(TAKEN, now=late)))["verdict"] == "taken"


async def test_a_test_is_made_once_and_reported() -> None:
    job = JOB.model_copy(update={"test": True})
    assert (await webhook_deliver.run(job, context(failed())))["verdict"] == "failed"


@pytest.mark.parametrize("attempts", [0, 8, 100])
def test_the_number_of_attempts_in_the_settings_does_not_end_it(attempts: int) -> None:
    error = TryAgain(timedelta(seconds=9), "http_503", "it answered 503", "mend it")
    claim: Any = SimpleNamespace(attempts=attempts)
    led_to = outcome.of(error, claim, Settings.load(env="test"), open_call=False)
    assert (led_to.state, led_to.attempts, led_to.delay) == ("retrying", 1, 9)
    assert led_to.error == {
        "class": "transient",
        "code": "http_503",
        "message": "it answered 503",
        "hint": "mend it",
    }


def test_its_summary_holds_no_content() -> None:
    assert JOB.queue == "dingrelay.webhooks"
    assert JOB.summary().endswith(f"endpoint={JOB.endpoint} notice=7")


def takes(subject: tuple[str, str, str, str], *types: str, **only: Any) -> bool:
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
    assert not takes(job, "*", senders=["erp"])
    assert not takes(job, "*", kinds=["user-sync"])


def test_a_filter_for_jobs_still_lets_the_directory_through() -> None:
    left = ("directory.user.left", "hr", "", "")
    assert takes(left, "*", senders=["crm"], kinds=["message-send"])
    assert not takes(left, "*", apps=["default"])
    assert not takes(("campaign.paused", "hr", "erp", ""), "*", senders=["crm"])
    assert not takes(("approval.approved", "hr", "", "approval-create"), "*", senders=["crm"])
    assert takes(("approval.approved", "hr", "crm", "approval-create"), "*", kinds=["user-sync"])
