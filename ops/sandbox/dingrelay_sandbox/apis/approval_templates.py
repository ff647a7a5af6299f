"""What an approval template asks for, and which way an approval would go (API §11.8)."""

import json
from typing import Any

from dingrelay_sandbox.answers import Answer, RestRefusal, json_answer
from dingrelay_sandbox.apis.approval_request import template_steps
from dingrelay_sandbox.apis.approvals import find_template_rest, read_request
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Control, Template

LARGEST_PAGE = 100


def schema(state: SandboxState, call: Call) -> Answer:
    """``GET /v1.0/workflow/forms/schemas/processCodes``."""
    template = find_template_rest(state, call.parameters.text("processCode"))
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
    return json_answer({"result": result})


def visible(state: SandboxState, call: Call) -> Answer:
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
    return json_answer({"result": result})


def forecast(state: SandboxState, call: Call) -> Answer:
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
        for number, step in enumerate(template_steps(state, template))
    ]
    result = {
        "isForecastSuccess": True,
        "isStaticWorkflow": not template.target_select,
        "processCode": template.process_code,
        "userId": request.originator,
        "workflowActivityRules": rules,
    }
    return json_answer({"result": result})


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
