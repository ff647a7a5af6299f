"""What both generations of the approval API check and return alike; each has its own refusals."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dingrelay_sandbox.answers import Refusal
from dingrelay_sandbox.approval_flow import Step, Task
from dingrelay_sandbox.approvals import Form, Instance, Request
from dingrelay_sandbox.call import Call
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


@dataclass(frozen=True, slots=True)
class Wording:
    """The refusals of one generation; that of a form names the control."""

    template: Refusal
    originator: Refusal
    department: Refusal
    outside: Refusal
    form: Callable[[str], Refusal]
    people: Refusal
    window: Refusal


def find_template(state: SandboxState, process_code: str, wording: Wording) -> Template:
    """The template, which must exist."""
    template = state.approvals.templates.get(process_code)
    if template is None:
        raise wording.template
    return template


def check_people(state: SandboxState, people: Sequence[str], wording: Wording) -> None:
    """All of these must be in the organisation."""
    if any(userid not in state.organisation.people for userid in people):
        raise wording.people


def template_steps(state: SandboxState, template: Template) -> list[Step]:
    """The steps of the template's own flow."""
    users = template.approvers or tuple(islice(state.organisation.people, 1))
    return [Step("NONE", (user,)) for user in users]


def create_instance(
    state: SandboxState, call: Call, request: Request, wording: Wording
) -> Instance:
    """Check the people and the department, and start the instance."""
    originator = state.organisation.people.get(request.originator)
    if originator is None:
        raise wording.originator
    number = ROOT if request.department == ROOT_DEPARTMENT else request.department
    if number not in state.organisation.departments:
        raise wording.department
    if number not in {ROOT, *originator.departments}:
        raise wording.outside
    approvers = [user for step in request.steps for user in step.users]
    check_people(state, [*approvers, *request.cc], wording)
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
    wording: Wording,
) -> tuple[list[str], int | None]:
    """One page of instance ids, and where the next one starts."""
    now_ms = int(call.at * 1000)
    if not 0 <= (now_ms if end_ms is None else end_ms) - start_ms <= LONGEST_WINDOW_SECONDS * 1000:
        raise wording.window
    if start_ms < now_ms - OLDEST_START_SECONDS * 1000:
        raise wording.window
    if not 1 <= size <= LARGEST_PAGE or cursor < 0 or len(users) > MOST_LISTED_USERS:
        raise wording.window
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
    if instance.flow.status != "RUNNING":
        return "审批单已结束"
    if call.monotonic - instance.monotonic < state.limits.terminate_after_seconds:
        return f"提交审批后 {state.limits.terminate_after_seconds:g} 秒内不允许撤销"
    return ""


def open_task(instance: Instance, task: Task) -> bool:
    """Whether it still has to be decided."""
    return instance.flow.status == "RUNNING" and task.status == "RUNNING"


LONGEST_VALUE = 65_535


@dataclass(frozen=True, slots=True)
class Component:
    """One control of an answer. `extra` is the JSON text of what stands beside the value."""

    id: str
    name: str
    type: str
    value: str
    extra: str | None = None
    biz_alias: str = ""


def read_form(
    state: SandboxState,
    components: Sequence[Mapping[str, Any]],
    template: Template,
    most: int,
    refused: Callable[[str], Refusal],
) -> Form:
    """The form: known controls, each once, with values that are texts and that the controls take.

    Args:
        state: who and what a form may name.
        components: as they came.
        template: what the form belongs to.
        most: how many controls a form may have.
        refused: the refusal for the control with this label.
    """
    if not components or len(components) > most:
        raise refused("")
    form: dict[str, str] = {}
    for component in components:
        name, value = component.get("name"), component.get("value")
        if not isinstance(name, str):
            raise refused("")
        if not isinstance(value, str) or len(value) > LONGEST_VALUE or name in form:
            raise refused(name)
        form[name] = value
    if template.fields:
        try:
            check_form(template.fields, form, state)
        except FormError as error:
            raise refused(error.label) from None
    return tuple(form.items())


def spelled_form(instance: Instance, organisation: Organisation) -> Iterator[Component]:
    """The form as DingTalk returns it: every control of the template, empty ones as ``"null"``."""
    submitted = dict(instance.request.form)
    controls = instance.request.template.fields
    if not controls:
        controls = tuple(control_of(name, value) for name, value in submitted.items())
    for control in controls:
        spelled = spell(control, submitted.get(control.label), organisation)
        extra = None if spelled.extra is None else json.dumps(spelled.extra, ensure_ascii=False)
        alias = control.biz_alias
        yield Component(control.id, control.label, control.type, spelled.value, extra, alias)
