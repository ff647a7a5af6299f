"""The walk of a job through real processes."""

from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, UserSync
from dingrelay_tasks.contract import QUEUES
from support import jobs


def test_each_kind_is_carried_out(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    fleet.spawn(queues=QUEUES)
    message = client.send(jobs.message("u1", "u2", text="你好"))
    approval = client.send(
        ApprovalCreate.parse(
            {
                "process_code": "PROC-LEAVE",
                "originator": "u1",
                "form": {"事由": "出差", "天数": 3},
            }
        )
    )
    sync = client.send(UserSync())
    ended = wait_for_ends(client, [message.id, approval.id, sync.id], timeout=60)
    assert [status.state for status in ended] == [State.DONE] * 3, ended
    sent, created, synced = (status.result or {} for status in ended)
    assert sent["accepted"] == 2
    (entry,) = sandbox.inbox("u1")["delivered"]
    assert entry["message"] == {"msgtype": "text", "text": {"content": "你好"}}
    assert [made["id"] for made in sandbox.approvals()] == [created["instance_id"]]
    assert (synced["departments"], synced["users"]) == (10, 200)
