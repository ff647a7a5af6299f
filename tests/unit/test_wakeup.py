"""Parsing of Celery messages, their publication, and the turn that their job keeps."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task
from kombu import Message

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_tasks import ContractError
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.celery_worker.pool import JobRequest
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.limiter.slot import SlotRequest, Turns
from dingrelay_workers.store.wakeup import ETA_HEADER, ReceivedWakeup
from unit.fake_calls import job_calls, limiter

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
        ("9999-12-31T23:59:59Z", None),
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


@pytest.mark.parametrize("eta", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00", "soon", 5])
def test_an_eta_that_no_clock_will_show_is_refused(eta: object) -> None:
    """Pages would show it in other zones, in which there is no such moment."""
    wakeup = delivered({}, **{ETA_HEADER: eta})
    with pytest.raises(ContractError, match="eta: must be a moment"):
        wakeup.contract()
    assert wakeup.draft().due == 0


def test_the_representation_of_a_job_holds_no_token() -> None:
    job = {"path": "/x", "query": {"access_token": "stolen"}}
    app = Celery("test", set_as_current=False)
    app.finalize(auto=False)
    app.register_task(type("Call", (Task,), {"name": "dingrelay.api-call", "run": print})())
    headers: dict[str, Any] = {
        "id": "j",
        "task": "dingrelay.api-call",
        "kwargsrepr": repr({"job": job}),
    }
    message = Message(body="", headers=headers, content_type="application/json")
    request = JobRequest(
        message,
        app=app,
        hostname="test",
        headers=headers,
        decoded=True,
        body=([], {"job": job}, {}),
        task=app.tasks["dingrelay.api-call"],
    )
    for text in (request.kwargsrepr, request.info(), request.info(safe=True)):
        assert "stolen" not in repr(text)
        assert "/x" in repr(text)


@pytest.mark.parametrize("api", [apis.USER, apis.MESSAGE_SEND])
async def test_calls_of_other_apis_leave_the_turn_to_the_one_that_it_is_for(api: Api) -> None:
    acquired: list[tuple[str, str]] = []

    async def acquire(request: SlotRequest) -> Any:
        acquired.append((request.turns.api, request.woken))
        return SimpleNamespace()

    turn = Turns("default", api.rule, "normal").in_turn
    calls = job_calls(turn=turn, limiter=limiter(acquire=acquire))
    for _ in range(2):
        for each in (apis.USER, apis.MESSAGE_SEND):
            await calls.send(Request(each))
    woken = [(name, job) for name, job in acquired if job]
    assert woken == [(api.rule, "j")]
    assert acquired.index((api.rule, "j")) < 2
