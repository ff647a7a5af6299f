"""message-recall: takes back what the calls of a message brought (API §2.4)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract, Json, Part, UserId, UserIdText
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import CallForgotten, Refused, Wait
from dingrelay_tasks.sentence import Sentence, en, joined

MOST_CALLS = 1_000
STEP = "recall:"
"""Prefix of steps that recall."""
DELIVERS = timedelta(seconds=2)
"""Until the next query which people a call reached."""


class CallToRecall(Part):
    """A call of the message.

    Attributes:
        task_id: DingTalk's id of it.
        named: whether it named users, so that it may have carried other messages like it.
        repeated: it repeats a call whose answer was lost, and which may have reached people.
    """

    task_id: int
    named: bool
    repeated: bool = False


class MessageRecall(Contract):
    """The recall of a message.

    Attributes:
        message: the id of its job.
        calls: those that DingTalk took.
        users: the people that it was for. A call that carried others' people as well stays: DingTalk
            takes back all of a call, or nothing.
        unknown: how many people are in calls of the message whose outcome is unknown.
    """

    message: Annotated[str, Field(min_length=1, max_length=64)]
    calls: Annotated[list[CallToRecall], Field(min_length=1, max_length=MOST_CALLS)]
    users: list[UserId] = Field(default_factory=list)
    unknown: Annotated[int, Field(ge=0)] = 0

    @property
    def identity(self) -> str:
        """Two recalls of a message are the same job, unless a requeue made calls between them."""
        return f"{self.message}/{len(self.calls)}/{self.calls[-1].task_id}"

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.message} {len(self.calls)} calls"


class MessageRecallResult(Part):
    """Outcome of a recall, by DingTalk's ids of the calls.

    Attributes:
        recalled: taken back.
        refused: those that DingTalk does not take back: they are older than 24 hours.
        shared: those that carried people of other messages, and were left as they are.
        kept: people who keep the message. They have it by a call whose answer was lost, so its id is
            unknown; DingTalk dropped the repeat for them.
        unknown: how many people are in calls whose outcome is unknown; they may have the message.
    """

    recalled: list[int] = Field(default_factory=list[int])
    refused: list[int] = Field(default_factory=list[int])
    shared: list[int] = Field(default_factory=list[int])
    kept: list[UserIdText] = Field(default_factory=list[str])
    unknown: int = 0


def so_far(steps: Mapping[str, Json]) -> Json | None:
    """The result of a recall that took nothing back, by the steps that it remembers."""
    outcomes = [outcome for step, outcome in steps.items() if step.startswith(STEP)]
    return _result(outcomes, 0).model_dump() if outcomes else None


@kind(
    "message-recall",
    MessageRecall,
    result=MessageRecallResult,
    api="message.recall",
    so_far=so_far,
    goes_on=True,
    reported=True,
)
async def run(job: MessageRecall, ctx: Context) -> Json:
    """Recall one call after the other; a `MessageRecallResult` as JSON.

    A recall whose answer was lost is repeated: the second one changes nothing.

    Raises:
        Wait: DingTalk still delivers a call, and so does not report which people it reached.
        Refused: nothing was taken back.
    """
    outcomes = [
        await ctx.once(f"{STEP}{call.task_id}", partial(_recall, call, job.users, ctx))
        for call in job.calls
    ]
    result = _result(outcomes, job.unknown)
    if not result.recalled:
        reasons = (
            (len(result.refused), en("{} too old")),
            (len(result.shared), en("{} shared with others")),
            (len(result.kept), en("{} people have it by a call whose answer was lost")),
            (result.unknown, en("{} people are in calls whose outcome is unknown")),
        )
        counts = joined(", ", (Sentence(reason, count) for count, reason in reasons if count))
        raise Refused(
            "nothing_recalled",
            en("DingTalk took back none of {} calls: {}", len(job.calls), counts),
            "Messages can be recalled for 24 hours, and only with all that their call carried.",
        )
    return result.model_dump()


def _result(outcomes: Iterable[Json], unknown: int) -> MessageRecallResult:
    result = MessageRecallResult(unknown=unknown)
    for outcome in outcomes:
        if outcome["outcome"] != "kept":
            getattr(result, outcome["outcome"]).append(outcome["call"])
        result.kept.extend(outcome["kept"])
    return result


async def _recall(call: CallToRecall, users: Sequence[str], ctx: Context) -> Json:
    keepers: list[str] = []

    def outcome(verdict: Literal["recalled", "refused", "shared", "kept"]) -> Json:
        return {"call": call.task_id, "outcome": verdict, "kept": keepers}

    if call.named or call.repeated:
        try:
            report = await ctx.messages.delivery(call.task_id)
        except CallForgotten:
            return outcome("refused")
        if not report.finished:
            raise Wait(DELIVERS, "DingTalk still delivers")
        reached = {*report.read, *report.unread}
        if call.repeated:
            keepers += [user for user in report.had_it if not call.named or user in users]
        if call.named and not reached <= {*users}:
            return outcome("shared")
        if keepers and not reached:
            return outcome("kept")
    withdrawn = await ctx.messages.withdraw_message(call.task_id)
    return outcome("recalled" if withdrawn else "refused")
