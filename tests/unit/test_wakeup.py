"""What a Celery message is taken for before anything is written down."""

from typing import Any

import pytest

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_tasks import ContractError
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.wakeup import ReceivedWakeup

KIND = KINDS["approval-create"]


def delivered(job: object, **headers: Any) -> ReceivedWakeup:
    request = {"id": "j", "args": (), "kwargs": {"job": job}, **headers}
    return ReceivedWakeup.from_request(KIND, request)


@pytest.mark.parametrize(("header", "bare"), [(5, False), (0, True), (True, True), (2**60, True)])
def test_a_wakeup_of_ours_holds_when_it_was_published(header: object, *, bare: bool) -> None:
    assert delivered({"app": "default"}, **{WOKEN_HEADER: header}).bare == bare


def test_a_foreign_job_that_is_too_large_is_not_written_down() -> None:
    job = {"app": "hr", "process_code": "P", "form": {"事由": "中" * 400_000}}
    wakeup = delivered(job)
    assert wakeup.job == {"app": "hr", "lane": "normal"}
    assert len(wakeup.draft().payload) < 100
    with pytest.raises(ContractError, match="form: the job is"):
        wakeup.contract()


@pytest.mark.parametrize(
    ("header", "expires"),
    [
        ("2026-11-25T08:00:00+08:00", 1_795_564_800_000),
        ("2026-11-25T00:00:00", 1_795_564_800_000),
        ("yesterday", None),
        ([], None),
        (None, None),
    ],
)
def test_a_message_that_expires_is_a_job_that_does(header: object, expires: int | None) -> None:
    text = {"msgtype": "text", "text": {"content": "x"}}
    job: dict[str, Any] = {"to": {"users": ["u1"]}, "message": text}
    request = {"id": "j", "args": (), "kwargs": {"job": job}, "expires": header}
    kind = KINDS["message-send"]
    assert ReceivedWakeup.from_request(kind, request).draft().expires == expires
    job["expires_at"] = "1970-01-01T00:00:00Z"
    assert ReceivedWakeup.from_request(kind, request).draft().expires == 0
