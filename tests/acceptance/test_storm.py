"""A storm of throttling answers: the fleet falls silent at once, and no job pays for it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import QUEUES
from support.jobs import message

STORM_SECONDS = 10
MOST_CALLS = 10
"""Calls of the whole fleet into one storm."""


@dataclass(frozen=True)
class Storm:
    """Every call on this path is throttled with this code."""

    api: str
    code: str


STORMS = (
    Storm("/topapi/message/corpconversation/asyncsend_v2", "43004"),
    Storm("/topapi/v2/user/get", "90018"),
    Storm("/v1.0/workflow/processInstances", "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"),
)


def jobs(number: int) -> tuple[MessageSend, UserSync, ApprovalCreate]:
    """One job for each storm."""
    return (
        message(f"u{number}", text=f"第{number}条"),
        UserSync(scope="user", user=f"u{number}"),
        ApprovalCreate.parse(
            {"process_code": "PROC-LEAVE", "originator": "u1", "form": {"天数": number}}
        ),
    )


def test_a_fleet_outlasts_storms(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    fleet.spawn(2, concurrency=16, queues=QUEUES)
    ids: list[str] = []

    def send(numbers: Iterable[int]) -> None:
        ids.extend(traffic.send_all(client, (job for number in numbers for job in jobs(number))))

    send(range(1, 21))
    wait_until(lambda: sandbox.audit()["accepted"] >= 20, what="the jobs are on their way")
    for storm in STORMS:
        sandbox.add_fault("throttle", api=storm.api, code=storm.code, seconds=STORM_SECONDS)
    send(range(21, 61))
    ended = wait_for_ends(client, ids, timeout=60)

    met = Counter(call["api"] for call in sandbox.calls() if call["fault"])
    for storm in STORMS:
        assert 2 <= met[storm.api] <= MOST_CALLS, met
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}
    audit = sandbox.audit()
    assert sum(status.throttles for status in ended) == audit["throttled"] >= met.total()
    assert (audit["delivered"], audit["approvals"]) == (60, 60)
    assert audit["duplicates"]["approvals"] == 0
