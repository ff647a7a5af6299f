"""Outcomes of a message: of each call, of all together, and by DingTalk's delivery reports (API §2.2, §2.3)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from dingrelay_tasks.contract import DingTalkJson, Json, Part, UserIdText
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.person_fields import PersonField
from dingrelay_tasks.sentence import Sentence, en, joined

if TYPE_CHECKING:
    from dingrelay_tasks.context import Context, DeliveryReport

STEP = "call:"
"""Prefix of steps that call."""
LEFT_OUT = ("duplicate", "daily_cap", "unknown_user", "out_of_scope")
"""Why a user is in no call: each a list of the result."""
_LISTS = (*LEFT_OUT, "duplicate_departments", "perhaps_duplicate", "unverified")
NOBODY_REACHABLE = "nobody_reachable"
"""The code of the refusal of a message none of whose people would get anything."""


class SentMessage(Part):
    """One call that DingTalk took.

    Attributes:
        recipients: 0 for departments and everyone: not known.
        repeated: it repeats a call whose answer was lost. Users that the lost call reached got
            nothing by this one, and a recall of it leaves their message.
    """

    task_id: int
    request_id: str
    recipients: Annotated[int, Field(ge=0)]
    # A release before this field refuses it.
    repeated: Annotated[bool, Field(exclude_if=lambda repeated: not repeated)] = False


class MessageSendResult(Part):
    """Outcome of a message.

    Attributes:
        calls: the calls that DingTalk took.
        accepted: users that the calls named.
        duplicate: users left out: they have this content already today.
        daily_cap: users left out: they have had the day's messages.
        unknown_user: users left out: DingTalk does not know this userid.
        out_of_scope: users left out: they are outside the app's visible range.
        unresolved: addresses that name no user, as ``{"mobile": "+86-138…", "reason": "unknown"}``.
            ``ambiguous``: several people have it, the ``users``; ``hidden``: the app may not see
            its owner.
        duplicate_departments: departments left out: this content was sent to them today.
        perhaps_duplicate: of the accepted, users who may have had this content already, through a
            department that it was sent to today. DingTalk drops the copy for those who have it.
        unverified: of the accepted, users that are not in the directory and could not be looked up:
            DingTalk drops the message silently if it does not know them.
        invalid: users that DingTalk does not know; with `confirm` only.
        forbidden: users that DingTalk did not deliver to, as ``{"userid", "code", "count"}`` with
            the code of API §2.3; with `confirm` only.
        failed: users whose delivery failed at DingTalk; with `confirm` only.
    """

    calls: list[SentMessage] = Field(default_factory=list[SentMessage])
    accepted: int = 0
    duplicate: list[UserIdText] = Field(default_factory=list)
    daily_cap: list[UserIdText] = Field(default_factory=list)
    unknown_user: list[UserIdText] = Field(default_factory=list)
    out_of_scope: list[UserIdText] = Field(default_factory=list)
    unresolved: list[Annotated[dict[str, Any], PersonField("users")]] = Field(
        default_factory=list[dict[str, Any]]
    )
    duplicate_departments: list[int] = Field(default_factory=list[int])
    perhaps_duplicate: list[UserIdText] = Field(default_factory=list)
    unverified: list[UserIdText] = Field(default_factory=list)
    invalid: list[UserIdText] = Field(default_factory=list)
    forbidden: list[DingTalkJson] = Field(default_factory=list[dict[str, Any]])
    failed: list[UserIdText] = Field(default_factory=list)


def result_of(outcomes: Sequence[Json], unresolved: Sequence[Json]) -> MessageSendResult:
    """The result of a message's calls, with the addresses that name no user.

    Args:
        outcomes: what is remembered of each call: its ``task_id``, None if no recipient was left or if a person has
            ``stated`` that it was carried out, to so many users, and what is not empty of the other fields of
            `SentMessage`, of when it was taken (``at``), and of `_LISTS`.
        unresolved: the addresses.
    """
    calls = [outcome for outcome in outcomes if outcome["task_id"] is not None]
    return MessageSendResult(
        calls=[
            SentMessage(
                task_id=call["task_id"],
                request_id=call.get("request_id", ""),
                recipients=call.get("recipients", 0),
                repeated=call.get("repeated", False),
            )
            for call in calls
        ],
        accepted=sum(call.get("recipients", 0) + call.get("stated", 0) for call in outcomes),
        unresolved=list(unresolved),
        **{
            name: [entry for outcome in outcomes for entry in outcome.get(name, ())]
            for name in _LISTS
        },
    )


def refuse_unreachable(result: MessageSendResult) -> None:
    """Refuse a message of whose people none would get anything, and none has it.

    Raises:
        Refused: so it is.
    """
    have_it = result.duplicate or result.daily_cap or result.duplicate_departments
    counts = (
        (len(result.unknown_user), en("{} unknown to DingTalk")),
        (len(result.out_of_scope), en("{} outside the app's visible range")),
    )
    if not have_it and any(count for count, _ in counts):
        groups = joined(", ", (Sentence(template, count) for count, template in counts if count))
        raise Refused(
            NOBODY_REACHABLE,
            en("no recipient can be reached: {}", groups),
            "Correct the userids (`unknown_user` in the result), or add the people to the app's visible"
            " range in DingTalk's console (`out_of_scope`).",
        )


DELIVERY = "delivery:"
"""Prefix of steps that query a call's delivery."""
CONFIRM_FIRST = timedelta(seconds=2)
CONFIRM_LATER = timedelta(seconds=30)
"""Shortest and longest time between two questions about a call's delivery."""
CONFIRM_WITHIN = timedelta(minutes=10)
"""After this, a delivery that is not finished counts as it stands: each question is a call."""


