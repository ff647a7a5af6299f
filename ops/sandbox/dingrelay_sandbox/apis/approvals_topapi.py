"""Approvals in the first generation (API §4.3)."""

from typing import Any

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.apis.approval_form import read_form, spelled_form
from dingrelay_sandbox.apis.approval_request import (
    Wording,
    create_instance,
    find_template,
    listed_ids,
    template_steps,
)
from dingrelay_sandbox.approval_flow import Record, Step, Task
from dingrelay_sandbox.approvals import Instance, Request, title_of
from dingrelay_sandbox.beijing import clock
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import SandboxState

MOST_PEOPLE = 20
MOST_FIELDS = 200


def create(state: SandboxState, call: Call) -> Answer:
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
    return oapi_ok(call.request_id, process_instance_id=instance.id)


def get(state: SandboxState, call: Call) -> Answer:
    """``/topapi/processinstance/get``."""
    instance = find_instance(state, call.parameters.text("process_instance_id"))
    return oapi_ok(call.request_id, process_instance=_instance_document(state, instance))


def list_ids(state: SandboxState, call: Call) -> Answer:
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
    return oapi_ok(call.request_id, result=result)


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
