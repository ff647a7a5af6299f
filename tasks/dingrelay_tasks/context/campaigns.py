"""The calls of campaigns as a body sees them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dingrelay_tasks.context.messages import DeliveryReport


@dataclass(frozen=True, slots=True)
class CampaignCall:
    """A call of a campaign that DingTalk took.

    Attributes:
        number: the chunk that it was for.
        at: when it was taken.
        ambiguous: it repeated one whose answer was lost.
        confirmed_at: when DingTalk last reported its delivery; None if it has not.
    """

    number: int
    task_id: int
    at: datetime
    ambiguous: bool
    confirmed_at: datetime | None = None


class Campaigns(Protocol):
    """What is known in SQL of the calls of campaigns."""

    async def wants(self, campaign: str, number: int, job: str) -> bool:
        """Whether the campaign runs and this job is that of the chunk's release, which is not over."""
        ...

    async def recallable(self, campaign: str, numbers: Sequence[int]) -> list[CampaignCall]:
        """Of these chunks, the calls of the last 24 hours that are not recalled yet.

        Raises:
            CampaignDeleted: the campaign is there no more.
        """
        ...

    async def under_way(self, campaign: str, numbers: Sequence[int]) -> Collection[int]:
        """Those of these chunks that may still be called."""
        ...

    async def note_recall(self, campaign: str, number: int, kept: Sequence[str]) -> None:
        """The chunk's message is taken back, but from the people of it who have it by a lost call."""
        ...

    async def confirmable(
        self, campaign: str, numbers: Sequence[int], *, since: datetime
    ) -> list[CampaignCall]:
        """Of these chunks, the calls of the last 24 hours without a delivery report since then.

        Raises:
            CampaignDeleted: the campaign is there no more.
        """
        ...

    async def note_delivery(
        self, campaign: str, call: CampaignCall, delivery: DeliveryReport
    ) -> None:
        """Store DingTalk's delivery report for the call: its counts, and people it did not reach.

        Replaces an earlier report, but not one that was stored since `call` was read.
        """
        ...