async def deliveries(outcomes: Sequence[Json], ctx: "Context") -> list[Json]:
    """DingTalk's delivery reports for the calls that named users."""
    return [
        await ctx.once(f"{DELIVERY}{outcome['task_id']}", partial(_delivery, ctx, outcome))
        for outcome in outcomes
        if outcome.get("recipients")
    ]


async def _delivery(ctx: "Context", call: Json) -> Json:
    """Delivery report of one call, or `Wait`: the older the call, the longer."""
    delivery: DeliveryReport = await ctx.messages.delivery(call["task_id"])
    age = ctx.now() - datetime.fromisoformat(call["at"])
    if not delivery.finished and age < CONFIRM_WITHIN:
        raise Wait(min(max(age, CONFIRM_FIRST), CONFIRM_LATER), "DingTalk still delivers")
    return {
        "finished": delivery.finished,
        "invalid": delivery.invalid,
        "forbidden": delivery.forbidden,
        "failed": delivery.failed,
    }


def deliveries_in(steps: Mapping[str, Json]) -> list[Json]:
    """The delivery reports of the calls, the last one of each step."""
    task_ids = [outcome["task_id"] for step, outcome in steps.items() if step.startswith(STEP)]
    remembered = (steps.get(f"{DELIVERY}{task_id}") for task_id in task_ids if task_id is not None)
    return [delivery for delivery in remembered if delivery is not None]


def with_delivery(result: MessageSendResult, deliveries: Sequence[Json]) -> MessageSendResult:
    """The result with its deliveries, if a user was reached or may have been.

    Raises:
        Refused: DingTalk reports that none was.
    """
    result = with_deliveries(result, deliveries)
    reasons = unreached(result, deliveries)
    if not reasons:
        return result
    raise Refused(
        "nobody_reached",
        en("DingTalk delivered it to none of {} people: {}", result.accepted, reasons),
        "`invalid` in the result: no such person, or outside the app's visible range."
        " `forbidden` gives DingTalk's code of each.",
    )


def with_deliveries(result: MessageSendResult, deliveries: Sequence[Json]) -> MessageSendResult:
    """The result with the delivery reports of DingTalk."""
    lists = {
        name: [entry for delivery in deliveries for entry in delivery.get(name, ())]
        for name in ("invalid", "forbidden", "failed")
    }
    if _is_complete(result, deliveries):
        lists["unverified"] = []
    return result.model_copy(update=lists)


def is_finished(delivery: Json | None) -> bool:
    """Whether DingTalk had delivered a call by its last report."""
    return delivery is not None and bool(delivery.get("finished", True))


def _is_complete(result: MessageSendResult, deliveries: Sequence[Json | None]) -> bool:
    """Whether all is reported; of departments and everyone nothing is."""
    return len(deliveries) >= len(result.calls) and all(map(is_finished, deliveries))


def unreached(result: MessageSendResult, deliveries: Sequence[Json | None]) -> str:
    """Why no user was reached; empty if one was, or may have been."""
    if not _is_complete(result, deliveries):
        return ""
    from dingrelay_tasks.context import SAME_CONTENT_CODE

    people = {
        "invalid": {*result.invalid},
        "forbidden": {
            user["userid"] for user in result.forbidden if user["code"] != SAME_CONTENT_CODE
        },
        "failed": {*result.failed},
    }
    # A user may be in two of the lists.
    if len(set[str]().union(*people.values())) < result.accepted:
        return ""
    words = {
        "invalid": en("{} invalid"),
        "forbidden": en("{} forbidden"),
        "failed": en("{} failed"),
    }
    return joined(
        ", ", (Sentence(words[reason], len(users)) for reason, users in people.items() if users)
    )
