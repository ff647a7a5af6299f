"""Approvals in the first generation (API §4.3)."""

from typing import Any

from dingrelay_sandbox.answers import OapiRefusal
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.apis.approval_request import (
    LONGEST_REMARK,
    Wording,
    create_instance,
    ended_or_too_young,
    find_template,
    listed_ids,
    open_task,
    read_form,
    spelled_form,
    template_steps,
)
from dingrelay_sandbox.apis.approvals import RESULTS
from dingrelay_sandbox.approval_flow import Record, Step, Task
from dingrelay_sandbox.approvals import Instance, Request, title_of
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.clock import clock
from dingrelay_sandbox.state import SandboxState

MOST_PEOPLE = 20
MOST_FIELDS = 200


@api("POST", "/topapi/processinstance/create", counted=True)
def create(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/create``."""
    wording = _wording()
    parameters = call.parameters
    template = find_template(state, parameters.text("process_code"), wording)
    components = parameters.objects("form_component_values")
    form = read_form(state, components, template, MOST_FIELDS, wording.form)
    if parameters.text_or("agent_id", call.caller.agent_id) != call.caller.agent_id:
        raise OapiRefusal(40_056, "不合法的agentid")
    cc = parameters.separated("cc_list")
    steps = _steps(parameters)
    if sum(len(step.users) for step in steps) > MOST_PEOPLE or len(cc) > MOST_PEOPLE:
        raise wording.people
    request = Request(
        template=template,
        originator=parameters.text("originator_user_id"),
        department=parameters.whole("dept_id"),
        form=form,
        steps=steps or template_steps(state, template),
        cc=cc if steps else (),
        cc_position=parameters.text_or("cc_position", "START"),
    )
    instance = create_instance(state, call, request, wording)
    return {"process_instance_id": instance.id}


@api("POST", "/topapi/processinstance/get", counted=True)
def get(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/get``."""
    instance = find_instance(state, call.parameters.text("process_instance_id"))
    return {"process_instance": _instance_document(state, instance)}


@api("POST", "/topapi/processinstance/listids", counted=True)
def list_ids(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/listids``."""
    wording = _wording()
    parameters = call.parameters
    template = find_template(state, parameters.text("process_code"), wording)
    page, following = listed_ids(
        state,
        call,
        process_code=template.process_code,
        start_ms=parameters.whole("start_time"),
        end_ms=parameters.whole("end_time") if parameters.has("end_time") else None,
        users=parameters.separated("userid_list"),
        statuses=(),
        cursor=parameters.whole_or("cursor", 0),
        size=parameters.whole_or("size", 10),
        wording=wording,
    )
    result: dict[str, Any] = {"list": page}
    if following is not None:
        result["next_cursor"] = following
    return {"result": result}


def _steps(parameters: Parameters) -> list[Step]:
    """The steps that the caller gives: one person each, or several at once (approvers_v2)."""
    if not parameters.has("approvers_v2"):
        return [Step("NONE", (user,)) for user in parameters.separated("approvers")]
    steps: list[Step] = []
    for step in parameters.objects("approvers_v2"):
        action, users = step.get("task_action_type"), step.get("user_ids")
        if action not in ("AND", "OR", "NONE") or not isinstance(users, list) or not users:
            raise parameters.invalid("approvers_v2")
        steps.append(Step(action, tuple(str(userid) for userid in users)))
    return steps


def find_instance(state: SandboxState, instance_id: str) -> Instance:
    """The instance that a call is about."""
    instance = state.approvals.instances.get(instance_id)
    if instance is None:
        raise OapiRefusal(820_006, "审批实例不存在")
    return instance


def _instance_document(state: SandboxState, instance: Instance) -> dict[str, Any]:
    request, flow = instance.request, instance.flow
    place = state.organisation.departments.get(max(request.department, 1))
    document: dict[str, Any] = {
        "title": title_of(instance, state.organisation),
        "create_time": clock(instance.created_at),
        "originator_userid": request.originator,
        "originator_dept_id": str(request.department),
        "originator_dept_name": place.name if place else "",
        "status": flow.status,
        "result": flow.result,
        "approver_userids": [user for step in flow.steps for user in step.users],
        "cc_userids": list(flow.cc),
        "business_id": instance.business_id,
        "operation_records": [_record(each) for each in flow.records],
        "tasks": [_task(instance, each) for each in flow.tasks],
        "biz_action": "NONE",
        "attached_process_instance_ids": [],
        "form_component_values": [
            {
                "component_type": each.type,
                "id": each.id,
                "name": each.name,
                "value": each.value,
                **({} if each.extra is None else {"ext_value": each.extra}),
            }
            for each in spelled_form(instance, state.organisation)
        ],
    }
    if flow.finished_at is not None:
        document["finish_time"] = clock(flow.finished_at)
    return document


def _record(record: Record) -> dict[str, Any]:
    return {
        "date": clock(record.at),
        "operation_result": record.result,
        "operation_type": record.type,
        "userid": record.user,
        **({} if record.remark is None else {"remark": record.remark}),
    }


def _task(instance: Instance, task: Task) -> dict[str, Any]:
    ended = task.finished_at
    return {
        "activity_id": task.activity,
        "create_time": clock(task.created_at),
        "task_result": task.result,
        "task_status": task.status,
        "taskid": str(task.id),
        "url": f"aflow.dingtalk.com?procInsId={instance.id}&taskId={task.id}",
        "userid": task.user,
        **({} if ended is None else {"finish_time": clock(ended)}),
    }


def _wording() -> Wording:
    return Wording(
        template=OapiRefusal(820_001, "不合法的process_code"),
        originator=OapiRefusal(60_121, "找不到该用户"),
        department=OapiRefusal(60_003, "部门不存在"),
        outside=OapiRefusal(400_002, "发起人不在该部门"),
        form=lambda label: OapiRefusal(810_003, f"表单格式错误，失败控件：{label}"),
        people=OapiRefusal(400_002, "审批人或抄送人参数错误"),
        window=OapiRefusal(400_002, "查询条件超出限制"),
    )


WRONG_STATE = 820_005
NOT_REVOCABLE = 820_008


@api("POST", "/topapi/process/instance/execute", counted=True)
def execute(state: SandboxState, call: Call) -> Fields:
    """``/topapi/process/instance/execute``: agree or refuse."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    user, result = request.text("actioner_userid"), request.text("result")
    if result not in RESULTS:
        raise request.invalid("result")
    remark = _short(request, "remark")
    task = instance.flow.find(request.whole("task_id"))
    if task is None:
        raise request.invalid("task_id")
    if not open_task(instance, task):
        raise OapiRefusal(WRONG_STATE, "审批任务已处理")
    if task.user != user:
        raise request.invalid("actioner_userid")
    instance.flow.decide(task, agree=RESULTS[result], at=call.at, remark=remark)
    return {"result": True, "success": True}


@api("POST", "/topapi/process/instance/comment/add", counted=True)
def comment(state: SandboxState, call: Call) -> Fields:
    """``/topapi/process/instance/comment/add``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    request.text("text")
    text, user = _short(request, "text"), request.text("comment_userid")
    if user not in state.organisation.people:
        raise OapiRefusal(60_121, "找不到该用户")
    instance.flow.comment(user, text, at=call.at)
    return {"result": True, "success": True}


@api("POST", "/topapi/process/instance/terminate", counted=True)
def terminate(state: SandboxState, call: Call) -> Fields:
    """``/topapi/process/instance/terminate``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    system = request.flag_or("is_system", default=True)
    originator = instance.request.originator
    if not system and request.text("operating_userid") != originator:
        raise request.invalid("operating_userid")
    user, remark = request.text_or("operating_userid", originator), _short(request, "remark")
    if not instance.request.template.revocable:
        raise OapiRefusal(NOT_REVOCABLE, "审批系统错误, 您没有任务处理的权限")
    if wrong := ended_or_too_young(state, call, instance):
        raise OapiRefusal(WRONG_STATE, wrong)
    instance.flow.terminate(user, at=call.at, remark=remark)
    return {"result": True, "success": True}


def _short(request: Parameters, name: str) -> str:
    text = request.text_or(name, "")
    if len(text) > LONGEST_REMARK:
        raise request.invalid(name)
    return text
