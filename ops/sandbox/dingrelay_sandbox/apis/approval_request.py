"""What both generations of the approval API check alike; each words its refusals itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dingrelay_sandbox.answers import Refusal
from dingrelay_sandbox.approvals import Form, Instance, Template
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT
from dingrelay_sandbox.world import World

ROOT_DEPARTMENT = -1
"""How approvals call the root (API §4.1)."""
LONGEST_VALUE = 65_535
LARGEST_PAGE = 20
MOST_LISTED_USERS = 10
LONGEST_WINDOW_SECONDS = 120 * 86_400
OLDEST_START_SECONDS = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Wording:
    """The refusals of one generation."""

    template: Refusal
    originator: Refusal
    department: Refusal
    form: Refusal
    people: Refusal
    window: Refusal


def find_template(world: World, process_code: str, wording: Wording) -> Template:
    """The template, which must exist."""
    template = world.approvals.templates.get(process_code)
    if template is None:
        raise wording.template
    return template


def read_form(
    components: Sequence[Mapping[str, Any]], template: Template, most: int, wording: Wording
) -> Form:
    """The form: known controls, each once, with values that are texts (API §4.4)."""
    if not components or len(components) > most:
        raise wording.form
    form: list[tuple[str, str]] = []
    for component in components:
        name, value = component.get("name"), component.get("value")
        if not isinstance(name, str) or not isinstance(value, str) or len(value) > LONGEST_VALUE:
            raise wording.form
        if template.fields and name not in template.fields:
            raise wording.form
        form.append((name, value))
    if len({name for name, _ in form}) < len(form):
        raise wording.form
    return tuple(form)


def check_people(world: World, people: Sequence[str], wording: Wording) -> None:
    """All of these must be in the organisation."""
    if any(userid not in world.organisation.people for userid in people):
        raise wording.people


def create_instance(
    world: World,
    call: Call,
    *,
    template: Template,
    originator: str,
    department: int,
    form: Form,
    approvers: Sequence[str],
    cc: Sequence[str],
    wording: Wording,
) -> Instance:
    """Check the people and the department, and start the instance."""
    if originator not in world.organisation.people:
        raise wording.originator
    number = ROOT if department == ROOT_DEPARTMENT else department
    if number not in world.organisation.departments:
        raise wording.department
    check_people(world, [*approvers, *cc], wording)
    return world.approvals.create(
        template,
        app_key=call.caller.app_key,
        call_id=call.id,
        originator=originator,
        department=department,
        form=form,
        approvers=approvers,
        cc=cc,
        at=call.at,
        monotonic=call.monotonic,
    )


def listed_ids(
    world: World,
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
    found = world.approvals.listed(
        process_code,
        start=start_ms / 1000,
        # A millisecond includes all that lies within it.
        end=None if end_ms is None else (end_ms + 1) / 1000,
        visible_until=call.monotonic - world.limits.listing_lag_seconds,
        users=frozenset(users),
        statuses=frozenset(statuses),
    )
    page = [instance.id for instance in found[cursor : cursor + size]]
    following = cursor + size
    return page, following if following < len(found) else None


def may_terminate(world: World, call: Call, instance: Instance) -> bool:
    """Only a running instance, and not in its first seconds (API §4.2)."""
    age = call.at - instance.created_at
    return instance.status == "RUNNING" and age >= world.limits.terminate_after_seconds


def terminate(call: Call, instance: Instance) -> None:
    """Withdraw a running instance."""
    instance.status = "TERMINATED"
    instance.finished_at = call.at
