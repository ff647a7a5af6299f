"""message-recall: takes back what the calls of a message brought (API §2.4)."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from dingrelay_tasks.context import Context, Json
from dingrelay_tasks.contract import Contract, Part, UserId
from dingrelay_tasks.outcomes import CallForgotten, Refused, Wait

MOST_CALLS = 1_000
DELIVERS = timedelta(seconds=2)
"""Until DingTalk is asked again which people a call reached."""


class SentCall(Part):
    """A call of the message.

    Attributes:
        task_id: DingTalk's id of it.
        named: whether it named users, so that it may have carried other messages like it.
    """

    task_id: int
    named: bool


class MessageRecall(Contract):
    """The recall of a message.

    Attributes:
        message: the id of its job.
        calls: those that DingTalk took.
        users: the people that it was for. A call that carried others' people as well stays: DingTalk
            takes back all of a call, or nothing.
    """

    kind: ClassVar[str] = "message-recall"

    message: Annotated[str, Field(min_length=1, max_length=64)]
    calls: Annotated[list[SentCall], Field(min_length=1, max_length=MOST_CALLS)]
    users: list[UserId] = Field(default_factory=list)

    @property
    def identity(self) -> str:
        """Two recalls of a message are the same job, unless it was requeued and has made calls meanwhile."""
        return f"{self.message}/{len(self.calls)}/{self.calls[-1].task_id}"

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.message} {len(self.calls)} calls"


class MessageRecallResult(Part):
    """What became of a recall, by DingTalk's ids of the calls.

    Attributes:
        recalled: taken back.
        refused: those that DingTalk does not take back: they are older than 24 hours.
        shared: those that carried people of other messages, and were left as they are.
    """

    recalled: list[int] = Field(default_factory=list[int])
    refused: list[int] = Field(default_factory=list[int])
    shared: list[int] = Field(default_factory=list[int])


async def run(job: MessageRecall, ctx: Context) -> Json:
    """Recall one call after the other; a `MessageRecallResult` as JSON.

    A recall whose answer was lost is repeated: the second one changes nothing.

    Raises:
        Wait: DingTalk still delivers a call, and so does not tell which people it reached.
        Refused: nothing was taken back.
    """
    calls_by_outcome: dict[str, list[int]] = {"recalled": [], "refused": [], "shared": []}
    for call in job.calls:
        step = f"recall:{call.task_id}"
        outcome = await ctx.once(step, partial(_recall, call, job.users, ctx))
        calls_by_outcome[outcome["outcome"]].append(call.task_id)
    if not calls_by_outcome["recalled"]:
        reasons = (
            (len(calls_by_outcome["refused"]), "too old"),
            (len(calls_by_outcome["shared"]), "shared with others"),
        )
        named = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
        raise Refused(
            "nothing_recalled",
            f"DingTalk took back none of {len(job.calls)} calls: {named}",
            "Messages can be recalled for 24 hours, and only with all that their call carried.",
        )
    return MessageRecallResult(**calls_by_outcome).model_dump()


async def _recall(call: SentCall, users: Sequence[str], ctx: Context) -> Json:
    if call.named:
        try:
            report = await ctx.messages.delivery(call.task_id)
        except CallForgotten:
            return {"outcome": "refused"}
        if not report.finished:
            raise Wait(DELIVERS, "DingTalk still delivers")
        reached = {*report.read, *report.unread}
        if not reached <= {*users}:
            return {"outcome": "shared"}
    withdrawn = await ctx.messages.withdraw_message(call.task_id)
    return {"outcome": "recalled" if withdrawn else "refused"}
