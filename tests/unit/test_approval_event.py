"""Approvals by events."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_tasks.approval_event import INSTANCE_CHANGE, TASK_CHANGE, change_of
from dingrelay_tasks.context import ApprovalTask
from support.examples import json_values

AT = 1_767_225_600_000
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def instance(**fields: Any) -> dict[str, Any]:
    return {"processInstanceId": "i1", "processCode": "PROC-1", "staffId": "u1", **fields}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"type": "start"}, "running"),
        ({"type": "finish", "result": "agree"}, "approved"),
        ({"type": "finsh", "result": "refuse"}, "refused"),
        ({"type": "terminate"}, "terminated"),
        ({"type": "delete"}, "deleted"),
        ({"type": "finish"}, None),
        ({"type": "something new"}, None),
        ({}, None),
    ],
)
def test_the_type_and_the_result_are_the_state(fields: dict[str, str], state: str | None) -> None:
    change = change_of(INSTANCE_CHANGE, instance(**fields))
    assert (change.state, change.originator, change.template) == (state, "u1", "PROC-1")


def test_fields_are_read_whatever_their_capitals_and_misspellings() -> None:
    fields = {"PROCESSINSTANCEID": "i1", "Type": "finish", "RESULT": "agree", "finshTime": str(AT)}
    change = change_of(INSTANCE_CHANGE, fields)
    assert (change.state, change.finished) == ("approved", MOMENT)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"type": "start"}, "running"),
        ({"type": "finish", "result": "agree"}, "agreed"),
        ({"type": "finish", "result": "refuse"}, "refused"),
        ({"type": "finish", "result": "redirect"}, "redirected"),
        ({"type": "cancel"}, "cancelled"),
    ],
)
def test_a_task_is_a_notice_with_its_person(fields: dict[str, str], state: Any) -> None:
    change = change_of(TASK_CHANGE, instance(taskId=71, finishTime=AT, **fields))
    assert change is not None
    ended = None if state == "running" else MOMENT
    assert change.tasks == [ApprovalTask(id="71", user="u1", state=state, ended=ended)]
    assert change.originator == "", "the person of a task is not the one who asked"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"processInstanceId": ""},
        {"processInstanceId": 7.5},
        {"processInstanceId": "i" * 200},
    ],
)
def test_an_event_without_an_approval_is_no_change(fields: dict[str, Any]) -> None:
    assert change_of(TASK_CHANGE, fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "start"},
        {"type": "finish", "taskId": 1, "staffId": "u1"},
        {"type": "something new", "taskId": 1, "staffId": "u1"},
    ],
)
def test_an_unknown_change_of_a_task_changes_none(fields: dict[str, Any]) -> None:
    change = change_of(TASK_CHANGE, {"processInstanceId": "i1", **fields})
    assert (change.state, change.tasks) == (None, [])


NAMES = ["processInstanceId", "type", "result", "taskId", "staffId", "title", "url"]
NAMES += ["createTime", "finishTime"]
DATA = st.dictionaries(st.sampled_from(NAMES), json_values(leaves=4))


@given(st.sampled_from([INSTANCE_CHANGE, TASK_CHANGE]), DATA)
def test_any_content_of_an_event_is_read_or_left_out(kind: str, data: dict[str, Any]) -> None:
    change = change_of(kind, data)
    if change is not None:
        for text in (change.instance, change.title, change.link, change.template):
            assert "\0" not in text
            text.encode()
