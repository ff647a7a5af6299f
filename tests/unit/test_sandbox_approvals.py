"""Approvals in both generations on one state (API §4)."""

from typing import Any

import pytest

from dingrelay_sandbox import reports
from unit.sandbox_caller import NOON, Caller

INSTANCES = "/v1.0/workflow/processInstances"
QUERY = "/v1.0/workflow/processes/instanceIds/query"
OLD = "/topapi/processinstance"
DAY_MS = 86_400_000
NOON_MS = int(NOON * 1000)


def create(caller: Caller, reason: str = "出差", **fields: Any) -> str:
    form = [{"name": "事由", "value": reason}]
    leave = {"processCode": "PROC-LEAVE", "formComponentValues": form}
    return caller.create(**leave | fields)


def create_old(caller: Caller, **fields: Any) -> str:
    reply = caller.post(
        f"{OLD}/create",
        {
            "process_code": "PROC-LEAVE",
            "originator_user_id": "u1",
            "dept_id": -1,
            "form_component_values": [{"name": "事由", "value": "出差"}],
            **fields,
        },
    )
    return str(reply.body.get("process_instance_id") or reply.code)


def test_an_instance_of_either_generation_is_seen_by_both(caller: Caller) -> None:
    new, old = create(caller), create_old(caller)
    instance = caller.post(f"{OLD}/get", {"process_instance_id": new}).body["process_instance"]
    assert instance["form_component_values"][0]["value"] == "出差"
    assert (instance["status"], instance["create_time"]) == ("RUNNING", "2026-11-24 12:00:00")
    answer = caller.get(INSTANCES, processInstanceId=old).body
    assert answer["result"]["originatorUserId"] == "u1"
    assert answer["result"]["createTime"] == "2026-11-24T04:00Z"
    assert answer["success"] == "true"


def test_two_equal_creates_make_two_and_the_audit_says_so(caller: Caller) -> None:
    assert create(caller) != create(caller)
    create(caller, "another")
    create(caller, originatorUserId="u2")
    report = reports.audit(caller.state)
    assert (report["approvals"], report["duplicates"]["approvals"]) == (4, 1)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"processCode": "PROC-NONE"}, "processCodeError"),
        ({"formComponentValues": [{"name": "unknown", "value": "x"}]}, "formConverterError"),
        ({"formComponentValues": [{"name": "事由", "value": 3}]}, "formConverterError"),
        ({"formComponentValues": []}, "formConverterError"),
        ({"originatorUserId": "stranger"}, "processInstanceInvalidParameter"),
        ({"deptId": 999}, "processInstanceInvalidParameter"),
        ({"deptId": None}, "invalidParameter"),
        ({"approvers": [{"actionType": "MAYBE", "userIds": ["u2"]}]}, "invalidParameter"),
        ({"approvers": [{"actionType": "AND", "userIds": ["u2"]}] * 21}, "invalidParameter"),
        ({"ccList": ["u2"] * 51}, "invalidParameter"),
        ({"ccPosition": "MIDDLE"}, "invalidParameter"),
        ({"microappAgentId": 5}, "invalidAgentId"),
    ],
)
def test_a_wrong_create_is_refused(caller: Caller, fields: dict[str, Any], code: str) -> None:
    assert create(caller, **fields) == code
    assert caller.state.approvals.instances == {}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"process_code": "PROC-NONE"}, "820001"),
        ({"form_component_values": [{"name": "unknown", "value": "x"}]}, "810003"),
        ({"originator_user_id": "stranger"}, "60121"),
        ({"originator_user_id": ""}, "40035"),
        ({"dept_id": 999}, "60003"),
        ({"agent_id": 5}, "40056"),
        ({"cc_list": ",".join(f"u{n}" for n in range(1, 22))}, "400002"),
    ],
)
def test_a_wrong_old_create_is_refused(caller: Caller, fields: dict[str, Any], code: str) -> None:
    assert create_old(caller, **fields) == code


def test_lists_come_in_pages_by_template_time_and_originator(caller: Caller) -> None:
    ids = [create(caller, f"reason {n}") for n in range(25)]
    create(caller, originatorUserId="u2")
    create(caller, processCode="PROC-ANY")
    wanted = {"processCode": "PROC-LEAVE", "startTime": NOON_MS, "userIds": ["u1"]}
    answer = caller.post(QUERY, {**wanted, "nextToken": 0, "maxResults": 20}).body
    assert answer["success"] is True
    first = answer["result"]
    second = caller.post(QUERY, {**wanted, "nextToken": first["nextToken"], "maxResults": 20})
    assert first["list"] + second.body["result"]["list"] == ids
    assert "nextToken" not in second.body["result"]
    old = {"process_code": "PROC-LEAVE", "start_time": NOON_MS, "userid_list": "u1", "size": 20}
    head = caller.post(f"{OLD}/listids", old).body["result"]
    tail = caller.post(f"{OLD}/listids", {**old, "cursor": head["next_cursor"]}).body["result"]
    assert head["list"] + tail["list"] == ids
    later = {**wanted, "startTime": NOON_MS + 1, "nextToken": 0, "maxResults": 20}
    caller.now += 5
    assert caller.post(QUERY, later).body["result"]["list"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"maxResults": 21},
        {"startTime": NOON_MS - 121 * DAY_MS},
        {"startTime": NOON_MS - 366 * DAY_MS, "endTime": NOON_MS - 300 * DAY_MS},
        {"startTime": NOON_MS + 5},
        {"userIds": ["u1"] * 11},
        {"nextToken": -1},
    ],
)
def test_a_list_beyond_the_limits_is_refused(caller: Caller, fields: dict[str, Any]) -> None:
    wanted = {"processCode": "PROC-ANY", "startTime": NOON_MS, "nextToken": 0, "maxResults": 20}
    assert caller.post(QUERY, {**wanted, **fields}).code == "invalidParameter"


def test_new_instances_can_be_late_in_the_lists(caller: Caller) -> None:
    caller.limit(listing_lag_seconds=5)
    wanted = {"processCode": "PROC-LEAVE", "startTime": NOON_MS, "nextToken": 0, "maxResults": 20}
    created = create(caller)
    assert caller.post(QUERY, wanted).body["result"]["list"] == []
    caller.now += 5
    assert caller.post(QUERY, wanted).body["result"]["list"] == [created]
