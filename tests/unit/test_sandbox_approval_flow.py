"""Life of an approval: tasks, decisions, comments, redirection, withdrawal (API §11.8)."""

from typing import Any

from dingrelay_sandbox import reports
from dingrelay_sandbox.templates import Template
from unit.sandbox_caller import Caller, Reply

WORKFLOW = "/v1.0/workflow"
INSTANCES = f"{WORKFLOW}/processInstances"


def instance_of(caller: Caller, instance: str) -> dict[str, Any]:
    result = caller.get(INSTANCES, processInstanceId=instance).body["result"]
    assert isinstance(result, dict)
    return result


def tasks(caller: Caller, instance: str) -> list[tuple[str, str, str]]:
    found = instance_of(caller, instance)["tasks"]
    return [(each["userId"], each["status"], each["result"]) for each in found]


def decide(caller: Caller, instance: str, user: str, result: str = "agree", **fields: Any) -> Reply:
    found = instance_of(caller, instance)["tasks"]
    task = next(each["taskId"] for each in reversed(found) if each["userId"] == user)
    payload = {"processInstanceId": instance, "taskId": task, "actionerUserId": user}
    return caller.post(f"{INSTANCES}/execute", {**payload, "result": result, **fields})


def test_all_of_a_step_must_agree_before_the_next_is_asked(caller: Caller) -> None:
    made = caller.create(("AND", ["u2", "u3"]), ("NONE", ["u4"]))
    assert decide(caller, made, "u2", remark="好").body == {"result": True, "success": True}
    assert tasks(caller, made) == [("u2", "COMPLETED", "AGREE"), ("u3", "RUNNING", "NONE")]
    decide(caller, made, "u3")
    assert tasks(caller, made)[-1] == ("u4", "RUNNING", "NONE")
    decide(caller, made, "u4")
    end = instance_of(caller, made)
    assert (end["status"], end["result"]) == ("COMPLETED", "agree")
    assert end["finishTime"]
    records = [(each["type"], each["result"], each["userId"]) for each in end["operationRecords"]]
    assert records == [
        ("START_PROCESS_INSTANCE", "NONE", "u1"),
        ("EXECUTE_TASK_NORMAL", "AGREE", "u2"),
        ("EXECUTE_TASK_NORMAL", "AGREE", "u3"),
        ("EXECUTE_TASK_NORMAL", "AGREE", "u4"),
    ]
    assert end["operationRecords"][1]["remark"] == "好"


def test_one_of_a_step_is_enough_and_the_others_are_let_go(caller: Caller) -> None:
    made = caller.create(("OR", ["u2", "u3"]))
    decide(caller, made, "u3")
    assert tasks(caller, made) == [("u2", "CANCELED", "NONE"), ("u3", "COMPLETED", "AGREE")]
    assert instance_of(caller, made)["status"] == "COMPLETED"


def test_one_refusal_ends_it(caller: Caller) -> None:
    made = caller.create(("AND", ["u2", "u3"]), ("NONE", ["u4"]))
    decide(caller, made, "u2", "refuse")
    end = instance_of(caller, made)
    assert (end["status"], end["result"]) == ("COMPLETED", "refuse")
    assert tasks(caller, made) == [("u2", "COMPLETED", "REFUSE"), ("u3", "CANCELED", "NONE")]


def test_the_first_generation_spells_tasks_its_own_way(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]), ccList=["u5"], ccPosition="START_FINISH")
    decide(caller, made, "u2")
    reply = caller.post("/topapi/processinstance/get", {"process_instance_id": made})
    instance = reply.body["process_instance"]
    (task,) = instance["tasks"]
    assert (task["task_status"], task["task_result"], task["userid"]) == (
        "COMPLETED",
        "AGREE",
        "u2",
    )
    assert task["taskid"].isdecimal()
    assert (task["create_time"], task["finish_time"]) == ("2026-11-24 12:00:00",) * 2
    assert [each["operation_type"] for each in instance["operation_records"]] == [
        "START_PROCESS_INSTANCE",
        "PROCESS_CC",
        "EXECUTE_TASK_NORMAL",
        "PROCESS_CC",
    ]
    assert (instance["result"], instance["cc_userids"]) == ("agree", ["u5"])


