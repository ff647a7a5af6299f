"""campaign-recall: takes back what some calls of a campaign brought (API §2.4)."""

from datetime import timedelta
from functools import partial
from typing import Annotated

from pydantic import Field

from dingrelay_tasks.context import CampaignCall, Context
from dingrelay_tasks.contract import Contract, Json, Part, UserIdText
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import CallForgotten, Wait
from dingrelay_tasks.sentence import en

UNDER_WAY_PAUSE = timedelta(seconds=2)
"""Until a chunk that was released before the campaign was paused has been called or withdrawn."""
CHUNKS_PER_JOB = 50
"""Chunks of one job: a few seconds of work at DingTalk's limits."""

Numbers = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=CHUNKS_PER_JOB)
]


class CampaignRecall(Contract):
    """The recall of some chunks of a campaign.

    Attributes:
        campaign: whose chunks they are.
        numbers: which ones. Those that are recalled already, or have no call, cost nothing; those
            that are under way are waited for.
    """

    campaign: Annotated[str, Field(min_length=1, max_length=64)]
    numbers: Numbers

    @property
    def identity(self) -> str:
        """The calls: taken back once, however often that is asked for."""
        return f"{self.campaign} {self.numbers}"

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.campaign} {len(self.numbers)} calls"


class CampaignRecallResult(Part):
    """Outcome of a recall.

    Attributes:
        recalled: the chunks whose message was taken back.
        refused: those whose call DingTalk doesn't take back: too old, or unknown to it.
        kept: people of the former who keep the message. They have it by a call whose answer was lost, so its id is
            unknown; DingTalk dropped the repeat for them.
    """

    recalled: list[int] = Field(default_factory=list[int])
    refused: list[int] = Field(default_factory=list[int])
    kept: list[UserIdText] = Field(default_factory=list[str])


@kind(
    "campaign-recall",
    CampaignRecall,
    result=CampaignRecallResult,
    api="message.recall",
    goes_on=True,
)
async def run(job: CampaignRecall, ctx: Context) -> Json:
    """Recall one call after the other.

    A recall whose answer was lost is repeated: the second one changes nothing.

    Returns:
        A `CampaignRecallResult` as JSON values, with the chunks that this run took back; SQL has them all.

    Raises:
        Wait: some of the chunks may still be called, or DingTalk still delivers one that was repeated.
    """
    # Asked before the calls are read: a chunk that ends between them is among these.
    under_way = await ctx.campaigns.under_way(job.campaign, job.numbers)
    result = CampaignRecallResult()
    delivering = 0
    for call in await ctx.campaigns.recallable(job.campaign, job.numbers):
        try:
            outcome = await ctx.once(f"recall:{call.number}", partial(_recall, ctx, call))
        except Wait:
            delivering += 1
            continue
        keepers: list[str] = outcome.get("kept", [])  # 0.2.0 remembers none
        if outcome["recalled"]:
            await ctx.campaigns.note_recall(job.campaign, call.number, keepers)
        (result.recalled if outcome["recalled"] else result.refused).append(call.number)
        result.kept.extend(keepers)
    if waits := len(under_way) + delivering:
        raise Wait(UNDER_WAY_PAUSE, en("{} calls are under way", waits))
    return result.model_dump()


async def _recall(ctx: Context, call: CampaignCall) -> Json:
    keepers: list[str] = []
    if call.ambiguous:
        try:
            report = await ctx.messages.delivery(call.task_id)
        except CallForgotten:
            return {"recalled": False, "kept": keepers}
        if not report.finished:
            raise Wait(UNDER_WAY_PAUSE, "DingTalk still delivers")
        keepers = report.had_it
    return {"recalled": await ctx.messages.withdraw_message(call.task_id), "kept": keepers}
