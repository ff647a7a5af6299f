"""The jobs of chunks in Redis: enqueued, looked at, withdrawn, forgotten.

What only the dispatcher may do names its lease, and is refused once that is another worker's.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.send_span import in_a_trace_of_its_own
from dingrelay_producers.store.states import State
from dingrelay_producers.store.transitions import RESERVATIONS
from dingrelay_tasks.campaign_chunk import TOO_LARGE, CampaignChunk, CampaignChunkResult
from dingrelay_tasks.contract import batched
from dingrelay_tasks.sentence import en, from_parts
from dingrelay_workers.campaigns.chunks import CANCELLED, Chunk, ChunkEnding, Release
from dingrelay_workers.campaigns.models import CampaignRow, OutcomeKind
from dingrelay_workers.store.records import Records


@script("dingrelay_workers.campaigns", RESERVATIONS)
def _forget_chunks(
    *,
    lease: Key,
    recent: Key,
    dead: Key,
    settled: Key,
    holder: str,
    settled_ttl: int,
    jobs: Sequence[str],
) -> None:
    """The dispatcher's lease has this holder; when this was last done is known for so long (ms)."""


_LOOKED_AT = ("state", "result", "error", "intent", "step:call")
"""Fields of a job's record; with one of the last two a call of it left, or was answered."""

STOPPING = {
    "quota": en("the organisation's calls are used up"),
    "settings": en("the app is not configured"),
    "outage": en("DingTalk has been out of order, or the app been held, for too long"),
}
"""Classes of errors that every chunk would meet: they pause the campaign, which loses no chunk."""

AT_ONCE = 500
"""Records of one round trip, so that no call holds up the server for long."""


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk's job that has ended, or has no record.

    Attributes:
        state: where it ended; None without a record.
        touched: a call of it left, or was answered; or may have, of an earlier job that was lost.
    """

    release: Release
    state: State | None
    result: Mapping[str, Any]
    error: Mapping[str, Any]
    touched: bool

    @property
    def stops(self) -> bool:
        """Whether every chunk would meet its error."""
        return self.error.get("class") in STOPPING

    @property
    def too_large(self) -> bool:
        """Whether it has more people than a call may have, and made no call."""
        return self.error.get("code") == TOO_LARGE and not self.touched

    def last(self) -> ChunkEnding:
        """How the chunk ended if its campaign was cancelled."""
        if self.state == State.CANCELLED and self.touched:
            error = unknown(en("cancelled after a call whose answer was lost"))
            return ChunkEnding(self.release, error=error)
        if self.state is None:
            return self.lost()
        if self.state == State.CANCELLED or self.too_large or (self.stops and not self.touched):
            return ChunkEnding(self.release, error=CANCELLED)
        return self.ending()

    def lost(self) -> ChunkEnding:
        """How the chunk ended if its call, perhaps made, can't be repeated any more."""
        return ChunkEnding(self.release, error=unknown(en("its job was lost")), lost=True)

    def ending(self) -> ChunkEnding:
        """How the chunk of a job that ended for good ended."""
        if self.state == State.DONE:
            try:
                result = CampaignChunkResult.model_validate(self.result)
            except ValidationError:
                return ChunkEnding(self.release, error=unknown(en("its result can't be read")))
            return _ending(self.release, result)
        if self.state == State.DEAD and self.touched:
            return ChunkEnding(self.release, error=unknown(str(self.error.get("message", ""))))
        return ChunkEnding(self.release, error=self.error)


def unknown(message: str) -> dict[str, str]:
    """The error of a chunk whose call may have been carried out."""
    return {
        "class": "unknown",
        "code": "unknown",
        "message": message,
        "hint": en("Look in DingTalk whether these people have the message."),
    }


def _ending(release: Release, result: CampaignChunkResult) -> ChunkEnding:
    left_out = {
        OutcomeKind.DUPLICATE: result.duplicate,
        OutcomeKind.DAILY_CAP: result.daily_cap,
        OutcomeKind.UNKNOWN_USER: result.unknown_user,
        OutcomeKind.OUT_OF_SCOPE: result.out_of_scope,
    }
    call = result.call
    return ChunkEnding(
        release,
        task_id=call.task_id if call else None,
        called_at=datetime.fromisoformat(result.called_at) if result.called_at else None,
        accepted=call.recipients if call else 0,
        ambiguous=result.ambiguous,
        left_out=left_out,
        unverified=result.unverified,
    )


