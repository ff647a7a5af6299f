"""Approvals in the current generation (API §4.1, §4.2)."""

from dataclasses import replace
from typing import Any

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.apis.approval_form import read_form, spelled_form
from dingrelay_sandbox.apis.approval_request import (
    ROOT_DEPARTMENT,
    Wording,
    create_instance,
    find_template,
    listed_ids,
    template_steps,
)
from dingrelay_sandbox.approval_flow import Record, Step, Task
from dingrelay_sandbox.approvals import Instance, Request, title_of
from dingrelay_sandbox.beijing import iso_minute
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

MOST_APPROVERS = 20
MOST_CC = 50
MOST_FIELDS = 150
CC_POSITIONS = frozenset({"START", "FINISH", "START_FINISH"})


def find_template_rest(state: SandboxState, process_code: str) -> Template:
    """The template with a code, which must exist."""
    return find_template(state, process_code, _wording())


def read_request(state: SandboxState, parameters: Parameters, user: str) -> Request:
    """Template, originator, department and form, as creating and forecasting ask for them.

    Args:
        state: where the template is.
        parameters: of the call.
        user: what the call names the originator.
    """
    wording = _wording()
    originator = parameters.text(user)
    template = find_template_rest(state, parameters.text("processCode"))
    components = parameters.objects("formComponentValues")
    return Request(
        template=template,
        originator=originator,
        department=parameters.whole_or("deptId", ROOT_DEPARTMENT),
        form=read_form(state, components, template, MOST_FIELDS, wording.form),
    )


