"""The client that records, as the test of a business application uses it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dingrelay_producers import (
    Client,
    IdempotencyConflict,
    JobError,
    JobNotFound,
    State,
    WaitTimeout,
)
from dingrelay_producers.testing import Outcome, RecordingAsyncClient, RecordingClient
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.message_recall import MessageRecall
from support.jobs import message

REFUSED = JobError.model_validate({"class": "permission", "code": "60011", "message": "no"})


def place_order(client: Client, user: str) -> State:
    """An application's code."""
    return client.send(message(user, idempotency_key=f"order-{user}")).wait().state


def test_sent_messages_are_recorded_and_done() -> None:
    client = RecordingClient()
    assert place_order(client, "u1") == State.DONE
    client.call("POST", "/topapi/v2/user/get", body={"userid": "u1"}, effect="none")
    assert [job.kind for job in client.sent] == ["message-send", "api-call"]
    (recorded,) = client.messages_to("u1")
    assert recorded.message.model_dump()["text"]["content"] == "你好"
    assert client.messages_to("u2") == []


def test_keys_and_sizes_are_checked_as_by_the_real_one() -> None:
    client = RecordingClient(sender="shop")
    first = client.send(message("u1", idempotency_key="1"))
    assert client.send(message("u1", idempotency_key="1", sender="another")) == first
    with pytest.raises(IdempotencyConflict):
        client.send(message("u2", idempotency_key="1"))
    with pytest.raises(ContractError):
        client.call("POST", "/x", body={"a": "x" * 2_000_000}, effect="none")
    assert [job.sender for job in client.sent] == ["shop"]


def test_equal_messages_become_one_job() -> None:
    client = RecordingClient()
    refs: list[str] = []
    sent = client.send_many(
        (message(f"u{number}") for number in range(150)), on_sent=lambda ref: refs.append(ref.id)
    )
    assert (sent, len(refs), len(set(refs))) == (150, 150, 2)
    assert [job.recipients for job in client.sent] == [100, 50]
    assert len(client.messages_to("u120")) == 1


def test_jobs_end_as_the_test_says() -> None:
    def outcome(job: Contract) -> Outcome:
        assert isinstance(job, MessageSend)
        return {"u1": {"task_id": 7}, "u2": REFUSED}.get(job.users[0])

    client = RecordingClient(outcome)
    good, bad, waiting = (client.send(message(user)) for user in ("u1", "u2", "u3"))
    assert (good.wait().state, good.wait().result) == (State.DONE, {"task_id": 7})
    assert (bad.wait().state, bad.wait().error) == (State.DEAD, REFUSED)
    with pytest.raises(WaitTimeout):
        waiting.wait()
    assert [job.id for job in client.dead()] == [bad.id]
    assert client.requeue(bad.id)
    assert bad.status().state == State.QUEUED
    for ref in (bad, waiting):
        client.end(ref.id, {})
        assert ref.wait().state == State.DONE
    with pytest.raises(ValueError, match="is done"):
        client.end(waiting.id, {})


def test_jobs_that_are_due_later_wait_and_can_be_cancelled() -> None:
    client = RecordingClient()
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    later = client.send(message("u1", send_at=at.isoformat()))
    assert later.status().due_at == at
    assert later.cancel()
    assert later.wait().state == State.CANCELLED
    assert client.requeue(later.id)
    client.end(later.id, REFUSED)
    assert client.discard(later.id)
    assert not client.discard(later.id)
    with pytest.raises(JobNotFound):
        later.status()
    assert client.recent() == []


def test_a_message_can_be_recalled_whose_outcome_has_calls() -> None:
    call = {"task_id": 7, "request_id": "r", "recipients": 1}
    client = RecordingClient(lambda job: {"calls": [call], "accepted": 1, "duplicate": ["u2"]})
    sent = client.send(message("u1", "u2", idempotency_key="1"))
    details = client.details(sent.id)
    assert (details.key, details.recipients) == ("1", {"u1": "accepted", "u2": "duplicate"})
    client.recall(sent.id)
    recall = client.sent[-1]
    assert isinstance(recall, MessageRecall)
    assert (recall.message, recall.users) == (sent.id, ["u1"])
    client = RecordingClient()
    with pytest.raises(ContractError, match="no call that is known"):
        client.recall(client.send(message("u1")).id)


def test_actions_on_an_approval_are_recorded() -> None:
    client = RecordingClient()
    approval = client.approval("PROC-1")
    approval.agree("u1")
    approval.refuse("u1")
    approval.terminate("no longer needed")
    approval.comment("why?", "u1")
    assert [job.kind for job in client.sent] == [*["approval-decide"] * 2, *["api-call"] * 2]
    with pytest.raises(NotImplementedError, match="use the fixture `dingrelay`"):
        approval.wait()


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("approvals", {}),
        ("campaign", {"name": "spring", "message": {}, "recipients": ["u1"]}),
        ("campaign_ref", {"campaign_id": "1"}),
        ("erase_person", {"user": "u1"}),
        ("export_person", {"user": "u1"}),
        ("jobs", {"history": False}),
        ("person", {"user": "u1"}),
        ("resolve", {"job_id": "1", "sent": True}),
        ("whole_id", {"beginning": "1234"}),
    ],
)
def test_methods_that_need_a_database_say_so_and_make_none(
    method: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotImplementedError, match=f"no database, which {method} needs: use the"):
        getattr(RecordingClient(), method)(**arguments)
    assert list(tmp_path.iterdir()) == []


async def test_the_same_for_asyncio() -> None:
    async with RecordingAsyncClient(lambda job: None) as client:
        ref = await client.send(message("u1"))
        with pytest.raises(WaitTimeout):
            await ref.wait()
        client.client.end(ref.id, {"task_id": 1})
        assert (await ref.wait()).result == {"task_id": 1}
        assert [job.kind for job in client.sent] == ["message-send"]
        with pytest.raises(NotImplementedError):
            await client.erase_person("u1")
        await client.approval("PROC-1").agree("u1")
        with pytest.raises(NotImplementedError):
            await client.approval("PROC-1").wait()
