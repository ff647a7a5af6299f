"""The events of the sandbox: what makes them, their shape, who gets them."""

import random
from typing import Any

import pytest

from dingrelay_sandbox.events.callbacks import Callback, CallbackCrypto, wants
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaults, EventFaultSpec
from dingrelay_sandbox.events.log import Delivery, EventLog
from unit.sandbox_caller import NOON, Caller

INSTANCES = "/v1.0/workflow/processInstances"
NOON_MS = int(NOON * 1_000)

AES_KEY = "1234567890123456789012345678901234567890123"
ENCRYPTED = CallbackCrypto(AES_KEY, "owner").encrypt("success")


@pytest.mark.parametrize(
    "text",
    ["", "no base64!", "AAAA", ENCRYPTED[:-8], CallbackCrypto("a" * 43, "owner").encrypt("x")],
)
def test_text_of_another_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        CallbackCrypto(AES_KEY, "owner").decrypt(text)
    with pytest.raises(ValueError, match="owner"):
        CallbackCrypto(AES_KEY, "another").decrypt(ENCRYPTED)


@pytest.mark.parametrize("key", ["short", "x" * 44, "!" * 43])
def test_a_wrong_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="aes_key"):
        Callback(url="http://127.0.0.1/", token="abc", aes_key=key)


def emitted(caller: Caller) -> list[tuple[str, dict[str, Any]]]:
    """The events since the start, and the fields of each; their ids differ."""
    events = caller.state.events.reports(since=0, kind="", state="", limit=1_000)
    assert len({event["id"] for event in events}) == len(events)
    assert {event["at"] for event in events} <= {NOON}
    return [(event["type"], event["fields"]) for event in events]


def test_people_come_change_and_go(caller: Caller) -> None:
    people = caller.state.organisation
    people.put_user("new", {"name": "新人", "active": False, "remark": None})
    people.put_user("new", {"name": "新人"})
    people.put_user("new", {"active": True})
    people.put_user("new", {"dept_id_list": [2]})
    people.put_user("new", {"job_number": "7", "email": None, "hired_date": 1_577_836_800_000})
    people.delete_user("new")
    moment = {"timeStamp": str(NOON_MS), "userId": ["new"]}
    (added, active, moved, changed, left) = emitted(caller)
    assert added == ("user_add_org", moment)
    assert active == ("user_active_org", moment)
    assert moved == ("user_modify_org", moment)
    assert left == ("user_leave_org", moment)
    assert changed[0] == "user_modify_org"
    difference = changed[1]["diffInfo"]
    assert difference["userid"] == "new"
    assert difference["curr"]["jobNumber"] == "7"
    assert difference["curr"]["hiredDate"] == "2020-01-01"
    assert "email" not in difference["curr"]
    assert difference["prev"]["name"] == difference["curr"]["name"] == "新人"


def test_departments_come_change_and_go(caller: Caller) -> None:
    organisation = caller.state.organisation
    organisation.put_department(99, {"name": "新"})
    organisation.put_department(99, {"name": "新"})
    organisation.put_user("u2", {"dept_id_list": [99]})
    organisation.put_department(99, {"parent_id": 2})
    organisation.delete_department(99)
    assert [
        (kind, fields.get("deptId", fields.get("userId"))) for kind, fields in emitted(caller)
    ] == [
        ("org_dept_create", [99]),
        ("user_modify_org", ["u2"]),
        # Which has another head since then.
        ("org_dept_modify", [2]),
        ("org_dept_modify", [99]),
        # A person who was nowhere else is moved to the root.
        ("user_modify_org", ["u2"]),
        ("org_dept_remove", [99]),
    ]


def test_another_organisation_makes_no_events(caller: Caller) -> None:
    caller.state.organisation.seed(users=5, departments=2, seed=3)
    assert emitted(caller) == []


def steps(caller: Caller) -> list[tuple[str, str, str, str]]:
    """Owner, type, person and result of each event of approvals."""
    return [
        (kind.split("_")[1], fields["type"], fields["staffId"], fields.get("result", ""))
        for kind, fields in emitted(caller)
    ]