def create(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances``."""
    wording = _wording()
    parameters = call.parameters
    wanted = read_request(state, parameters, "originatorUserId")
    steps = _steps(parameters)
    cc = parameters.texts("ccList")
    if len(cc) > MOST_CC:
        raise parameters.invalid("ccList")
    cc_position = parameters.text_or("ccPosition", "START")
    if cc_position not in CC_POSITIONS:
        raise parameters.invalid("ccPosition")
    if not steps and not parameters.has("deptId"):
        raise parameters.missing("deptId")
    agent = parameters.text_or("microappAgentId", call.caller.agent_id)
    if agent != call.caller.agent_id:
        raise RestRefusal("invalidAgentId", "无效的agentId")
    template = wanted.template
    request = replace(
        wanted,
        steps=steps or [*_selected(parameters, template), *template_steps(state, template)],
        cc=cc if steps else (),
        cc_position=cc_position,
    )
    return json_answer({"instanceId": create_instance(state, call, request, wording).id})


def get(state: SandboxState, call: Call) -> Answer:
    """``GET /v1.0/workflow/processInstances``."""
    instance = _find_instance(state, call.parameters.text("processInstanceId"))
    # A text, as DingTalk's page shows it (API §4.3).
    return json_answer({"result": _instance_document(state, instance), "success": "true"})


def query(state: SandboxState, call: Call) -> Answer:
    """``POST /v1.0/workflow/processes/instanceIds/query``."""
    parameters = call.parameters
    template = find_template_rest(state, parameters.text("processCode"))
    page, following = listed_ids(
        state,
        call,
        process_code=template.process_code,
        start_ms=parameters.whole("startTime"),
        end_ms=parameters.whole("endTime") if parameters.has("endTime") else None,
        users=parameters.texts("userIds"),
        statuses=parameters.texts("statuses"),
        cursor=parameters.whole("nextToken"),
        size=parameters.whole("maxResults"),
        wording=_wording(),
    )
    result: dict[str, Any] = {"list": page}
    if following is not None:
        result["nextToken"] = str(following)
    return json_answer({"result": result, "success": "true"})


def _steps(parameters: Parameters) -> list[Step]:
    """The steps that the caller gives, in their order."""
    if not parameters.has("approvers"):
        return []
    given = parameters.objects("approvers")
    if len(given) > MOST_APPROVERS:
        raise parameters.invalid("approvers")
    steps: list[Step] = []
    for step in given:
        action, users = step.get("actionType"), step.get("userIds")
        if action not in ("AND", "OR", "NONE") or not isinstance(users, list) or not users:
            raise parameters.invalid("approvers")
        steps.append(Step(action, tuple(str(userid) for userid in users)))
    return steps


def _selected(parameters: Parameters, template: Template) -> list[Step]:
    """The steps whose approvers the originator chooses, where the template asks for it."""
    chosen: dict[str, tuple[str, ...]] = {}
    if parameters.has("targetSelectActioners"):
        for given in parameters.objects("targetSelectActioners"):
            users = given.get("actionerUserIds")
            people = tuple(map(str, users)) if isinstance(users, list) else ()
            chosen[str(given.get("actionerKey"))] = people
    if not chosen.keys() <= set(template.target_select):
        raise RestRefusal("targetSelectApproverScopeError", "自选审批人不在范围内")
    if not all(chosen.get(key) for key in template.target_select):
        raise RestRefusal("targetSelectApproverMissing", "自选审批人缺失")
    return [Step("AND", chosen[key]) for key in template.target_select]


def _find_instance(state: SandboxState, instance_id: str) -> Instance:
    """The instance that a call is about."""
    instance = state.approvals.instances.get(instance_id)
    if instance is None:
        raise RestRefusal("processInstanceNotExist", "审批实例不存在")
    return instance


def _instance_document(state: SandboxState, instance: Instance) -> dict[str, Any]:
    request, flow = instance.request, instance.flow
    place = state.organisation.departments.get(max(request.department, 1))
    document: dict[str, Any] = {
        "title": title_of(instance, state.organisation),
        "createTime": iso_minute(instance.created_at),
        "originatorUserId": request.originator,
        "originatorDeptId": str(request.department),
        "originatorDeptName": place.name if place else "",
        "status": flow.status,
        "result": flow.result,
        "approverUserIds": [user for step in flow.steps for user in step.users],
        "ccUserIds": list(flow.cc),
        "businessId": instance.business_id,
        "operationRecords": [_record(each) for each in flow.records],
        "tasks": [_task(instance, each) for each in flow.tasks],
        "bizAction": "NONE",
        "attachedProcessInstanceIds": [],
        "formComponentValues": [
            _without_nothing(
                {
                    "id": each.id,
                    "name": each.name,
                    "componentType": each.type,
                    "value": each.value,
                    "extValue": each.extra,
                    "bizAlias": each.biz_alias or None,
                }
            )
            for each in spelled_form(instance, state.organisation)
        ],
    }
    if flow.finished_at is not None:
        document["finishTime"] = iso_minute(flow.finished_at)
    return document


def _record(record: Record) -> dict[str, Any]:
    return _without_nothing(
        {
            "userId": record.user,
            "date": iso_minute(record.at),
            "type": record.type,
            "result": record.result,
            "remark": record.remark,
            "activityId": record.activity or None,
        }
    )


def _task(instance: Instance, task: Task) -> dict[str, Any]:
    link = f"aflow.dingtalk.com?procInsId={instance.id}&taskId={task.id}"
    ended = task.finished_at
    return _without_nothing(
        {
            "taskId": task.id,
            "userId": task.user,
            "status": task.status,
            "result": task.result,
            "createTime": iso_minute(task.created_at),
            "finishTime": None if ended is None else iso_minute(ended),
            "mobileUrl": link,
            "pcUrl": link,
            "processInstanceId": instance.id,
            "activityId": task.activity,
        }
    )


def _without_nothing(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _wording() -> Wording:
    wrong = "processInstanceInvalidParameter"
    return Wording(
        template=RestRefusal("processCodeError", "审批模板不存在或已被删除"),
        originator=RestRefusal(wrong, "发起人不存在"),
        department=RestRefusal(wrong, "部门不存在"),
        outside=RestRefusal(wrong, "发起人不在该部门"),
        form=lambda label: RestRefusal(
            "formConverterError", f"表单数据校验失败，失败控件：{label}"
        ),
        people=RestRefusal(wrong, "审批人或抄送人不存在"),
        window=RestRefusal("invalidParameter", "查询条件超出限制"),
    )
