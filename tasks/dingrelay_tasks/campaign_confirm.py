"""campaign-confirm: asks DingTalk what became of some calls of a campaign (API §2.2, §2.3)."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from dingrelay_tasks.campaign_recall import Numbers
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract, Json, Lane
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.message_result import CONFIRM_FIRST, CONFIRM_WITHIN
from dingrelay_tasks.outcomes import Wait

CALLS_PER_CHUNK = 2
"""One for the progress, one for the result."""


class CampaignConfirm(Contract):
    """The question what became of some chunks of a campaign.

    Attributes:
        campaign: whose chunks they are.
        numbers: which ones. Those without a call, or with one older than 24 hours, cost nothing.
        since: reports from before this moment are queried again.
    """

    lane: Lane = "bulk"
    campaign: Annotated[str, Field(min_length=1, max_length=64)]
    numbers: Numbers
    since: datetime

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.campaign} {len(self.numbers)} calls"


@kind("campaign-confirm", CampaignConfirm, api="message.result", goes_on=True)
async def run(job: CampaignConfirm, ctx: Context) -> Json:
    """Ask for one call after the other.

    What was reported is in SQL at once, so a rerun asks for the rest only.

    Returns:
        The chunks of which DingTalk reported it in this run (`confirmed`; SQL has them all), and those
        that it still delivered after ten minutes (`unfinished`).

    Raises:
        Wait: DingTalk has not finished some of the deliveries.
    """
    confirmed: list[int] = []
    unfinished: list[int] = []
    waits = False
    for call in await ctx.campaigns.confirmable(job.campaign, job.numbers, since=job.since):
        delivery = await ctx.messages.delivery(call.task_id)
        if delivery.finished:
            await ctx.campaigns.note_delivery(job.campaign, call, delivery)
            confirmed.append(call.number)
        else:
            unfinished.append(call.number)
            waits = waits or ctx.now() - call.at < CONFIRM_WITHIN
    if waits:
        raise Wait(CONFIRM_FIRST, "DingTalk still delivers")
    return {"confirmed": confirmed, "unfinished": unfinished}