def test_each_step_of_an_approval_is_an_event(caller: Caller) -> None:
    made = caller.create(("OR", ["u2", "u3"]), ("NONE", ["u4"]))
    flow = caller.state.approvals.find(made)
    flow.redirect(flow.open_tasks[0], "u5", at=NOON, remark="请看")
    flow.decide(flow.open_tasks[1], agree=True, at=NOON)
    flow.comment("u9", "快一点", at=NOON)
    flow.decide(flow.open_tasks[0], agree=False, at=NOON, remark="不行")
    assert steps(caller) == [
        ("instance", "start", "u1", ""),
        ("task", "start", "u2", ""),
        ("task", "start", "u3", ""),
        ("task", "finish", "u2", "redirect"),
        ("task", "start", "u5", ""),
        ("task", "finish", "u5", "agree"),
        ("task", "cancel", "u3", ""),
        ("task", "start", "u4", ""),
        ("task", "comment", "u9", ""),
        ("task", "finish", "u4", "refuse"),
        ("instance", "finish", "u1", "refuse"),
    ]


def test_fields_of_the_events_of_an_instance(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    flow = caller.state.approvals.find(made)
    flow.terminate("u1", at=NOON)
    caller.state.approvals.delete(made, at=NOON)
    start, begun, cancelled, ended, deleted = (fields for _, fields in emitted(caller))
    name = caller.state.organisation.fields(caller.state.organisation.people["u1"])["name"]
    common = {
        "processInstanceId": made,
        "processCode": "PROC-ANY",
        "businessId": start["businessId"],
        "bizCategoryId": "",
        "title": f"{name}提交的通用",
        "createTime": NOON_MS,
    }
    url = start["url"]
    own = {**common, "businessType": "", "staffId": "u1", "url": url}
    assert start == {**own, "type": "start"}
    assert ended == {**own, "type": "terminate", "finishTime": NOON_MS}
    assert deleted == {**own, "type": "delete", "finishTime": NOON_MS}
    task = {**common, "staffId": "u2", "taskId": begun["taskId"]}
    assert begun == {**task, "type": "start"}
    assert cancelled == {**task, "type": "cancel", "finishTime": NOON_MS}
    assert isinstance(begun["taskId"], int)


def test_an_event_is_pushed_over_http_in_two_spellings() -> None:
    event = Event("user_add_org", NOON, {"timeStamp": str(NOON_MS), "userId": ["u1"]})
    assert event.pushed("corp") == {
        "EventType": "user_add_org",
        "EventTime": NOON_MS,
        "CorpId": "corp",
        "BizId": event.biz_id,
        "eventId": event.id,
        "timeStamp": str(NOON_MS),
        "userId": ["u1"],
    }
    assert event.pushed("corp", "registered") == {
        "EventType": "user_add_org",
        "CorpId": "corp",
        "TimeStamp": str(NOON_MS),
        "UserId": ["u1"],
    }
    approval = Event("bpms_task_change", NOON, {"taskId": 1})
    assert approval.pushed("corp", "registered")["corpId"] == "corp"


def test_an_app_chooses_its_events() -> None:
    path = "/v1.0/event/bpms_instance_change/processCode/{PROC-1}/type/finish"
    event = Event("bpms_instance_change", NOON, {"processCode": "PROC-1", "type": "finish"})
    other = Event("bpms_instance_change", NOON, {"processCode": "PROC-2", "type": "finish"})
    assert [wants(choice, event) for choice in ([], [event.type], ["x"], [path])] == [
        True,
        True,
        False,
        True,
    ]
    assert not wants([path], other)
    assert not wants([path], Event("bpms_task_change", NOON, {"processCode": "PROC-1"}))


def test_the_failed_list_names_its_data_as_dingtalk_does(caller: Caller) -> None:
    state = caller.state
    state.callbacks.put(Callback(url="http://127.0.0.1/", token="abc", aes_key=AES_KEY))
    kinds = {
        "user_add_org": {"userId": ["u1"], "timeStamp": "1"},
        "org_dept_create": {"deptId": [7]},
        "bpms_task_change": {"taskId": 1},
        "label_conf_add": {"x": 1},
    }

    def fetch() -> dict[str, Any]:
        for kind, fields in kinds.items():
            event = Event(kind, NOON, fields)
            state.callbacks.fail("sandbox-key", event, until=NOON + 1)
        return caller.get("/call_back/get_call_back_failed_result").body

    answer = fetch()
    assert (answer["errcode"], answer["has_more"]) == (0, False)
    corp = {"corpid": "sandbox-corp"}
    assert answer["failed_list"] == [
        {each["call_back_tag"]: data, "call_back_tag": kind, "event_time": NOON_MS}
        for each, kind, data in zip(
            answer["failed_list"],
            kinds,
            [
                {"userid": ["u1"], **corp},
                {"callbackData": {"deptId": [7]}, **corp},
                {"bpmsCallBackData": {"taskId": 1}, **corp},
                {"roleLabelChange": {"x": 1}, **corp},
            ],
            strict=True,
        )
    ]
    state.delivery_times = state.delivery_times.changed({"failed_hollow": True})
    hollow = fetch()["failed_list"]
    assert hollow[0]["user_add_org"]["userid"] == []
    assert hollow[2]["bpms_task_change"] == {"bpmsCallBackData": {}, **corp}


def deliver(log: EventLog) -> Delivery:
    event = Event("user_add_org", NOON, {})
    log.add(event)
    return Delivery(log, event, "sandbox-key", "http")


def test_the_log_keeps_the_newest_and_counts_what_has_ended() -> None:
    log = EventLog(kept=2)
    deliveries = [deliver(log) for _ in range(3)]
    with pytest.raises(LookupError):
        log.find(deliveries[0].event.id)
    deliveries[0].settle("delivered")
    assert (log.summary()["delivered"], log.summary()["waiting"]) == (1, 2)


def test_nothing_of_before_a_reset_is_counted(caller: Caller) -> None:
    before = deliver(caller.state.events)
    caller.state.reset()
    before.attempt("success", at=NOON, took=1)
    before.settle("delivered")
    assert set(caller.state.events.summary().values()) == {0}


def test_a_fault_meets_its_share_its_count_and_its_time() -> None:
    now = 0.0
    faults = EventFaults(lambda: now, random.Random(1))
    delivery = deliver(EventLog())
    faults.add(EventFaultSpec(kind="swallow", share=0.3))
    met = sum(faults.draw("swallow", delivery) is not None for _ in range(2_000))
    assert 500 < met < 700
    assert faults.delete() == 1
    faults.add(EventFaultSpec(kind="swallow", count=2, seconds=5, types=("user_add_org",)))
    assert faults.draw("delay", delivery) is None
    other = Delivery(EventLog(), Event("x", NOON, {}), "sandbox-key", "http")
    assert faults.draw("swallow", other) is None
    assert [faults.draw("swallow", delivery) is not None for _ in range(3)] == [True, True, False]
    assert faults.report()[0]["met"] == 2
    number = faults.add(EventFaultSpec(kind="swallow", seconds=5))
    now = 5.0
    assert faults.draw("swallow", delivery) is None
    assert faults.delete(number) == 1


def test_an_app_registers_its_callback_by_the_old_api(caller: Caller) -> None:
    wanted = {
        "call_back_tag": ["user_add_org"],
        "token": "123456",
        "aes_key": AES_KEY,
        "url": "http://127.0.0.1:1/a",
    }
    for path in ("get_call_back", "delete_call_back"):
        assert caller.get(f"/call_back/{path}").code == "71007"
    assert caller.post("/call_back/update_call_back", wanted).code == "71007"
    wrong = caller.post("/call_back/register_call_back", {**wanted, "aes_key": "short"})
    assert wrong.code == "71010"
    assert caller.post("/call_back/register_call_back", wanted).body["errcode"] == 0
    assert caller.post("/call_back/register_call_back", wanted).code == "71006"
    moved = {**wanted, "url": "http://127.0.0.1:1/b"}
    assert caller.post("/call_back/update_call_back", moved).body["errcode"] == 0
    found = caller.get("/call_back/get_call_back").body
    assert {name: found[name] for name in moved} == moved
    (callback,) = caller.state.callbacks.all()
    assert (callback.owner_key, callback.casing) == ("sandbox-corp", "registered")
    assert caller.get("/call_back/delete_call_back").body["errcode"] == 0
    assert caller.state.callbacks.all() == []
