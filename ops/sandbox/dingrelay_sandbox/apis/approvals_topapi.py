"""Approvals in the first generation (API §4.3)."""

from typing import Any

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
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
from dingrelay_sandbox.beijing import clock
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.world import World

MOST_PEOPLE = 20
MOST_FIELDS = 200


def create(world: World, call: Call) -> Answer:
    """``/topapi/processinstance/create``."""
    wording = _wording()
    parameters = call.parameters
    template = find_template(world, parameters.text("process_code"), wording)
    form = read_form(parameters.objects("form_component_values"), template, MOST_FIELDS, wording)
    if parameters.has("agent_id") and parameters.text("agent_id") != call.caller.agent_id:
        raise OapiRefusal(40_056, "不合法的agentid")
    cc = parameters.separated("cc_list")
    approvers = _approvers(parameters)
    if len(approvers) > MOST_PEOPLE or len(cc) > MOST_PEOPLE:
        raise wording.people
    instance = create_instance(
        world,
        call,
        template=template,
        originator=parameters.text("originator_user_id"),
        department=parameters.whole("dept_id"),
        form=form,
        approvers=approvers,
        cc=cc,
        wording=wording,
    )
    return oapi_ok(call.request_id, process_instance_id=instance.id)


def get(world: World, call: Call) -> Answer:
    """``/topapi/processinstance/get``."""
    instance = _find(world, call.parameters.text("process_instance_id"))
    return oapi_ok(call.request_id, process_instance=_told(world, instance))


def list_ids(world: World, call: Call) -> Answer:
    """``/topapi/processinstance/listids``."""
    wording = _wording()
    parameters = call.parameters
    template = find_template(world, parameters.text("process_code"), wording)
    page, following = listed_ids(
        world,
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


def end(world: World, call: Call) -> Answer:
    """``/topapi/process/instance/terminate``."""
    request = call.parameters.part("request")
    instance = _find(world, request.text("process_instance_id"))
    system = request.flag_or("is_system", default=True)
    if not system and request.text("operating_userid") != instance.originator:
        raise request.invalid("operating_userid")
    if not may_terminate(world, call, instance):
        raise OapiRefusal(820_005, "审批实例当前不允许撤销")
    terminate(call, instance)
    return oapi_ok(call.request_id, result=True)


def _approvers(parameters: Parameters) -> list[str]:
    if not parameters.has("approvers_v2"):
        return parameters.separated("approvers")
    people: list[str] = []
    for step in parameters.objects("approvers_v2"):
        users = step.get("user_ids")
        if not isinstance(users, list) or not users:
            raise parameters.invalid("approvers_v2")
        people.extend(str(userid) for userid in users)
    return people


def _find(world: World, instance_id: str) -> Instance:
    instance = world.approvals.instances.get(instance_id)
    if instance is None:
        raise OapiRefusal(820_006, "审批实例不存在")
    return instance


def _told(world: World, instance: Instance) -> dict[str, Any]:
    place = world.organisation.departments.get(max(instance.department, 1))
    told: dict[str, Any] = {
        "title": instance.title,
        "create_time": clock(instance.created_at),
        "originator_userid": instance.originator,
        "originator_dept_id": str(instance.department),
        "originator_dept_name": place.name if place else "",
        "status": instance.status,
        "approver_userids": list(instance.approvers),
        "cc_userids": list(instance.cc),
        "business_id": instance.business_id,
        "operation_records": [
            {
                "userid": instance.originator,
                "date": clock(instance.created_at),
                "operation_type": "START_PROCESS_INSTANCE",
                "operation_result": "NONE",
            }
        ],
        "tasks": [],
        "biz_action": "NONE",
        "attached_process_instance_ids": [],
        "form_component_values": [
            {"id": each["id"], "name": each["name"], "value": each["value"]}
            for each in form_components(instance)
        ],
    }
    if instance.finished_at is not None:
        told["finish_time"] = clock(instance.finished_at)
    return told


def _wording() -> Wording:
    return Wording(
        template=OapiRefusal(820_001, "不合法的process_code"),
        originator=OapiRefusal(60_121, "找不到该用户"),
        department=OapiRefusal(60_003, "部门不存在"),
        form=OapiRefusal(810_003, "表单格式错误"),
        people=OapiRefusal(400_002, "审批人或抄送人参数错误"),
        window=OapiRefusal(400_002, "查询条件超出限制"),
    )
