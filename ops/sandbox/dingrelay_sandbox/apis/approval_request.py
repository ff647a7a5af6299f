"""Checks and documents that both generations of the approval API share under different names (API §4.3)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from dingrelay_sandbox.answers import refused
from dingrelay_sandbox.approvals import Form, Instance, Record, Request, Step, Task, title_of
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.clock import clock
from dingrelay_sandbox.form_values import FormError, check_form, control_of, spell
from dingrelay_sandbox.organisation import ROOT, Organisation
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

ROOT_DEPARTMENT = -1
"""How approvals call the root (API §4.1)."""
LONGEST_REMARK = 1_024
MOST_FIELDS = {"oapi": 200, "rest": 150}
"""Most fields of a form."""

FIRST_NAMES = {
    "originatorUserId": "originator_user_id",
    "microappAgentId": "agent_id",
    "approvers": "approvers_v2",
    "userIds": "userid_list",
    "nextToken": "cursor",
    "maxResults": "size",
}
"""Today's names of parameters → the first ones, where those are not the same in lower case."""


def named(parameters: Parameters) -> Parameters:
    """A call's parameters by today's names, however its generation spells them."""
    if parameters.dialect == "oapi":
        parameters.spelt = lambda name: FIRST_NAMES.get(name) or _snake(name)
    return parameters


def find_template(state: SandboxState, given: Parameters) -> Template:
    """The template with the code that a call has, which must exist."""
    template = state.approvals.templates.get(given.text("processCode"))
    if template is None:
        raise refused(given.dialect, "template")
    return template


def template_steps(state: SandboxState, template: Template) -> list[Step]:
    """The steps of the template's own flow."""
    users = template.approvers or tuple(islice(state.organisation.people, 1))
    return [Step("NONE", (user,)) for user in users]


def create_instance(state: SandboxState, call: Call, request: Request) -> Instance:
    """Check the people and the department, and start the instance."""
    originator = state.organisation.people.get(request.originator)
    if originator is None:
        raise refused(call.dialect, "originator")
    number = ROOT if request.department == ROOT_DEPARTMENT else request.department
    if number not in state.organisation.departments:
        raise refused(call.dialect, "department")
    if number not in {ROOT, *originator.departments}:
        raise refused(call.dialect, "outside")
    named = {*request.cc, *(user for step in request.steps for user in step.users)}
    if not named <= state.organisation.people.keys():
        raise refused(call.dialect, "people")
    return state.approvals.create(request, call)


def ended_or_too_young(state: SandboxState, call: Call, instance: Instance) -> str:
    """Why an instance can't be withdrawn: only a running one can, and not at first (API §4.2)."""
    if instance.status != "RUNNING":
        return "审批单已结束"
    if call.monotonic - instance.monotonic < state.limits.terminate_after_seconds:
        return f"提交审批后 {state.limits.terminate_after_seconds:g} 秒内不允许撤销"
    return ""


def open_task(instance: Instance, task: Task) -> bool:
    """Whether it still has to be decided."""
    return instance.status == "RUNNING" and task.status == "RUNNING"


LONGEST_VALUE = 65_535


def read_form(state: SandboxState, given: Parameters, template: Template) -> Form:
    """The form: known controls, each once, with values that are texts and that the controls take."""
    components = given.objects("formComponentValues")
    if not components or len(components) > MOST_FIELDS[given.dialect]:
        raise refused(given.dialect, "form")
    form: dict[str, str] = {}
    for component in components:
        label, value = component.get("name"), component.get("value")
        if not isinstance(label, str):
            raise refused(given.dialect, "form")
        if not isinstance(value, str) or len(value) > LONGEST_VALUE or label in form:
            raise refused(given.dialect, "form", label)
        form[label] = value
    if template.fields:
        try:
            check_form(template.fields, form, state)
        except FormError as error:
            raise refused(given.dialect, "form", error.label) from None
    return tuple(form.items())


def read_steps(given: Parameters) -> list[Step]:
    """The steps that the caller gives, in their order; none where it gives none."""
    current = given.dialect == "rest"
    action, users = ("actionType", "userIds") if current else ("task_action_type", "user_ids")
    steps: list[Step] = []
    for step in given.objects("approvers") if given.has("approvers") else ():
        how, people = step.get(action), step.get(users)
        if how not in ("AND", "OR", "NONE") or not isinstance(people, list) or not people:
            raise given.invalid("approvers")
        steps.append(Step(how, tuple(str(userid) for userid in people)))
    return steps


def instance_document(
    state: SandboxState, instance: Instance, time: Callable[[float], str]
) -> dict[str, Any]:
    """An instance under today's names; `time` spells a moment."""
    request = instance.request
    place = state.organisation.departments.get(max(request.department, 1))
    document = {
        "title": title_of(instance, state.organisation),
        "createTime": time(instance.created_at),
        "finishTime": None if instance.finished_at is None else time(instance.finished_at),
        "originatorUserId": request.originator,
        "originatorDeptId": str(request.department),
        "originatorDeptName": place.name if place else "",
        "status": instance.status,
        "result": instance.result,
        "approverUserIds": [user for step in request.steps for user in step.users],
        "ccUserIds": list(request.cc),
        "businessId": instance.business_id,
        "operationRecords": [_record(each, time) for each in instance.records],
        "tasks": [_task(instance, each, time) for each in instance.tasks],
        "bizAction": "NONE",
        "attachedProcessInstanceIds": [],
        "formComponentValues": list(_components(instance, state.organisation)),
    }
    return _without_nothing(document)


def _record(record: Record, time: Callable[[float], str]) -> dict[str, Any]:
    return _without_nothing(
        {
            "userId": record.user,
            "date": time(record.at),
            "type": record.type,
            "result": record.result,
            "remark": record.remark,
            "activityId": record.activity or None,
        }
    )


def _task(instance: Instance, task: Task, time: Callable[[float], str]) -> dict[str, Any]:
    link = f"aflow.dingtalk.com?procInsId={instance.id}&taskId={task.id}"
    return _without_nothing(
        {
            "taskId": task.id,
            "userId": task.user,
            "status": task.status,
            "result": task.result,
            "createTime": time(task.created_at),
            "finishTime": None if task.finished_at is None else time(task.finished_at),
            "mobileUrl": link,
            "pcUrl": link,
            "processInstanceId": instance.id,
            "activityId": task.activity,
        }
    )


def _components(instance: Instance, organisation: Organisation) -> Iterator[dict[str, Any]]:
    """The form as DingTalk returns it: every control of the template, empty ones as ``"null"``."""
    submitted = dict(instance.request.form)
    controls = instance.request.template.fields
    if not controls:
        controls = tuple(control_of(name, value) for name, value in submitted.items())
    for control in controls:
        spelled, beside = spell(control, submitted.get(control.label), organisation)
        extra = None if beside is None else json.dumps(beside, ensure_ascii=False)
        yield _without_nothing(
            {
                "id": control.id,
                "name": control.label,
                "componentType": control.type,
                "value": spelled,
                "extValue": extra,
                "bizAlias": control.biz_alias or None,
            }
        )


def _without_nothing(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


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


def first_document(state: SandboxState, instance: Instance) -> dict[str, Any]:
    """The document of the current generation under its first names."""
    document = instance_document(state, instance, clock)
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
