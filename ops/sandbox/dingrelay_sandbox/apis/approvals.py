"""Approvals in the current generation: creating, reading, templates (API §4.1, §4.2, §11.8)."""

import json
from dataclasses import replace
from typing import Any

from dingrelay_sandbox.answers import RestRefusal
from dingrelay_sandbox.apis import approval_request as common
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.approvals import Instance, Request, Step
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.clock import iso_minute
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Control, Template

MOST_APPROVERS = 20
MOST_CC = 50
MOST_FIELDS = 150
CC_POSITIONS = frozenset({"START", "FINISH", "START_FINISH"})


def read_request(state: SandboxState, call: Call, user: str) -> Request:
    """Template, originator, department and form, as creating and forecasting ask for them.

    Args:
        state: where the template is.
        call: what asks.
        user: what the call names the originator.
    """
    originator = call.parameters.text(user)
    template = common.find_template(state, call, "processCode")
    return Request(
        template=template,
        originator=originator,
        department=call.parameters.whole_or("deptId", common.ROOT_DEPARTMENT),
        form=common.read_form(state, call, "formComponentValues", template, MOST_FIELDS),
    )


@api("POST", "/v1.0/workflow/processInstances", counted=True)
def create(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processInstances``."""
    parameters = call.parameters
    wanted = read_request(state, call, "originatorUserId")
    steps = common.read_steps(parameters, "approvers", "actionType", "userIds")
    if len(steps) > MOST_APPROVERS:
        raise parameters.invalid("approvers")
    cc = parameters.texts("ccList", most=MOST_CC)
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
        steps=steps or [*_selected(parameters, template), *common.template_steps(state, template)],
        cc=cc if steps else (),
        cc_position=cc_position,
    )
    return {"instanceId": common.create_instance(state, call, request).id}


@api("GET", "/v1.0/workflow/processInstances", counted=True)
def get(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/workflow/processInstances``."""
    instance = _find_instance(state, call.parameters.text("processInstanceId"))
    # A text, as DingTalk's page shows it (API §4.3).
    return {"result": common.instance_document(state, instance, iso_minute), "success": "true"}


@api("POST", "/v1.0/workflow/processes/instanceIds/query", counted=True)
def query(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processes/instanceIds/query``."""
    parameters = call.parameters
    template = common.find_template(state, call, "processCode")
    page, following = common.listed_ids(
        state,
        call,
        process_code=template.process_code,
        start_ms=parameters.whole("startTime"),
        end_ms=parameters.whole("endTime") if parameters.has("endTime") else None,
        users=parameters.texts("userIds"),
        statuses=parameters.texts("statuses"),
        cursor=parameters.whole("nextToken"),
        size=parameters.whole("maxResults"),
    )
    result: dict[str, Any] = {"list": page}
    if following is not None:
        result["nextToken"] = str(following)
    return {"result": result, "success": "true"}


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


LARGEST_PAGE = 100


@api("GET", "/v1.0/workflow/forms/schemas/processCodes", counted=True)
def schema(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/workflow/forms/schemas/processCodes``."""
    template = common.find_template(state, call, "processCode")
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
        raise RestRefusal("invalidParameter", "用户不存在")
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
    request = read_request(state, call, "userId")
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
    item: dict[str, Any] = {"componentName": control.type, "props": _props(control)}
    if control.columns:
        item["children"] = [_item(column) for column in control.columns]
    return item


def _props(control: Control) -> dict[str, Any]:
    props: dict[str, Any] = {
        "id": control.id,
        "label": control.label,
        "required": control.required,
        "bizAlias": control.biz_alias,
        "placeholder": "请输入",
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


@api("POST", "/v1.0/workflow/processInstances/execute", counted=True)
def execute(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processInstances/execute``: agree or refuse."""
    parameters = call.parameters
    instance = _find(state, parameters)
    user = _given(parameters, "actionerUserId", "invalidInstanceExecuteActionerUserId")
    if parameters.text_or("result", "") not in RESULTS:
        raise RestRefusal(
            "invalidInstanceExecuteResult", "审批操作取值必填 且值必须为agree或refuse"
        )
    agree = RESULTS[parameters.text("result")]
    remark = parameters.text_or("remark", "", longest=common.LONGEST_REMARK)
    _check_files(parameters)
    task = instance.find(parameters.whole("taskId"))
    if task is None:
        raise RestRefusal("processInstanceInvalidParameter", "任务不属于该流程实例")
    if not common.open_task(instance, task):
        raise RestRefusal("aflowProcessInstStatusException", "审批单状态异常")
    if task.user != user:
        raise RestRefusal("processInstanceInvalidParameter", "不是该审批任务的审批人")
    instance.decide(task, agree=agree, at=call.at, remark=remark)
    return DONE


@api("POST", "/v1.0/workflow/tasks/redirect", counted=True)
def redirect(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/tasks/redirect``: hand a task to another person."""
    parameters = call.parameters
    for name in ("taskId", "toUserId", "operateUserId"):
        if not parameters.has(name):
            raise RestRefusal("param.blank", f"{name}参数不能为空")
    number = parameters.whole("taskId")
    instance = state.approvals.of_task(number)
    task = instance.find(number) if instance else None
    if instance is None or task is None:
        raise RestRefusal("param.illegal", "不合法的参数taskId")
    to_user = parameters.text("toUserId")
    if to_user not in state.organisation.people:
        raise RestRefusal("param.illegal", "不合法的参数toUserId")
    remark = parameters.text_or("remark", "", longest=LONGEST_REDIRECT_REMARK)
    if instance.status != "RUNNING":
        raise RestRefusal("instance.status.error", "当前流程实例状态不是运行中不支持转交操作")
    if not common.open_task(instance, task):
        raise RestRefusal("task.status.error", "当前任务状态不是运行中不支持转交操作")
    if task.user != parameters.text("operateUserId"):
        raise RestRefusal("param.illegal.operator", "不合法的参数operateUserId")
    instance.redirect(task, to_user, at=call.at, remark=remark)
    return {"result": True}


@api("POST", "/v1.0/workflow/processInstances/comments", counted=True)
def comment(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processInstances/comments``."""
    parameters = call.parameters
    instance = _find(state, parameters)
    text = _given(parameters, "text", "invalidInstanceCommentText")
    user = _given(parameters, "commentUserId", "invalidInstanceCommentUserId")
    if len(text) > common.LONGEST_REMARK:
        raise parameters.invalid("text")
    _check_files(parameters)
    if user not in state.organisation.people:
        raise RestRefusal("userNotExist", "用户不存在")
    if instance.status == "TERMINATED":
        raise RestRefusal("aflowProcessInstCanNotBeExecuted", "审批状态异常，无法执行")
    instance.comment(user, text, at=call.at)
    return DONE


@api("POST", "/v1.0/workflow/processInstances/terminate", counted=True)
def terminate(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/workflow/processInstances/terminate``."""
    parameters = call.parameters
    instance = _find(state, parameters)
    system = parameters.flag_or("isSystem", default=True)
    originator = instance.request.originator
    if not system:
        user = _given(parameters, "operatingUserId", "invalidInstanceTerminateOperatingUserId")
        if user not in state.organisation.people:
            raise RestRefusal("userNotExist", "用户不存在")
        if user != originator:
            raise parameters.invalid("operatingUserId")
    remark = parameters.text_or("remark", "", longest=common.LONGEST_REMARK)
    if not instance.request.template.revocable:
        raise RestRefusal("internalError", "您没有任务处理的权限")
    if wrong := common.ended_or_too_young(state, call, instance):
        raise RestRefusal("aflowProcessInstStatusException", wrong)
    user = parameters.text_or("operatingUserId", originator)
    instance.terminate(user, at=call.at, remark=remark)
    return DONE


def _find(state: SandboxState, parameters: Parameters) -> Instance:
    instance = state.approvals.instances.get(
        _given(parameters, "processInstanceId", "invalidInstanceId")
    )
    if instance is None:
        raise RestRefusal("aflowProcessInstNotExist", "审批实例不存在")
    return instance


def _given(parameters: Parameters, name: str, code: str) -> str:
    """A text that must be there; each has a code of its own if it is not."""
    if not parameters.has(name):
        raise RestRefusal(code, f"{name}不能为空")
    return parameters.text(name)


def _check_files(parameters: Parameters) -> None:
    if parameters.has("file"):
        files = parameters.part("file")
        if files.has("attachments") and len(files.objects("attachments")) > MOST_ATTACHMENTS:
            raise files.invalid("attachments")
