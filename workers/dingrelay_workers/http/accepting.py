"""Accepts the jobs that follow from a verb of a noun in SQL, for the actor who carried it out."""

from collections.abc import Sequence

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.sending import read_accepted
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.errors import IdempotencyConflict
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.flows import run_flow_async
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import LANES, Contract
from dingrelay_workers.http.records import GatewayRecords


async def accept_jobs(settings: Settings, jobs: Sequence[Contract]) -> list[JobStatus]:
    """Accept jobs of the present actor; how each stands, in order.

    One without a sender gets the actor's. One in a lane that the actor may not take goes in a slower one.

    Raises:
        IdempotencyConflict: the key of one belongs to another job.
        ServiceUnavailable: Redis is away.
    """
    sender = current_reach().default_sender or settings.sender
    drafts = [record.draft(_in_own_lane(job), sender=sender) for job in jobs]
    redis = open_redis(settings)
    records = GatewayRecords(settings, redis)
    try:
        answers = await records.enqueue(drafts)
        for draft, answer in zip(drafts, answers, strict=True):
            if answer.conflict:
                raise IdempotencyConflict(draft.id)
        return [
            await run_flow_async(read_accepted(draft, answer), records.run)
            for draft, answer in zip(drafts, answers, strict=True)
        ]
    finally:
        await records.aclose()
        await redis.aclose()


def _in_own_lane(job: Contract) -> Contract:
    lanes = LANES[LANES.index(job.lane) :]
    lane = next(filter(current_reach().permits_lane, lanes), job.lane)
    return job.model_copy(update={"lane": lane})
