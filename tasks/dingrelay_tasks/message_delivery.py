"""DingTalk's delivery reports for a message's calls (API §2.2, §2.3)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from dingrelay_tasks.context import Context, DeliveryReport, Json
from dingrelay_tasks.context.messages import SAME_CONTENT_CODE
from dingrelay_tasks.message_result import STEP, MessageSendResult, Outcome
from dingrelay_tasks.outcomes import Refused, Wait

DELIVERY = "delivery:"
"""What the steps that ask for a call's delivery begin with."""
CONFIRM_FIRST = timedelta(seconds=2)
CONFIRM_LATER = timedelta(seconds=30)
"""Shortest and longest time between two questions about a call's delivery."""
CONFIRM_WITHIN = timedelta(minutes=10)
"""After this, a delivery that is not finished counts as it stands: each question is a call."""


async def deliveries(outcomes: Sequence[Outcome], ctx: Context) -> list[Json]:
    """DingTalk's delivery reports for the calls that named users."""
    return [
        await ctx.once(
            f"{DELIVERY}{outcome.task_id}",
            partial(_delivery, ctx, outcome.task_id, datetime.fromisoformat(outcome.at)),
        )
        for outcome in outcomes
        if outcome.task_id is not None and outcome.recipients
    ]


async def _delivery(ctx: Context, task_id: int, since: datetime) -> Json:
    """What became of one call, or `Wait`: the older the call, the longer."""
    delivery: DeliveryReport = await ctx.messages.delivery(task_id)
    age = ctx.now() - since
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
    made = [outcome["task_id"] for step, outcome in steps.items() if step.startswith(STEP)]
    remembered = (steps.get(f"{DELIVERY}{task_id}") for task_id in made if task_id is not None)
    return [delivery for delivery in remembered if delivery is not None]


def with_delivery(result: MessageSendResult, deliveries: Sequence[Json]) -> MessageSendResult:
    """The result with its deliveries, if a user was reached or may have been.

    Raises:
        Refused: DingTalk reports that none was.
    """
    result = with_deliveries(result, deliveries)
    named = unreached(result, deliveries)
    if not named:
        return result
    raise Refused(
        "nobody_reached",
        f"DingTalk delivered it to none of {result.accepted} people: {named}",
        "`invalid` in the result: no such person, or outside the app's visible range."
        " `forbidden` gives DingTalk's code of each.",
    )


def with_deliveries(result: MessageSendResult, deliveries: Sequence[Json]) -> MessageSendResult:
    """The result with the delivery reports of DingTalk."""
    lists = {
        name: [each for delivery in deliveries for each in delivery.get(name, ())]
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
    people = {
        "invalid": {*result.invalid},
        "forbidden": {
            each["userid"] for each in result.forbidden if each["code"] != SAME_CONTENT_CODE
        },
        "failed": {*result.failed},
    }
    # A user may be in two of the lists.
    if len(set[str]().union(*people.values())) < result.accepted:
        return ""
    return ", ".join(f"{len(those)} {what}" for what, those in people.items() if those)
