"""Approvals in both generations: what programs and people do with them, and templates (API §4, §11.8)."""

import json
from dataclasses import replace
from typing import Any

from dingrelay_sandbox.answers import Refusal, refused
from dingrelay_sandbox.apis import approval_request as common
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.approvals import Instance, Request, Step
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.clock import iso_minute
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Control, Template

MOST_APPROVERS = 20
MOST_CC = 50
MOST_PEOPLE = 20
"""Approvers and those with a copy in the first generation."""
CC_POSITIONS = frozenset({"START", "FINISH", "START_FINISH"})
LARGEST_LIST, MOST_LISTED = 20, 10_000
"""Instances of a page, and of all pages."""
MOST_LISTED_USERS = 10
LONGEST_WINDOW_SECONDS = 120 * 86_400
OLDEST_START_SECONDS = 365 * 86_400


def read_request(state: SandboxState, given: Parameters, user: str) -> Request:
    """Template, originator, department and form, as creating and forecasting ask for them.

    Args:
        state: where the template is.
        given: what the call has.
        user: what it names the originator.
    """
    originator, template = given.text(user), common.find_template(state, given)
    return Request(
        template=template,
        originator=originator,
        department=given.whole_or("deptId", common.ROOT_DEPARTMENT),
        form=common.read_form(state, given, template),
    )


@api("POST", "/topapi/processinstance/create", counted=True)
@api("POST", "/v1.0/workflow/processInstances", counted=True)
def create(state: SandboxState, call: Call) -> Fields:
    """Create an approval."""
    given, first = common.named(call.parameters), call.dialect == "oapi"
    wanted = read_request(state, given, "originatorUserId")
    steps, template = common.read_steps(given), wanted.template
    if first:
        cc = given.separated("ccList")
        if not given.has("approvers"):
            steps = [Step("NONE", (user,)) for user in call.parameters.separated("approvers")]
        if sum(len(step.users) for step in steps) > MOST_PEOPLE or len(cc) > MOST_PEOPLE:
            raise refused(call.dialect, "people")
    else:
        cc = given.texts("ccList", most=MOST_CC)
        if len(steps) > MOST_APPROVERS:
            raise given.invalid("approvers")
        if given.text_or("ccPosition", "START") not in CC_POSITIONS:
            raise given.invalid("ccPosition")
    if (first or not steps) and not given.has("deptId"):
        raise given.missing("deptId")
    if given.text_or("microappAgentId", call.caller.agent_id) != call.caller.agent_id:
        raise refused(call.dialect, "agent")
    chosen = [] if first or steps else _selected(given, template)
    request = replace(
        wanted,
        steps=steps or [*chosen, *common.template_steps(state, template)],
        cc=cc if steps else (),
        cc_position=given.text_or("ccPosition", "START"),
    )
    made = common.create_instance(state, call, request).id
    return {"process_instance_id" if first else "instanceId": made}


@api("POST", "/topapi/processinstance/get", counted=True)
@api("GET", "/v1.0/workflow/processInstances", counted=True)
def get(state: SandboxState, call: Call) -> Fields:
    """How an approval stands."""
    given = common.named(call.parameters)
    instance = _find(state, given, given.text("processInstanceId"), "instance")
    if call.dialect == "oapi":
        return {"process_instance": common.first_document(state, instance)}
    # A text, as DingTalk's page shows it (API §4.3).
    return {"result": common.instance_document(state, instance, iso_minute), "success": "true"}


@api("POST", "/topapi/processinstance/listids", counted=True)
@api("POST", "/v1.0/workflow/processes/instanceIds/query", counted=True)
def list_ids(state: SandboxState, call: Call) -> Fields:
    """The ids of a template's approvals, a page at a time."""
    given, first = common.named(call.parameters), call.dialect == "oapi"
    template = common.find_template(state, given)
    start, now = given.whole("startTime"), int(call.at * 1000)
    end = given.whole("endTime") if given.has("endTime") else None
    if first:
        users, statuses = given.separated("userIds"), list[str]()
        cursor, size = given.whole_or("nextToken", 0), given.whole_or("maxResults", 10)
    else:
        users, statuses = given.texts("userIds"), given.texts("statuses")
        cursor, size = given.whole("nextToken"), given.whole("maxResults")
    window = (now if end is None else end) - start
    if (
        not 0 <= window <= LONGEST_WINDOW_SECONDS * 1000
        or start < now - OLDEST_START_SECONDS * 1000
        or not 1 <= size <= LARGEST_LIST
        or cursor < 0
        or len(users) > MOST_LISTED_USERS
    ):
        raise refused(call.dialect, "window")
    visible_until = call.monotonic - state.limits.listing_lag_seconds
    found = [
        each.id
        for each in state.approvals.by_template.get(template.process_code, ())
        if start / 1000 <= each.created_at
        # A millisecond includes all that lies within it.
        and (end is None or each.created_at < (end + 1) / 1000)
        and each.monotonic <= visible_until
        and (not users or each.request.originator in users)
        and (not statuses or each.status in statuses)
    ][:MOST_LISTED]
    following = cursor + size
    result: dict[str, Any] = {"list": found[cursor:following]}
    if following < len(found):
        result |= {"next_cursor": following} if first else {"nextToken": str(following)}
    return {"result": result} if first else {"result": result, "success": True}


