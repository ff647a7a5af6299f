"""When a campaign pauses itself: too many of its latest people failed.

The latest, since a million that went well must not hide that nothing does any more; and a campaign
that is resumed is not held responsible for what failed before.
"""

from typing import NamedTuple

from dingrelay_workers.campaigns.chunks import Campaign, Counts

REMEMBERED = 100
"""Calls whose people are the latest; those before them fade."""
ENOUGH = 5
"""Finished calls needed before their share of failures counts."""
FAILED = 3
"""Calls that failed, before that is taken for more than bad luck."""


class Latest(NamedTuple):
    """The latest people whose outcome is known.

    Attributes:
        people: how many they are.
        failed: how many of them failed.
    """

    people: float
    failed: float

    def after(self, counts: Counts, campaign: Campaign) -> "Latest":
        """With what has just ended."""
        failed = self.failed + counts.failed - counts.lost
        people = self.people + counts.accepted + counts.left_out + counts.failed - counts.lost
        fade = min(1.0, REMEMBERED * campaign.chunk_size / max(1.0, people))
        return Latest(people * fade, failed * fade)

    def too_many(self, campaign: Campaign) -> bool:
        """Whether so many of them failed that the campaign had better stop."""
        enough = min(ENOUGH, campaign.chunks) * campaign.chunk_size
        some = min(FAILED, campaign.chunks) * campaign.chunk_size
        share = self.failed / max(1.0, self.people)
        return (
            self.people >= min(enough, campaign.recipients)
            and self.failed >= min(some, campaign.recipients)
            and share >= campaign.error_share
        )

    def __str__(self) -> str:
        return f"{self.failed:.0f} of the latest {self.people:.0f} people failed"
