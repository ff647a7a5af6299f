"""One tick of one campaign: its findings, and its writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from structlog.stdlib import get_logger

from dingrelay_producers.store.states import State as JobState
from dingrelay_tasks import beijing
from dingrelay_workers.campaigns.chunks import Campaign, Ending, Release
from dingrelay_workers.campaigns.queue import STOPPING, Found

log = get_logger("dingrelay.campaigns")


@dataclass(slots=True)
class CampaignTick:
    """One campaign in one tick of the dispatcher.

    Attributes:
        queued: its chunks that have a job → when it was made.
        goes: whether it may send now.
        endings: chunks that ended for good.
        back: chunks whose jobs certainly made no call.
        lost: chunks whose jobs are gone.
        revived: jobs that were withdrawn after a call, or stopped: they are carried on with the campaign.
        stop: why it must be paused.
        free: chunks that may be released.
        clock_stepped: the moment from which its rate is counted has not come yet.
    """

    campaign: Campaign
    queued: Mapping[Release, datetime]
    goes: bool
    endings: list[Ending] = field(default_factory=list[Ending])
    back: list[Release] = field(default_factory=list[Release])
    lost: list[Release] = field(default_factory=list[Release])
    revived: list[Release] = field(default_factory=list[Release])
    stop: str = ""
    free: int = 0
    clock_stepped: bool = False

    @property
    def under_way(self) -> int:
        """Chunks that have a job which has not ended."""
        return len(self.queued) - len(self.endings) - len(self.back)

    @property
    def over(self) -> list[Release]:
        """The releases whose records are of no use once SQL knows."""
        return [*(ending.release for ending in self.endings), *self.back]

    @property
    def changes(self) -> bool:
        """Whether SQL has to be written or read."""
        done = self.campaign.settled >= self.campaign.chunks and self.goes
        found = self.over or self.lost or self.revived
        return bool(found or self.stop or self.free or self.clock_stepped or done)

    def sort(self, found: Found, now: datetime) -> None:
        """Sort one chunk's job in by what became of it, at Redis's present time."""
        release = found.release
        match found.state:
            case None if beijing.day(self.queued[release]) != beijing.day(now):
                self.endings.append(found.lost())
            case None:
                if self.goes:
                    self.lost.append(release)
            case JobState.CANCELLED if found.touched:
                if self.goes:
                    self.revived.append(release)
            case JobState.CANCELLED:
                self.back.append(release)
            case JobState.DEAD if found.too_large:
                # The limit was lowered since it was released: it is split before the next time.
                self.back.append(release)
                log.warning("chunk_too_large", campaign=self.campaign.id, number=release.number)
            case JobState.DEAD if found.stops:
                # One that repeats a lost call waits for the campaign to go on, like one that was withdrawn.
                (self.revived if found.touched else self.back).append(release)
                self.stop = f"{STOPPING[found.error['class']]}: {found.error.get('message', '')}"
            case _:
                self.endings.append(found.ending())