class ChunkQueue:
    """The jobs of chunks. `holder` is the value of the lease under which it acts."""

    def __init__(self, records: Records, publisher: Publisher) -> None:
        self._records = records
        self._redis = records.redis
        self._publisher = publisher
        self.holder = ""

    async def enqueue(self, campaign: CampaignRow, chunks: Sequence[Chunk]) -> None:
        """Make the jobs, unless they are there, and wake them."""
        drafts = [
            in_a_trace_of_its_own(_draft(campaign, chunk), campaign.trace) for chunk in chunks
        ]
        wakeups = await self._records.enqueue(drafts, fence=(keys.DISPATCHER, self.holder))
        await self._records.publish(self._publisher, wakeups)

    async def look(self, campaign: CampaignRow, releases: Collection[Release]) -> list[Found]:
        """The releases whose jobs have ended or have no record."""
        looks: list[Found] = []
        for batch in batched(list(releases), AT_ONCE):
            places = [keys.job(job_id(campaign, release)) for release in batch]
            pipe = self._redis.pipeline(transaction=False)
            for place in places:
                pipe.hmget(place, *_LOOKED_AT)
            ended: list[tuple[Release, str, State | None, Sequence[Any]]] = []
            for release, place, fields in zip(batch, places, await pipe.execute(), strict=True):
                state = State(fields[0].decode()) if fields[0] else None
                if state is None or state.ended:
                    ended.append((release, place, state, fields))
            # An earlier job may have made the call of one that repeats it.
            doubtful = [
                place
                for _, place, state, fields in ended
                if state in {State.CANCELLED, State.DEAD} and not any(fields[3:])
            ]
            for place in doubtful:
                pipe.hget(place, "payload")
            # To decode them would take ten times as long. No text in them can hold quotes like these.
            repeats = {
                place
                for place, payload in zip(doubtful, await pipe.execute(), strict=True)
                if b'"repeated":true' in (payload or b"")
            }
            for release, place, state, fields in ended:
                touched = any(fields[3:]) or place in repeats
                error = from_parts(json.loads(fields[2] or b"{}"))
                result = json.loads(fields[1] or b"{}")
                looks.append(Found(release, state, result, error, touched))
        return looks

    async def withdraw(self, campaign: CampaignRow, releases: Collection[Release]) -> None:
        """Cancel the jobs that do not run; those that do end before their next call."""
        ttl = keys.JOB_MARGIN_MS
        calls = [
            record.withdraw(job_id(campaign, release), record_ttl_ms=ttl) for release in releases
        ]
        await asyncio.gather(*(run_async(self._redis, call) for call in calls))

    async def revive(self, campaign: CampaignRow, releases: Collection[Release]) -> None:
        """Have jobs that were withdrawn after a call carried on, with what they remember."""
        calls = [record.requeue(job_id(campaign, release)) for release in releases]
        await asyncio.gather(*(run_async(self._redis, call) for call in calls))

    async def forget(self, campaign: CampaignRow, releases: Collection[Release]) -> None:
        """Delete the records of chunks that SQL knows to be settled, or pending."""
        ids = [job_id(campaign, release) for release in releases]
        for batch in batched(ids, AT_ONCE):
            call = _forget_chunks(
                lease=keys.DISPATCHER,
                recent=keys.RECENT,
                dead=keys.DEAD,
                settled=keys.CAMPAIGNS_SETTLED,
                holder=self.holder,
                settled_ttl=keys.ENDINGS_TTL_MS,
                jobs=batch,
            )
            await run_async(self._redis, call)


def job_id(campaign: CampaignRow, release: Release) -> str:
    """The id of a release's job: the same each time, and no other release's."""
    return chunk_job(campaign.app, campaign.id, release)


def chunk_job(app: str, campaign: str, release: Release) -> str:
    """The id of a release's job, by the campaign's id."""
    key = f"{campaign}/{release.number}"
    if release.generation:  # the jobs of a version that knew no generations run on
        key = f"{key}/{release.generation}"
    return record.keyed_id(app, CampaignChunk.kind, key)


def _draft(campaign: CampaignRow, chunk: Chunk) -> Draft:
    job = {
        "app": campaign.app,
        "lane": "bulk",
        "sender": campaign.sender,
        "campaign": campaign.id,
        "number": chunk.release.number,
        "users": chunk.users,
        "message": chunk.message or campaign.message,
        "uniform": chunk.message is None,
        "repeated": chunk.repeated,
        "released": chunk.released.isoformat(),
    }
    return Draft(
        id=job_id(campaign, chunk.release),
        kind=CampaignChunk.kind,
        app=campaign.app,
        lane="bulk",
        queue="dingrelay.bulk",
        job=job,
        summary=f"{CampaignChunk.kind} app={campaign.app} lane=bulk "
        f"{campaign.id}/{chunk.release.number} users={len(chunk.users)}",
    )
