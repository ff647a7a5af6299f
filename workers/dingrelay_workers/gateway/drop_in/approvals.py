"""Approvals at the door, in both dialects: created as jobs that are never carried out twice (API §4)."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic.alias_generators import to_camel

from dingrelay_producers.store.states import State
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal
from dingrelay_workers.gateway.drop_in.incoming import Incoming, structured
from dingrelay_workers.gateway.drop_in.job_call import Caller, refusal_of, run_change, verbatim

CREATE = "/v1.0/workflow/processInstances"
CREATE_TOPAPI = "/topapi/processinstance/create"
PATHS = frozenset({CREATE, CREATE_TOPAPI})
"""Paths for keys that create approvals."""

_OAPI = {
    "process_code": "process_code",
    "originator": "originator_user_id",
    "department": "dept_id",
    "form": "form_component_values",
    "approvers": "approvers",
    "cc": "cc_list",
    "cc_position": "cc_position",
}
_NAMES = {"oapi": _OAPI, "rest": {field: to_camel(name) for field, name in _OAPI.items()}}
"""The job's fields → what each dialect calls them."""
_AGENTS = {"agent_id", "microappAgentId"}
_PEOPLE = "approvers_v2"


async def create(caller: Caller, call: Incoming) -> DoorAnswer:
    """Create an instance.

    A form with parts that a job has no words for, such as ``ext_value``, is passed on as it came: then
    a lost answer is not looked up, and the call not repeated.

    Raises:
        Refusal: DingTalk refuses it, or would, or its end is not known yet.
    """
    fields = {name: structured(value) for name, value in call.fields.items()}
    plain = _plain(fields, call)
    if plain is None:
        job = ApiCall.parse({"method": "POST", "path": call.path, "body": fields, "effect": "once"})
        status = await run_change(caller, job, call)
        return verbatim(status, call.path)
    try:
        approval = ApprovalCreate.parse(plain)
    except ContractError as error:
        raise Refusal(_refusal(error, call)) from None
    status = await run_change(caller, approval, call)
    if status.state != State.DONE or status.result is None:
        raise Refusal(refusal_of(status))
    instance = status.result["instance_id"]
    if call.dialect == "rest":
        return DoorAnswer({"instanceId": instance})
    return answers.ok(process_instance_id=instance)


def _plain(fields: Mapping[str, Any], call: Incoming) -> dict[str, Any] | None:
    """The fields of a job; None where it has no words for something."""
    names = _NAMES[call.dialect]
    values = {name: value for name, value in fields.items() if value not in (None, "", [])}
    for needed in ("process_code", "originator", "form"):
        if names[needed] not in values:
            raise Refusal(answers.missing(names[needed]))
    steps = values.pop(_PEOPLE, None) if call.dialect == "oapi" else None
    if values.keys() - {*names.values(), *_AGENTS}:
        return None
    form = _form(values[names["form"]])
    approvers = _approvers(steps, values.get("approvers"), call)
    if form is None or approvers is None:
        return None
    if names["department"] not in values and (call.dialect == "oapi" or not approvers):
        raise Refusal(answers.missing(names["department"]))
    job: dict[str, Any] = {
        "process_code": values[names["process_code"]],
        "originator": values[names["originator"]],
        "form": form,
        "approvers": approvers,
        "cc": _people(values.get(names["cc"])),
        "cc_position": values.get(names["cc_position"]),
    }
    if names["department"] in values:
        job["department"] = _whole(values[names["department"]], names["department"])
    return job


def _form(value: Any) -> list[dict[str, Any]] | None:
    """Names and values; None if a control has more than these, or is none."""
    if not isinstance(value, list):
        return None
    form: list[dict[str, Any]] = []
    controls: list[Any] = value
    for control in controls:
        if not isinstance(control, dict):
            return None
        entry = {name: field for name, field in control.items() if field is not None}  # pyright: ignore[reportUnknownVariableType]
        if entry.keys() != {"name", "value"}:
            return None
        form.append(cast("dict[str, Any]", entry))
    return form


def _approvers(steps: Any, value: Any, call: Incoming) -> list[dict[str, Any]] | None:
    """The steps of the flow; None if they are spelled in no way that is known."""
    action, people = "task_action_type", "user_ids"
    if call.dialect == "rest":
        steps, value = value, None
        action, people = "actionType", "userIds"
    if steps is None:
        return [{"action": "NONE", "users": [user]} for user in _people(value)]
    if not isinstance(steps, list):
        return None
    approvers: list[dict[str, Any]] = []
    listed: list[Any] = steps
    for step in listed:
        if not isinstance(step, dict) or step.keys() != {action, people}:  # pyright: ignore[reportUnknownMemberType]
            return None
        approvers.append({"action": step[action], "users": _people(step[people])})
    return approvers


def _people(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [user for user in value.split(",") if user]
    people: list[Any] = value if isinstance(value, list) else []
    return people


def _whole(value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(answers.invalid(name)) from None


def _refusal(error: ContractError, call: Incoming) -> answers.RefusalTexts:
    name, _, _ = error.field.partition(".")
    return answers.invalid(_NAMES[call.dialect].get(name, name), error.problem)