def _selected(parameters: Parameters, template: Template) -> list[Step]:
    """The steps whose approvers the originator chooses, where the template asks for it."""
    chosen: dict[str, tuple[str, ...]] = {}
    if parameters.has("targetSelectActioners"):
        for given in parameters.objects("targetSelectActioners"):
            users = given.get("actionerUserIds")
            people = tuple(map(str, users)) if isinstance(users, list) else ()
            chosen[str(given.get("actionerKey"))] = people
    if not chosen.keys() <= set(template.target_select):
        raise Refusal("targetSelectApproverScopeError", "自选审批人不在范围内")
    if not all(chosen.get(key) for key in template.target_select):
        raise Refusal("targetSelectApproverMissing", "自选审批人缺失")
    return [Step("AND", chosen[key]) for key in template.target_select]


LARGEST_PAGE = 100


@api("GET", "/v1.0/workflow/forms/schemas/processCodes", counted=True)
def schema(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/workflow/forms/schemas/processCodes``."""
    template = common.find_template(state, call.parameters)
    result = {
        "name": template.name,
        "formCode": template.process_code,
        "status": "PUBLISHED",
        "schemaContent": {
            "title": template.name,
            "icon": "common",
            "items": [_item(control) for control in template.fields],
        },
    }
    return {"result": result}


@api("GET", "/v1.0/workflow/processes/userVisibilities/templates", counted=True)
def visible(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/workflow/processes/userVisibilities/templates``: all, a page at a time."""
    parameters = call.parameters
    size, start = parameters.whole("maxResults"), parameters.whole("nextToken")
    if not 1 <= size <= LARGEST_PAGE or start < 0:
        raise parameters.invalid("maxResults")
    userid = parameters.text_or("userId", "")
    if userid and userid not in state.organisation.people:
        raise Refusal("invalidParameter", "用户不存在")
    templates = list(state.approvals.templates.values())
    result: dict[str, Any] = {
        "processList": [_entry(each) for each in templates[start : start + size]]
    }
    if start + size < len(templates):
        result["nextToken"] = start + size
    return {"result": result}


@api("POST", "/v1.0/workflow/processes/forecast", counted=True)
def forecast(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processes/forecast``: the steps, and what the originator must choose."""
    request = read_request(state, call.parameters, "userId")
    template = request.template
    rules = [
        {
            "activityId": f"select_{key}",
            "activityName": "审批人",
            "activityType": "target_select",
            "isTargetSelect": True,
            "workflowActor": {
                "actorKey": key,
                "actorType": "approver",
                "actorSelectionType": "multi",
                "allowedMulti": True,
                "required": True,
            },
        }
        for key in template.target_select
    ]
    rules += [
        {
            "activityId": f"step_{number}",
            "activityName": "审批人",
            "activityType": "target_approval",
            "isTargetSelect": False,
            "activityActioners": [{"userId": user} for user in step.users],
        }
        for number, step in enumerate(common.template_steps(state, template))
    ]
    result = {
        "isForecastSuccess": True,
        "isStaticWorkflow": not template.target_select,
        "processCode": template.process_code,
        "userId": request.originator,
        "workflowActivityRules": rules,
    }
    return {"result": result}


def _entry(template: Template) -> dict[str, str]:
    return {
        "name": template.name,
        "processCode": template.process_code,
        "iconUrl": "https://static.dingtalk.com/media/template.png",
        "url": f"https://aflow.dingtalk.com/dingtalk/mobile/homepage.htm?{template.process_code}",
    }


def _item(control: Control) -> dict[str, Any]:
    props = {**_props(control), "placeholder": "请输入"}
    item: dict[str, Any] = {"componentName": control.type, "props": props}
    if control.columns:
        # A column has fewer properties than a control.
        item["children"] = [
            {"componentName": column.type, "props": _props(column)} for column in control.columns
        ]
    return item


def _props(control: Control) -> dict[str, Any]:
    props: dict[str, Any] = {
        "id": control.id,
        "label": control.label,
        "required": control.required,
        "bizAlias": control.biz_alias,
    }
    if control.options:
        # Each option is the JSON text of an object, in a list of texts.
        props["options"] = [
            json.dumps({"value": option, "key": f"option_{number}"}, ensure_ascii=False)
            for number, option in enumerate(control.options)
        ]
    return props


LONGEST_REDIRECT_REMARK = 256
MOST_ATTACHMENTS = 20
RESULTS = {"agree": True, "refuse": False}
DONE = {"result": True, "success": True}


@api("POST", "/topapi/process/instance/execute", counted=True)
@api("POST", "/v1.0/workflow/processInstances/execute", counted=True)
def execute(state: SandboxState, call: Call) -> Fields:
    """Agree or refuse."""
    given, instance = _action(state, call)
    user = _given(given, "actionerUserId", "invalidInstanceExecuteActionerUserId")
    result = given.text("result") if call.dialect == "oapi" else given.text_or("result", "")
    if result not in RESULTS:
        raise refused(call.dialect, "result")
    remark = given.text_or("remark", "", longest=common.LONGEST_REMARK)
    _check_files(given)
    task = instance.find(given.whole("taskId"))
    if task is None:
        raise refused(call.dialect, "task")
    if not common.open_task(instance, task):
        raise refused(call.dialect, "decided")
    if task.user != user:
        raise refused(call.dialect, "decider")
    instance.decide(task, agree=RESULTS[result], at=call.at, remark=remark)
    return DONE


@api("POST", "/v1.0/workflow/tasks/redirect", counted=True)
def redirect(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/tasks/redirect``: hand a task to another person."""
    parameters = call.parameters
    for name in ("taskId", "toUserId", "operateUserId"):
        if not parameters.has(name):
            raise Refusal("param.blank", f"{name}参数不能为空")
    number = parameters.whole("taskId")
    instance = state.approvals.of_task(number)
    task = instance.find(number) if instance else None
    if instance is None or task is None:
        raise Refusal("param.illegal", "不合法的参数taskId")
    to_user = parameters.text("toUserId")
    if to_user not in state.organisation.people:
        raise Refusal("param.illegal", "不合法的参数toUserId")
    remark = parameters.text_or("remark", "", longest=LONGEST_REDIRECT_REMARK)
    if instance.status != "RUNNING":
        raise Refusal("instance.status.error", "当前流程实例状态不是运行中不支持转交操作")
    if not common.open_task(instance, task):
        raise Refusal("task.status.error", "当前任务状态不是运行中不支持转交操作")
    if task.user != parameters.text("operateUserId"):
        raise Refusal("param.illegal.operator", "不合法的参数operateUserId")
    instance.redirect(task, to_user, at=call.at, remark=remark)
    return {"result": True}


@api("POST", "/topapi/process/instance/comment/add", counted=True)
@api("POST", "/v1.0/workflow/processInstances/comments", counted=True)
def comment(state: SandboxState, call: Call) -> Fields:
    """Say something to an approval."""
    given, instance = _action(state, call)
    text = _given(given, "text", "invalidInstanceCommentText")
    user = _given(given, "commentUserId", "invalidInstanceCommentUserId")
    if len(text) > common.LONGEST_REMARK:
        raise given.invalid("text")
    _check_files(given)
    if user not in state.organisation.people:
        raise refused(call.dialect, "user")
    if call.dialect == "rest" and instance.status == "TERMINATED":
        raise Refusal("aflowProcessInstCanNotBeExecuted", "审批状态异常，无法执行")
    instance.comment(user, text, at=call.at)
    return DONE


@api("POST", "/topapi/process/instance/terminate", counted=True)
@api("POST", "/v1.0/workflow/processInstances/terminate", counted=True)
def terminate(state: SandboxState, call: Call) -> Fields:
    """Withdraw an approval."""
    given, instance = _action(state, call)
    originator = instance.request.originator
    if not given.flag_or("isSystem", default=True):
        user = _given(given, "operatingUserId", "invalidInstanceTerminateOperatingUserId")
        if call.dialect == "rest" and user not in state.organisation.people:
            raise refused(call.dialect, "user")
        if user != originator:
            raise given.invalid("operatingUserId")
    remark = given.text_or("remark", "", longest=common.LONGEST_REMARK)
    if not instance.request.template.revocable:
        raise refused(call.dialect, "not revocable")
    if wrong := common.ended_or_too_young(state, call, instance):
        raise refused(call.dialect, "withdrawal", wrong)
    user = given.text_or("operatingUserId", originator)
    instance.terminate(user, at=call.at, remark=remark)
    return DONE


def _action(state: SandboxState, call: Call) -> tuple[Parameters, Instance]:
    """The parameters of an action, and its approval; the first generation has them in a part of its own."""
    parameters = call.parameters
    given = common.named(parameters.part("request") if call.dialect == "oapi" else parameters)
    number = _given(given, "processInstanceId", "invalidInstanceId")
    return given, _find(state, given, number, "acted on")


def _find(state: SandboxState, given: Parameters, number: str, refusal: str) -> Instance:
    """The approval with an id, which must exist."""
    instance = state.approvals.instances.get(number)
    if instance is None:
        raise refused(given.dialect, refusal)
    return instance


def _given(given: Parameters, name: str, code: str) -> str:
    """A text that must be there; today each has a code of its own if it is not."""
    if given.dialect == "rest" and not given.has(name):
        raise Refusal(code, f"{name}不能为空")
    return given.text(name)


def _check_files(given: Parameters) -> None:
    if given.dialect == "rest" and given.has("file"):
        files = given.part("file")
        if files.has("attachments") and len(files.objects("attachments")) > MOST_ATTACHMENTS:
            raise files.invalid("attachments")
