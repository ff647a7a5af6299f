"""approval-create: start an approval instance, never twice (API §4)."""

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Deliverable, Json, Part, UserId
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Unknown, Wait
from dingrelay_tasks.sentence import en

VALUE_LIMIT = 65_535
MOST_FIELDS = 150
STEP = "create"
ROOT = -1
"""How approvals spell the whole organisation (API §4.1)."""


def encode(value: JsonValue) -> str:
    """A form value as DingTalk's string (API §4.4).

    A string stays as it is, a number or boolean becomes its JSON text, a list or object becomes
    JSON. A list of objects is a table, a row an object of column → value, unless the objects are
    attachments, which DingTalk also spells as objects.

    Raises:
        ValueError: a number is not finite.
    """
    if isinstance(value, str):
        return value
    if _is_table(value):
        rows = cast("list[dict[str, JsonValue]]", value)
        value = [
            [{"name": column, "value": encode(value)} for column, value in row.items()]
            for row in rows
        ]
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _is_table(value: JsonValue) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and not {"fileId", "spaceId"} <= row.keys() for row in value)
    )


def _encoded(value: Any) -> Any:
    """`encode` where it applies; the rest is left for the field's own check to refuse."""
    if not isinstance(value, (int, float, list, dict)):
        return value
    try:
        return encode(cast("JsonValue", value))
    except (RecursionError, TypeError, ValueError):
        raise ValueError(
            "must be JSON: no NaN, no half of a character, not nested too deeply"
        ) from None


def _fields(form: Any) -> Any:
    """A form given as an object, as the list of its fields."""
    if isinstance(form, Mapping):
        return [{"name": name, "value": value} for name, value in form.items()]
    return form


def _root_or_department(department: int) -> int:
    if department == 0:
        raise ValueError(en("must be a department, or {} for the whole organisation", ROOT))
    return department


class FormField(Part):
    """One field of the form.

    Attributes:
        name: the label of the control in the template.
        value: DingTalk's string; other JSON values are encoded when the job is made.
    """

    name: Annotated[str, Field(min_length=1)]
    value: Annotated[
        str,
        Field(max_length=VALUE_LIMIT),
        BeforeValidator(_encoded, json_schema_input_type=JsonValue),
    ]


_FORM = (
    Annotated[list[FormField], Field(min_length=1, max_length=MOST_FIELDS)]
    | Annotated[
        dict[Annotated[str, Field(min_length=1)], JsonValue],
        Field(min_length=1, max_length=MOST_FIELDS),
    ]
)
"""A form as it may be given, for the schema."""


class Approver(Part):
    """One step of the approval.

    Attributes:
        action: ``AND`` all of them, ``OR`` any of them, ``NONE`` one person.
        users: the approvers.
    """

    action: Literal["AND", "OR", "NONE"]
    users: Annotated[list[UserId], Field(min_length=1)]


class TargetActioner(Part):
    """Approvers that the originator chooses for a step of the template's own flow.

    Attributes:
        key: of the step, ``manual_…``, as in DingTalk's forecast (API §11.8).
        users: the chosen approvers.
    """

    key: Annotated[str, Field(min_length=1, max_length=128)]
    users: Annotated[list[UserId], Field(min_length=1)]


class ApprovalCreate(Deliverable):
    """Create an approval instance.

    Attributes:
        process_code: the template.
        originator: the user who requests the approval.
        department: the originator's department; -1 is the whole organisation.
        form: the fields as ``[{"name", "value"}]``, or as an object of name → value.
        approvers: empty for the template's own flow.
        target_actioners: approvers that the originator chooses, if the template's own flow asks for it.
        cc: users who get a copy; DingTalk ignores it where the template's own flow is used.
        cc_position: when the copies go out.
    """

    process_code: Annotated[str, Field(pattern=r"^\S{1,128}$")]
    originator: UserId
    department: Annotated[
        int, Field(strict=True, ge=ROOT, le=2**63 - 1), AfterValidator(_root_or_department)
    ] = ROOT
    form: Annotated[
        list[FormField],
        Field(min_length=1, max_length=MOST_FIELDS),
        BeforeValidator(_fields, json_schema_input_type=_FORM),
    ]
    approvers: Annotated[list[Approver], Field(max_length=20)] = Field(
        default_factory=list[Approver]
    )
    target_actioners: Annotated[list[TargetActioner], Field(max_length=20)] = Field(
        default_factory=list[TargetActioner]
    )
    cc: Annotated[list[UserId], Field(max_length=50)] = Field(default_factory=list)
    cc_position: Literal["START", "FINISH", "START_FINISH"] | None = None

    @property
    def form_values(self) -> list[tuple[str, str]]:
        """The form as (name, value) in the order given."""
        return [(entry.name, entry.value) for entry in self.form]

    def summary(self) -> str:
        """One short line for Flower and logs, free of the form's values."""
        return f"{super().summary()} {self.process_code} fields={len(self.form)}"


class ApprovalCreateResult(Part):
    """The instance that was created."""

    instance_id: str


@kind(
    "approval-create",
    ApprovalCreate,
    result=ApprovalCreateResult,
    scope="approvals:write",
    path="/v1/approvals",
    operation="createApproval",
    api="approval.create",
    resolved_by="instance or not_created",
    changing_step=STEP,
)
async def run(job: ApprovalCreate, ctx: Context) -> Json:
    """Create the instance, or find the one that an earlier attempt created.

    A look-up that fails raises whatever it failed with: nothing is created on a guess.

    Returns:
        An `ApprovalCreateResult` as JSON values.

    Raises:
        ContractError: the form is none of the template's.
        Wait: the instance can't be found, and may still appear.
        Unknown: there are instances that can't be distinguished from it.
    """
    instance_id = await _made_before(job, ctx)
    if instance_id is None:
        # A form that was sent once needs no check: only its answer was lost.
        if ctx.intent is None and await ctx.step_result(STEP) is None:
            await ctx.approvals.check(job.process_code, job.form_values)
        remembered = await ctx.once(STEP, partial(_create, job, ctx))
        instance_id = str(remembered["instance_id"])
    await ctx.approval_states.follow(instance_id, at=ctx.now())
    return ApprovalCreateResult(instance_id=instance_id).model_dump(mode="json")


async def _made_before(job: ApprovalCreate, ctx: Context) -> str | None:
    """The instance of a call whose answer was lost; None once it is known not to exist."""
    intent = ctx.intent
    if intent is None:
        return None
    # Taken before the look-up: it must begin after the delay for its no to count. A wait
    # longer than the delay means that the clock was set back.
    wait = min(intent.at + ctx.settle_delay - ctx.now(), ctx.settle_delay)
    instance, similar, unsettled = await ctx.approvals.find(job, since=intent.since)
    if instance is not None:
        return instance
    wait = max(wait, unsettled)
    if wait > timedelta():
        raise Wait(wait, "an approval whose answer was lost may still appear")
    if similar:
        raise Unknown(
            "the answer was lost, and what was made can't be distinguished from other approvals",
            candidates=similar,
        )
    ctx.confirm_not_executed()
    return None


async def _create(job: ApprovalCreate, ctx: Context) -> Json:
    return {"instance_id": await ctx.approvals.create(job)}
