"""The jobs of chunks in Redis: enqueued, looked at, withdrawn, forgotten.

What only the pump may do names its lease, and is refused once that is another worker's.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dingrelay_producers import keys, record
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.record import Draft
from dingrelay_producers.scripts import Script, run_async
from dingrelay_producers.states import State
from dingrelay_tasks.campaign_chunk import CampaignChunk, CampaignChunkResult
from dingrelay_workers.campaigns.chunks import CANCELLED, Campaign, Chunk, Ending
from dingrelay_workers.campaigns.models import OutcomeKind
from dingrelay_workers.records import Records

_LOOK = Script.load("dingrelay_workers", "look")
_FORGET = Script.load("dingrelay_workers", "forget")

STOPPING = {
    "quota": "the organisation's calls are used up",
    "credentials": "DingTalk refuses the app's credentials",
    "settings": "the app is not configured",
}
"""Classes of errors that every chunk would meet: the campaign is paused, and loses nobody."""

AT_ONCE = 500
"""Records of one script call, so that no call holds up the server for long."""


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk's job that has ended, or has no record.

    Attributes:
        state: where it ended; None without a record.
        touched: a call of it left, or was answered.
    """

    number: int
    state: State | None
    result: Mapping[str, Any]
    error: Mapping[str, Any]
    touched: bool

    @property
    def stops(self) -> bool:
        """Whether every chunk would meet its error, and it made no call."""
        return self.error.get("class") in STOPPING and not self.touched

    def last(self) -> Ending:
        """How the chunk ended if its campaign was cancelled."""
        if self.state == State.CANCELLED and self.touched:
            error = unknown("cancelled after a call whose answer was lost")
            return Ending(self.number, error=error)
        if self.state is None:
            return Ending(self.number, error=unknown("its job was lost"))
        if self.state == State.CANCELLED or self.stops:
            return Ending(self.number, error=CANCELLED)
        return self.ending()

    def ending(self) -> Ending:
        """How the chunk of a job that ended for good ended."""
        if self.state == State.DONE:
            return _carried_out(self.number, CampaignChunkResult.model_validate(self.result))
        if self.state == State.DEAD and self.touched:
            return Ending(self.number, error=unknown(str(self.error.get("message", ""))))
        return Ending(self.number, error=self.error)


def unknown(message: str) -> dict[str, str]:
    """The error of a chunk whose call may have been carried out."""
    return {
        "class": "unknown",
        "code": "unknown",
        "message": message,
        "hint": "Look in DingTalk whether these people have the message.",
    }


def _carried_out(number: int, result: CampaignChunkResult) -> Ending:
    left_out = {OutcomeKind.DUPLICATE: result.duplicate, OutcomeKind.DAILY_CAP: result.daily_cap}
    call = result.call
    return Ending(
        number,
        task_id=call.task_id if call else None,
        called_at=datetime.fromisoformat(result.called_at) if result.called_at else None,
        accepted=call.recipients if call else 0,
        ambiguous=result.ambiguous,
        left_out=left_out,
    )


class ChunkQueue:
    """The jobs of chunks. `holder` is the value of the lease under which it acts."""

    def __init__(self, records: Records, publisher: Publisher) -> None:
        self._records = records
        self._redis = records.redis
        self._publisher = publisher
        self.holder = ""

    async def enqueue(self, campaign: Campaign, chunks: Sequence[Chunk]) -> None:
        """Make the jobs, unless they are there, and wake them."""
        drafts = [_draft(campaign, chunk) for chunk in chunks]
        wakeups = await self._records.enqueue(drafts, fence=(keys.PUMP, self.holder))
        # The record is the truth: the message need not carry a hundred people a second time.
        slim = {"app": campaign.app, "lane": "bulk"}
        light = [replace(wakeup, job=slim) for wakeup in wakeups]
        if light:
            await asyncio.to_thread(self._publisher.publish, light)

    async def look(self, campaign: Campaign, numbers: Collection[int]) -> list[Found]:
        """Which of the chunks' jobs have ended or have no record."""
        ordered = list(numbers)
        found: list[Found] = []
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            call = _LOOK.call([keys.job(job_id(campaign, number)) for number in some])
            for index, state, result, error, touched in await run_async(self._redis, call):
                found.append(
                    Found(
                        some[index - 1],
                        State(state.decode()) if state else None,
                        json.loads(result or b"{}"),
                        json.loads(error or b"{}"),
                        bool(touched),
                    )
                )
        return found

    async def withdraw(self, campaign: Campaign, numbers: Collection[int]) -> None:
        """Cancel the jobs that do not run; those that do end before their next call."""
        ttl = keys.JOB_MARGIN_MS
        calls = [record.cancel(job_id(campaign, number), record_ttl_ms=ttl) for number in numbers]
        await asyncio.gather(*(run_async(self._redis, call) for call in calls))

    async def revive(self, campaign: Campaign, numbers: Collection[int]) -> None:
        """Have jobs that were withdrawn after a call carried on, with what they remember."""
        calls = [record.requeue(job_id(campaign, number)) for number in numbers]
        await asyncio.gather(*(run_async(self._redis, call) for call in calls))

    async def forget(self, campaign: Campaign, numbers: Collection[int]) -> None:
        """Delete the records of chunks that SQL knows to be settled, or pending."""
        ids = [job_id(campaign, number) for number in numbers]
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            records = [keys.job(each) for each in some]
            call = _FORGET.call(
                [keys.PUMP, keys.SCHEDULE, keys.RECENT, keys.DEAD, *records], [self.holder, *some]
            )
            await run_async(self._redis, call)


def job_id(campaign: Campaign, number: int) -> str:
    """The id of a chunk's job: the same each time."""
    return chunk_job(campaign.app, campaign.id, number)


def chunk_job(app: str, campaign: str, number: int) -> str:
    """The id of a chunk's job, by the campaign's id."""
    return record.keyed_id(app, CampaignChunk.kind, f"{campaign}/{number}")


def _draft(campaign: Campaign, chunk: Chunk) -> Draft:
    job = {
        "app": campaign.app,
        "lane": "bulk",
        "campaign": campaign.id,
        "number": chunk.number,
        "users": chunk.users,
        "message": chunk.message or campaign.message,
        "uniform": chunk.message is None,
        "repeated": chunk.repeated,
    }
    return Draft(
        id=job_id(campaign, chunk.number),
        kind=CampaignChunk.kind,
        app=campaign.app,
        lane="bulk",
        queue="dingrelay.bulk",
        job=job,
        summary=f"{CampaignChunk.kind} app={campaign.app} lane=bulk "
        f"{campaign.id}/{chunk.number} to {len(chunk.users)} users",
    )
