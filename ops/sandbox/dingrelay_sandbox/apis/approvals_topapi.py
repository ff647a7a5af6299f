"""Approvals in the first generation (API §4.3)."""

import re
from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import OapiRefusal
from dingrelay_sandbox.apis import approval_request as common
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.apis.approvals import DONE, RESULTS
from dingrelay_sandbox.approvals import Instance, Request, Step
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.clock import clock
from dingrelay_sandbox.state import SandboxState

MOST_PEOPLE = 20
MOST_FIELDS = 200


@api("POST", "/topapi/processinstance/create", counted=True)
def create(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/create``."""
    parameters = call.parameters
    template = common.find_template(state, call, "process_code")
    form = common.read_form(state, call, "form_component_values", template, MOST_FIELDS)
    if parameters.text_or("agent_id", call.caller.agent_id) != call.caller.agent_id:
        raise OapiRefusal(40_056, "不合法的agentid")
    cc = parameters.separated("cc_list")
    steps = common.read_steps(parameters, "approvers_v2", "task_action_type", "user_ids")
    if not parameters.has("approvers_v2"):
        steps = [Step("NONE", (user,)) for user in parameters.separated("approvers")]
    if sum(len(step.users) for step in steps) > MOST_PEOPLE or len(cc) > MOST_PEOPLE:
        raise common.refused(call, "people")
    request = Request(
        template=template,
        originator=parameters.text("originator_user_id"),
        department=parameters.whole("dept_id"),
        form=form,
        steps=steps or common.template_steps(state, template),
        cc=cc if steps else (),
        cc_position=parameters.text_or("cc_position", "START"),
    )
    instance = common.create_instance(state, call, request)
    return {"process_instance_id": instance.id}


@api("POST", "/topapi/processinstance/get", counted=True)
def get(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/get``."""
    instance = find_instance(state, call.parameters.text("process_instance_id"))
    return {"process_instance": _instance_document(state, instance)}


@api("POST", "/topapi/processinstance/listids", counted=True)
def list_ids(state: SandboxState, call: Call) -> Fields:
    """``/topapi/processinstance/listids``."""
    parameters = call.parameters
    template = common.find_template(state, call, "process_code")
    page, following = common.listed_ids(
        state,
        call,
        process_code=template.process_code,
        start_ms=parameters.whole("start_time"),
        end_ms=parameters.whole("end_time") if parameters.has("end_time") else None,
        users=parameters.separated("userid_list"),
        statuses=(),
        cursor=parameters.whole_or("cursor", 0),
        size=parameters.whole_or("size", 10),
    )
    result: dict[str, Any] = {"list": page}
    if following is not None:
        result["next_cursor"] = following
    return {"result": result}


def find_instance(state: SandboxState, instance_id: str) -> Instance:
    """The instance that a call is about."""
    instance = state.approvals.instances.get(instance_id)
    if instance is None:
        raise OapiRefusal(820_006, "审批实例不存在")
    return instance


RECORD_NAMES = {
    "date": "date",
    "result": "operation_result",
    "type": "operation_type",
    "userId": "userid",
    "remark": "remark",
}
TASK_NAMES = {
    "result": "task_result",
    "status": "task_status",
    "mobileUrl": "url",
    "taskId": "taskid",
    "userId": "userid",
    "activityId": "activity_id",
    "createTime": "create_time",
    "finishTime": "finish_time",
}
"""Today's names → the first ones."""


def _instance_document(state: SandboxState, instance: Instance) -> dict[str, Any]:
    """The document of the current generation under its first names."""
    document = common.instance_document(state, instance, clock)
    records, tasks = document["operationRecords"], document["tasks"]
    document |= {
        "operationRecords": [_renamed(each, RECORD_NAMES) for each in records],
        "tasks": [{**_renamed(each, TASK_NAMES), "taskid": str(each["taskId"])} for each in tasks],
        "formComponentValues": [
            {_snake(name): value for name, value in each.items() if name != "bizAlias"}
            for each in document["formComponentValues"]
        ],
    }
    return {_snake(name): value for name, value in document.items()}


def _renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {old: fields[name] for name, old in names.items() if name in fields}


def _snake(name: str) -> str:
    spelt = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    return spelt.replace("user_id", "userid")


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
    remark = request.text_or("remark", "", longest=common.LONGEST_REMARK)
    task = instance.find(request.whole("task_id"))
    if task is None:
        raise request.invalid("task_id")
    if not common.open_task(instance, task):
        raise OapiRefusal(WRONG_STATE, "审批任务已处理")
    if task.user != user:
        raise request.invalid("actioner_userid")
    instance.decide(task, agree=RESULTS[result], at=call.at, remark=remark)
    return DONE


@api("POST", "/topapi/process/instance/comment/add", counted=True)
def comment(state: SandboxState, call: Call) -> Fields:
    """``/topapi/process/instance/comment/add``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    request.text("text")
    text = request.text_or("text", "", longest=common.LONGEST_REMARK)
    user = request.text("comment_userid")
    if user not in state.organisation.people:
        raise OapiRefusal(60_121, "找不到该用户")
    instance.comment(user, text, at=call.at)
    return DONE


@api("POST", "/topapi/process/instance/terminate", counted=True)
def terminate(state: SandboxState, call: Call) -> Fields:
    """``/topapi/process/instance/terminate``."""
    request = call.parameters.part("request")
    instance = find_instance(state, request.text("process_instance_id"))
    system = request.flag_or("is_system", default=True)
    originator = instance.request.originator
    if not system and request.text("operating_userid") != originator:
        raise request.invalid("operating_userid")
    user, remark = (
        request.text_or("operating_userid", originator),
        request.text_or("remark", "", longest=common.LONGEST_REMARK),
    )
    if not instance.request.template.revocable:
        raise OapiRefusal(NOT_REVOCABLE, "审批系统错误, 您没有任务处理的权限")
    if wrong := common.ended_or_too_young(state, call, instance):
        raise OapiRefusal(WRONG_STATE, wrong)
    instance.terminate(user, at=call.at, remark=remark)
    return DONE
