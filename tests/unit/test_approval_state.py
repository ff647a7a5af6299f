"""How approvals stand, as both generations of the API tell it."""

from datetime import UTC, datetime

import pytest

from dingrelay_tasks.context import ApprovalTask
from dingrelay_workers.dingtalk.approvals import moment, state_of, tasks_of


@pytest.mark.parametrize(
    ("status", "result", "state"),
    [
        ("NEW", "", "running"),
        ("RUNNING", "", "running"),
        ("COMPLETED", "agree", "approved"),
        ("COMPLETED", "refuse", "refused"),
        ("TERMINATED", "", "terminated"),
        ("CANCELED", "", "terminated"),
        ("COMPLETED", "", None),
        ("SOMETHING_NEW", "agree", None),
    ],
)
def test_status_and_result_are_the_state(status: str, result: str, state: str | None) -> None:
    assert state_of(status, result) == state


def test_both_generations_have_tasks() -> None:
    new = {
        "taskId": 71,
        "userId": "u2",
        "status": "COMPLETED",
        "result": "AGREE",
        "createTime": "2026-01-01T00:00Z",
        "finishTime": "2026-01-01T00:05Z",
    }
    old = {
        "taskid": "71",
        "userid": "u2",
        "task_status": "COMPLETED",
        "task_result": "AGREE",
        "create_time": "2026-01-01 08:00:00",
        "finish_time": "2026-01-01 08:05:00",
    }
    start = datetime(2026, 1, 1, tzinfo=UTC)
    expected = ApprovalTask(
        id="71", user="u2", state="agreed", since=start, ended=start.replace(minute=5)
    )
    assert tasks_of([new]) == tasks_of([old]) == [expected]


def test_a_task_that_nobody_can_be_named_for_is_left_out() -> None:
    assert tasks_of([{"taskId": 1}, {"userId": "u"}, {"taskId": [], "userId": {}}]) == []


def test_a_moment_in_a_form_of_its_own_is_none() -> None:
    assert moment("") is None
    assert moment("yesterday") is None
    assert moment("0001-01-01 00:00:00") is None