def test_a_task_is_its_owners_and_open(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    wrong = "processInstanceInvalidParameter"
    assert decide(caller, made, "u2", actionerUserId="u3").code == wrong
    assert decide(caller, made, "u2", taskId=1).code == wrong
    unnamed = decide(caller, made, "u2", actionerUserId="")
    assert unnamed.code == "invalidInstanceExecuteActionerUserId"
    assert decide(caller, made, "u2", "perhaps").code == "invalidInstanceExecuteResult"
    assert decide(caller, made, "u2", remark="x" * 1_025).code == "invalidParameter"
    many = {"attachments": [{"fileId": "1"}] * 21}
    assert decide(caller, made, "u2", file=many).code == "invalidParameter"
    assert decide(caller, made, "u2", processInstanceId="x").code == "aflowProcessInstNotExist"
    assert decide(caller, made, "u2", processInstanceId="").code == "invalidInstanceId"
    assert decide(caller, made, "u2", remark="x" * 1_024).status == 200
    assert decide(caller, made, "u2").code == "aflowProcessInstStatusException"


def test_a_task_can_be_handed_on(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    (task,) = instance_of(caller, made)["tasks"]
    wanted = {"taskId": task["taskId"], "operateUserId": "u2", "toUserId": "u3", "remark": "请看"}
    path = f"{WORKFLOW}/tasks/redirect"

    def code(**fields: Any) -> str:
        return caller.post(path, {**wanted, **fields}).code

    assert code(remark="x" * 257) == "invalidParameter"
    assert code(toUserId="stranger") == code(taskId=1) == "param.illegal"
    assert code(toUserId="") == "param.blank"
    assert code(operateUserId="u3") == "param.illegal.operator"
    assert caller.post(path, wanted).body == {"result": True}
    assert tasks(caller, made) == [("u2", "COMPLETED", "REDIRECTED"), ("u3", "RUNNING", "NONE")]
    assert instance_of(caller, made)["operationRecords"][-1]["type"] == "REDIRECT_TASK"
    assert code() == "task.status.error"
    decide(caller, made, "u3")
    assert instance_of(caller, made)["result"] == "agree"
    assert code() == "instance.status.error"


def test_a_comment_is_in_the_records(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    path = f"{INSTANCES}/comments"
    wanted = {"processInstanceId": made, "text": "请尽快", "commentUserId": "u3"}
    assert caller.post(path, wanted).body == {"result": True, "success": True}
    record = instance_of(caller, made)["operationRecords"][-1]
    assert (record["type"], record["userId"], record["remark"]) == ("ADD_REMARK", "u3", "请尽快")
    many = {"attachments": [{"fileId": "1"}] * 21}
    assert caller.post(path, {**wanted, "file": many}).code == "invalidParameter"
    assert caller.post(path, {**wanted, "text": "x" * 1_025}).code == "invalidParameter"
    assert caller.post(path, {**wanted, "text": ""}).code == "invalidInstanceCommentText"
    assert caller.post(path, {**wanted, "commentUserId": "stranger"}).code == "userNotExist"
    caller.state.approvals.find(made).terminate("u1", at=caller.now)
    assert caller.post(path, wanted).code == "aflowProcessInstCanNotBeExecuted"


def test_a_withdrawn_approval_leaves_no_task(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    wanted = {"processInstanceId": made, "isSystem": False, "operatingUserId": "u1"}
    path = f"{INSTANCES}/terminate"

    def code(**fields: Any) -> str:
        refused = caller.post(path, {**wanted, **fields})
        assert refused.status == 400
        return refused.code

    assert code() == "aflowProcessInstStatusException"
    caller.now += 15
    assert code(operatingUserId="stranger") == "userNotExist"
    assert code(operatingUserId="") == "invalidInstanceTerminateOperatingUserId"
    assert code(operatingUserId="u2") == code(remark="x" * 1_025) == "invalidParameter"
    withdrawn = caller.post(path, {**wanted, "remark": "误"})
    assert withdrawn.body == {"result": True, "success": True}
    assert tasks(caller, made) == [("u2", "CANCELED", "NONE")]
    end = instance_of(caller, made)
    assert (end["status"], end["result"]) == ("TERMINATED", "")
    assert end["operationRecords"][-1]["type"] == "TERMINATE_PROCESS_INSTANCE"
    assert code() == "aflowProcessInstStatusException"


def test_a_template_may_forbid_withdrawal(caller: Caller) -> None:
    caller.state.approvals.templates["P"] = Template(process_code="P", revocable=False)
    made = caller.create(("NONE", ["u2"]), processCode="P")
    caller.now += 16
    refused = caller.post(f"{INSTANCES}/terminate", {"processInstanceId": made})
    assert (refused.status, refused.code) == (400, "internalError")
    old = {"request": {"process_instance_id": made, "is_system": True}}
    assert caller.post("/topapi/process/instance/terminate", old).code == "820008"


def test_the_first_generation_decides_comments_and_withdraws(caller: Caller) -> None:
    path = "/topapi/process/instance"
    made = caller.create(("AND", ["u2", "u3"]))
    (first, _) = instance_of(caller, made)["tasks"]

    def post(verb: str, **fields: Any) -> Reply:
        request = {"process_instance_id": made, **fields}
        return caller.post(f"{path}/{verb}", {"request": request})

    agreed = {"task_id": first["taskId"], "actioner_userid": "u2", "result": "agree"}
    assert post("execute", **{**agreed, "actioner_userid": "u3"}).code == "400002"
    assert post("execute", **{**agreed, "task_id": 1}).code == "400002"
    assert post("execute", **{**agreed, "result": "x"}).code == "400002"
    assert post("execute", **agreed, remark="x" * 1_025).code == "400002"
    assert post("execute", **{**agreed, "process_instance_id": "x"}).code == "820006"
    body = post("execute", **agreed).body
    assert (body["errcode"], body["result"], body["success"]) == (0, True, True)
    assert post("execute", **agreed).code == "820005"
    assert post("comment/add", text="x" * 1_025, comment_userid="u9").code == "400002"
    assert post("comment/add", text="好", comment_userid="stranger").code == "60121"
    assert post("comment/add", text="好", comment_userid="u9").body["result"] is True
    assert post("terminate", is_system=True).code == "820005"
    caller.now += 15
    assert post("terminate", is_system=False, operating_userid="u2").code == "400002"
    assert post("terminate", is_system=True, remark="x" * 1_025).code == "400002"
    assert post("terminate", is_system=True, process_instance_id="x").code == "820006"
    ended = post("terminate", is_system=True)
    assert (ended.code, ended.body["success"]) == ("0", True)
    records = [each["type"] for each in instance_of(caller, made)["operationRecords"]]
    assert records == [
        "START_PROCESS_INSTANCE",
        "EXECUTE_TASK_NORMAL",
        "ADD_REMARK",
        "TERMINATE_PROCESS_INSTANCE",
    ]
    assert post("execute", **agreed).code == "820005"


def test_without_approvers_the_template_asks_its_own(caller: Caller) -> None:
    template = Template(process_code="P", approvers=("u7", "u8"))
    caller.state.approvals.templates["P"] = template
    made = caller.create(processCode="P")
    assert tasks(caller, made) == [("u7", "RUNNING", "NONE")]
    decide(caller, made, "u7")
    assert tasks(caller, made)[-1] == ("u8", "RUNNING", "NONE")
    assert tasks(caller, caller.create()) == [("u1", "RUNNING", "NONE")]


def test_the_originator_chooses_the_approvers_that_the_preview_names(caller: Caller) -> None:
    template = Template(process_code="P", approvers=("u7",), target_select=("manual_1",))
    caller.state.approvals.templates["P"] = template
    form = [{"name": "a", "value": "1"}]
    wanted = {"processCode": "P", "deptId": -1, "userId": "u1", "formComponentValues": form}
    rules = caller.post(f"{WORKFLOW}/processes/forecast", wanted).body["result"]
    keys = [
        rule["workflowActor"]["actorKey"]
        for rule in rules["workflowActivityRules"]
        if rule["isTargetSelect"]
    ]
    assert keys == ["manual_1"]
    assert caller.create(processCode="P") == "targetSelectApproverMissing"
    other = [{"actionerKey": "other", "actionerUserIds": ["u5"]}]
    refused = caller.create(processCode="P", targetSelectActioners=other)
    assert refused == "targetSelectApproverScopeError"
    chosen = [{"actionerKey": "manual_1", "actionerUserIds": ["u5"]}]
    made = caller.create(processCode="P", targetSelectActioners=chosen)
    assert tasks(caller, made) == [("u5", "RUNNING", "NONE")]
    decide(caller, made, "u5")
    assert tasks(caller, made)[-1] == ("u7", "RUNNING", "NONE")


def test_an_originator_must_be_in_the_department(caller: Caller) -> None:
    place = caller.state.organisation.people["u2"].departments[0]
    other = next(each for each in (2, 3, 4, 5) if each != place)
    assert caller.create(originatorUserId="u2", deptId=other) == "processInstanceInvalidParameter"
    assert len(caller.create(originatorUserId="u2", deptId=place)) == 36


def test_the_report_has_tasks_and_results(caller: Caller) -> None:
    made = caller.create(("NONE", ["u2"]))
    decide(caller, made, "u2", "refuse")
    (report,) = reports.approvals(caller.state)
    assert (report["status"], report["result"]) == ("COMPLETED", "refuse")
    assert [(task["user"], task["result"]) for task in report["tasks"]] == [("u2", "REFUSE")]
