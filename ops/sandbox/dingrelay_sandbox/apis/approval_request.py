"""What both generations of the approval API check and return alike; each has its own refusals."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from dingrelay_sandbox.answers import OapiRefusal, Refusal, RestRefusal
from dingrelay_sandbox.approvals import Form, Instance, Record, Request, Step, Task, title_of
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.form_values import FormError, check_form, control_of, spell
from dingrelay_sandbox.organisation import ROOT, Organisation
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

ROOT_DEPARTMENT = -1
"""How approvals call the root (API §4.1)."""
LONGEST_REMARK = 1_024
LARGEST_PAGE = 20
MOST_LISTED_USERS = 10
LONGEST_WINDOW_SECONDS = 120 * 86_400
OLDEST_START_SECONDS = 365 * 86_400


_WRONG = "processInstanceInvalidParameter"
_REFUSALS = {
    "template": ("820001 不合法的process_code", "processCodeError 审批模板不存在或已被删除"),
    "originator": ("60121 找不到该用户", f"{_WRONG} 发起人不存在"),
    "department": ("60003 部门不存在", f"{_WRONG} 部门不存在"),
    "outside": ("400002 发起人不在该部门", f"{_WRONG} 发起人不在该部门"),
    "form": ("810003 表单格式错误，失败控件：", "formConverterError 表单数据校验失败，失败控件："),
    "people": ("400002 审批人或抄送人参数错误", f"{_WRONG} 审批人或抄送人不存在"),
    "window": ("400002 查询条件超出限制", "invalidParameter 查询条件超出限制"),
}
"""What is wrong → code and text of each generation."""


def refused(call: Call, what: str, label: str = "") -> Refusal:
    """The refusal of the call's generation; that of a form names the control."""
    first, current = _REFUSALS[what]
    if call.dialect == "rest":
        code, _, message = current.partition(" ")
        return RestRefusal(code, message + label)
    code, _, message = first.partition(" ")
    return OapiRefusal(code, message + label)


def find_template(state: SandboxState, call: Call, name: str) -> Template:
    """The template with the code that a parameter has, which must exist."""
    template = state.approvals.templates.get(call.parameters.text(name))
    if template is None:
        raise refused(call, "template")
    return template


def template_steps(state: SandboxState, template: Template) -> list[Step]:
    """The steps of the template's own flow."""
    users = template.approvers or tuple(islice(state.organisation.people, 1))
    return [Step("NONE", (user,)) for user in users]


def create_instance(state: SandboxState, call: Call, request: Request) -> Instance:
    """Check the people and the department, and start the instance."""
    originator = state.organisation.people.get(request.originator)
    if originator is None:
        raise refused(call, "originator")
    number = ROOT if request.department == ROOT_DEPARTMENT else request.department
    if number not in state.organisation.departments:
        raise refused(call, "department")
    if number not in {ROOT, *originator.departments}:
        raise refused(call, "outside")
    named = {*request.cc, *(user for step in request.steps for user in step.users)}
    if not named <= state.organisation.people.keys():
        raise refused(call, "people")
    return state.approvals.create(
        request,
        app_key=call.caller.app_key,
        call_id=call.id,
        at=call.at,
        monotonic=call.monotonic,
    )


def listed_ids(
    state: SandboxState,
    call: Call,
    *,
    process_code: str,
    start_ms: int,
    end_ms: int | None,
    users: Sequence[str],
    statuses: Sequence[str],
    cursor: int,
    size: int,
) -> tuple[list[str], int | None]:
    """One page of instance ids, and where the next one starts."""
    now_ms = int(call.at * 1000)
    if not 0 <= (now_ms if end_ms is None else end_ms) - start_ms <= LONGEST_WINDOW_SECONDS * 1000:
        raise refused(call, "window")
    if start_ms < now_ms - OLDEST_START_SECONDS * 1000:
        raise refused(call, "window")
    if not 1 <= size <= LARGEST_PAGE or cursor < 0 or len(users) > MOST_LISTED_USERS:
        raise refused(call, "window")
    found = state.approvals.listed(
        process_code,
        start=start_ms / 1000,
        # A millisecond includes all that lies within it.
        end=None if end_ms is None else (end_ms + 1) / 1000,
        visible_until=call.monotonic - state.limits.listing_lag_seconds,
        users=frozenset(users),
        statuses=frozenset(statuses),
    )
    page = [instance.id for instance in found[cursor : cursor + size]]
    following = cursor + size
    return page, following if following < len(found) else None


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


def read_form(state: SandboxState, call: Call, name: str, template: Template, most: int) -> Form:
    """The form: known controls, each once, with values that are texts and that the controls take.

    Args:
        state: who and what a form may name.
        call: what has the form.
        name: what it is called there.
        template: what the form belongs to.
        most: how many controls a form may have.
    """
    components = call.parameters.objects(name)
    if not components or len(components) > most:
        raise refused(call, "form")
    form: dict[str, str] = {}
    for component in components:
        label, value = component.get("name"), component.get("value")
        if not isinstance(label, str):
            raise refused(call, "form")
        if not isinstance(value, str) or len(value) > LONGEST_VALUE or label in form:
            raise refused(call, "form", label)
        form[label] = value
    if template.fields:
        try:
            check_form(template.fields, form, state)
        except FormError as error:
            raise refused(call, "form", error.label) from None
    return tuple(form.items())


def read_steps(parameters: Parameters, name: str, action: str, users: str) -> list[Step]:
    """The steps that the caller gives, in their order; none where it gives none.

    Args:
        parameters: of the call.
        name: what the steps are called.
        action: what the way to consent is called in each.
        users: what the people are called in each.
    """
    steps: list[Step] = []
    for step in parameters.objects(name) if parameters.has(name) else ():
        how, people = step.get(action), step.get(users)
        if how not in ("AND", "OR", "NONE") or not isinstance(people, list) or not people:
            raise parameters.invalid(name)
        steps.append(Step(how, tuple(str(userid) for userid in people)))
    return steps


def instance_document(
    state: SandboxState, instance: Instance, time: Callable[[float], str]
) -> dict[str, Any]:
    """What is known of an instance, under today's names; `time` spells a moment."""
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
