"""Approvals decided while DingTalk's events get lost: their states are right within the schedule."""

import json
import os
from typing import Any

import pytest

from acceptance.fleet import MESSAGE_QUEUES, Fleet
from acceptance.gateway_process import GatewayProcess
from conftest import wait_until
from dingrelay_producers import Client, JobRef
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate
from dingrelay_tasks.approval_event import INSTANCE_CHANGE
from dingrelay_tasks.contract import EVENTS_QUEUE
from support.callbacks import AES_KEY, TOKEN, VARIABLES
from support.databases import rows

APPROVALS = int(os.environ.get("APPROVALS", "40"))
"""200 take a minute and show the same."""
LOST = 0.3
"""Share of the events that are lost."""
LOOKS = [3.0, 6.0, 12.0]
"""Seconds instead of minutes and hours: longer than all of them take to be decided."""
CALLS, LOOK_SHARE = 100_000, 0.01

READ = "/v1.0/workflow/processInstances"


@pytest.fixture
def sandbox_env(sandbox_env: dict[str, str]) -> dict[str, str]:
    return {
        **sandbox_env,
        **VARIABLES,
        "DINGRELAY_RULES": '{"*": {"calls": ""}, "egress": {"calls": ""}}',
        "DINGRELAY_QUOTA": json.dumps({"edition": str(CALLS)}),
        "DINGRELAY_APPROVALS": json.dumps({"looks": LOOKS, "look_share": LOOK_SHARE}),
    }


def table(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The rows of approvals by their ids."""
    found = rows(fleet.env["DINGRELAY_DATABASE_URL"], "select * from approvals")
    return {row["instance"]: row for row in found}


def states_at_dingtalk(sandbox: SandboxAdmin) -> dict[str, str]:
    ends = {"agree": "approved", "refuse": "refused", "": "running"}
    return {
        made["id"]: "terminated" if made["status"] == "TERMINATED" else ends[made["result"]]
        for made in sandbox.approvals()
    }


def ends_delivered(sandbox: SandboxAdmin) -> set[str]:
    """Approvals whose end DingTalk could tell."""
    return {
        event["fields"]["processInstanceId"]
        for event in sandbox.events(kind=INSTANCE_CHANGE)
        if event["fields"]["type"] != "start"
        and any(delivery["state"] == "delivered" for delivery in event["deliveries"])
    }


def test_states_are_right_though_events_are_lost(
    fleet: Fleet, gateway: GatewayProcess, sandbox: SandboxAdmin, client: Client
) -> None:
    sandbox.set_limits(calls="", terminate_after_seconds=0)
    wait_until(gateway.ready, what="the gateway is up")
    fleet.spawn(queues=[*MESSAGE_QUEUES, EVENTS_QUEUE])
    sandbox.put_callback(f"{gateway.url}/callbacks/dingtalk/default", token=TOKEN, aes_key=AES_KEY)
    sandbox.add_event_fault("swallow", share=LOST)
    refs: list[JobRef] = []
    client.send_many(
        [
            ApprovalCreate(
                process_code="PROC-ANY",
                originator=f"u{number}",
                form={"事由": f"第 {number} 份"},  # type: ignore[arg-type]
                approvers=[{"action": "AND", "users": ["u7", "u8"]}],  # type: ignore[list-item]
            )
            for number in range(1, APPROVALS + 1)
        ],
        on_sent=refs.append,
    )
    wait_until(
        lambda: len(states_at_dingtalk(sandbox)) == APPROVALS, timeout=90, what="all are created"
    )
    for number, instance in enumerate(states_at_dingtalk(sandbox)):
        if number % 5 == 0:
            sandbox.act(instance, "terminate", f"u{number + 1}")
        else:
            sandbox.advance(instance, "refuse" if number % 5 == 1 else "agree", to_end=True)
    decided = states_at_dingtalk(sandbox)
    assert set(decided.values()) == {"approved", "refused", "terminated"}

    wait_until(
        lambda: {instance: row["state"] for instance, row in table(fleet).items()} == decided,
        timeout=90,
        what="the table says what DingTalk says",
    )
    kept, delivered = table(fleet), ends_delivered(sandbox)
    assert 0 < len(delivered) < APPROVALS, "some events were lost, and not all"
    assert {row["source"] for row in kept.values()} == {"event", "look"}
    assert max(kept[instance]["looks"] for instance in delivered) <= 2
    assert all(kept[instance]["looks"] for instance in kept.keys() - delivered)

    def reads() -> int:
        return sum(call["api"] == READ for call in sandbox.calls()) - APPROVALS

    # A look may have been on its way when an event brought the end: its row is written a moment later.
    wait_until(
        lambda: reads() == sum(row["looks"] for row in table(fleet).values()),
        what="every read is counted as a look",
    )
    assert reads() <= CALLS * LOOK_SHARE
