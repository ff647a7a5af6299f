"""Approvals in the current generation (API §4.1, §4.2)."""

from typing import Any

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.apis.approval_request import (
    Wording,
    create_instance,
    find_template,
    listed_ids,
    may_terminate,
    read_form,
    terminate,
)
from dingrelay_sandbox.approvals import Instance, form_components
from dingrelay_sandbox.beijing import iso_minute
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.world import World

MOST_APPROVERS = 20
MOST_CC = 50
MOST_FIELDS = 150
CC_POSITIONS = frozenset({"START", "FINISH", "START_FINISH"})
ACTIONS = frozenset({"AND", "OR", "NONE"})


def create(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances``."""
    wording = _wording()
    parameters = call.parameters
    originator = parameters.text("originatorUserId")
    template = find_template(world, parameters.text("processCode"), wording)
    form = read_form(parameters.objects("formComponentValues"), template, MOST_FIELDS, wording)
    approvers = _approvers(parameters)
    cc = parameters.texts("ccList")
    if len(cc) > MOST_CC:
        raise parameters.invalid("ccList")
    if parameters.has("ccPosition") and parameters.text("ccPosition") not in CC_POSITIONS:
        raise parameters.invalid("ccPosition")
    if not approvers and not parameters.has("deptId"):
        raise parameters.missing("deptId")
    if (
        parameters.has("microappAgentId")
        and parameters.text("microappAgentId") != call.caller.agent_id
    ):
        raise RestRefusal("invalidAgentId", "无效的agentId")
    instance = create_instance(
        world,
        call,
        template=template,
        originator=originator,
        department=parameters.whole_or("deptId", -1),
        form=form,
        approvers=approvers,
        cc=cc,
        wording=wording,
    )
    return json_answer({"instanceId": instance.id})


def get(world: World, call: Call) -> Answer:
    """``GET /v1.0/workflow/processInstances``."""
    instance = _find(world, call.parameters.text("processInstanceId"))
    return json_answer({"result": _told(world, instance), "success": True})


def query(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/processes/instanceIds/query``."""
    wording = _wording()
    parameters = call.parameters
    template = find_template(world, parameters.text("processCode"), wording)
    page, following = listed_ids(
        world,
        call,
        process_code=template.process_code,
        start_ms=parameters.whole("startTime"),
        end_ms=parameters.whole("endTime") if parameters.has("endTime") else None,
        users=parameters.texts("userIds"),
        statuses=parameters.texts("statuses"),
        cursor=parameters.whole("nextToken"),
        size=parameters.whole("maxResults"),
        wording=wording,
    )
    result: dict[str, Any] = {"list": page}
    if following is not None:
        result["nextToken"] = str(following)
    return json_answer({"result": result, "success": True})


def end(world: World, call: Call) -> Answer:
    """``POST /v1.0/workflow/processInstances/terminate``."""
    parameters = call.parameters
    instance = _find(world, parameters.text("processInstanceId"))
    system = parameters.flag_or("isSystem", default=True)
    if not system and parameters.text("operatingUserId") != instance.originator:
        raise parameters.invalid("operatingUserId")
    if not may_terminate(world, call, instance):
        raise RestRefusal("processInstanceInvalidParameter", "审批实例当前不允许撤销")
    terminate(call, instance)
    return json_answer({"result": True, "success": True})


def _approvers(parameters: Parameters) -> list[str]:
    """The people of all steps, in order."""
    if not parameters.has("approvers"):
        return []
    steps = parameters.objects("approvers")
    if len(steps) > MOST_APPROVERS:
        raise parameters.invalid("approvers")
    people: list[str] = []
    for step in steps:
        users = step.get("userIds")
        if str(step.get("actionType")) not in ACTIONS or not isinstance(users, list) or not users:
            raise parameters.invalid("approvers")
        people.extend(str(userid) for userid in users)
    return people


def _find(world: World, instance_id: str) -> Instance:
    instance = world.approvals.instances.get(instance_id)
    if instance is None:
        raise RestRefusal("processInstanceNotExist", "审批实例不存在")
    return instance


def _told(world: World, instance: Instance) -> dict[str, Any]:
    place = world.organisation.departments.get(max(instance.department, 1))
    told: dict[str, Any] = {
        "title": instance.title,
        "createTime": iso_minute(instance.created_at),
        "originatorUserId": instance.originator,
        "originatorDeptId": str(instance.department),
        "originatorDeptName": place.name if place else "",
        "status": instance.status,
        "approverUserIds": list(instance.approvers),
        "ccUserIds": list(instance.cc),
        "businessId": instance.business_id,
        "operationRecords": [
            {
                "userId": instance.originator,
                "date": iso_minute(instance.created_at),
                "type": "START_PROCESS_INSTANCE",
                "result": "NONE",
            }
        ],
        "tasks": [],
        "bizAction": "NONE",
        "attachedProcessInstanceIds": [],
        "formComponentValues": form_components(instance),
    }
    if instance.finished_at is not None:
        told["finishTime"] = iso_minute(instance.finished_at)
    return told


def _wording() -> Wording:
    return Wording(
        template=RestRefusal("processCodeError", "审批模板不存在或已被删除"),
        originator=RestRefusal("processInstanceInvalidParameter", "发起人不存在"),
        department=RestRefusal("processInstanceInvalidParameter", "部门不存在"),
        form=RestRefusal("formConverterError", "表单数据校验失败"),
        people=RestRefusal("processInstanceInvalidParameter", "审批人或抄送人不存在"),
        window=RestRefusal("invalidParameter", "查询条件超出限制"),
    )
