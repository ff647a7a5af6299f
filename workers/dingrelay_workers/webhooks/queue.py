"""The jobs of deliveries in Redis: enqueued, looked at, forgotten.

What only the leader may do names its lease, and is refused once that is another worker's.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft, Wakeup, transition
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_tasks.webhook_deliver import WebhookDeliver
from dingrelay_workers.store.records import Records

_FORGET = transition("dingrelay_workers.webhooks", "forget_deliveries")

POISON = "poison"
"""Class of the error of a job that took down its workers."""
AT_ONCE = 500
"""Records of one script call, so that no call holds up the server for long."""


def job_id(endpoint: str, notice: str, round_: int, app: str) -> str:
    """The id of a delivery's job, always the same: of an endpoint, a notice and a replay."""
    return record.keyed_id(app, WebhookDeliver.kind, f"{endpoint}/{notice}/{round_}")


def draft(job: WebhookDeliver, id_: str) -> Draft:
    """The job of a delivery."""
    return record.draft(job)._replace(id=id_)


class DeliveryQueue:
    """The jobs of deliveries, from the side of one leader.

    Attributes:
        holder: the value of its lease.
    """

    def __init__(self, records: Records, publisher: Publisher) -> None:
        self._records = records
        self._publisher = publisher
        self.holder = ""

    async def enqueue(self, drafts: Sequence[Draft]) -> None:
        """Make jobs, and wake them. Those that are there already stay as they are."""
        for start in range(0, len(drafts), AT_ONCE):
            some = drafts[start : start + AT_ONCE]
            fence = (keys.WEBHOOK_LEADER, self.holder)
            await self.publish(await self._records.enqueue(some, fence=fence))

    async def publish(self, wakeups: Sequence[Wakeup]) -> None:
        """Publish wake-ups."""
        if wakeups:
            await asyncio.to_thread(self._publisher.publish, wakeups)

    async def states(self, jobs: Sequence[str]) -> Mapping[str, str | None]:
        """The states of jobs; None where there is no record."""
        found: dict[str, str | None] = {}
        for start in range(0, len(jobs), AT_ONCE):
            some = jobs[start : start + AT_ONCE]
            found |= dict(zip(some, await self._records.states(some), strict=True))
        return found

    async def revive(self, jobs: Collection[str]) -> list[str]:
        """Requeue those of these dead jobs that took down their workers; the others.

        A notice is data, and no cause for a worker to fall: those that fell had other reasons. It is
        to be told all the same.
        """
        left: list[str] = []
        for job in jobs:
            error: Any = await self._records.redis.hget(keys.job(job), "error")
            if error is not None and json.loads(error).get("class") == POISON:
                await run_async(self._records.redis, record.requeue(job))
            else:
                left.append(job)
        return left

    async def forget(self, jobs: Sequence[str]) -> None:
        """Delete the records of deliveries that have ended and that SQL no longer knows.

        Those that are dead stay, for people to look at.
        """
        for start in range(0, len(jobs), AT_ONCE):
            some = jobs[start : start + AT_ONCE]
            records: list[Any] = [keys.job(job) for job in some]
            call = _FORGET.call(
                [keys.WEBHOOK_LEADER, keys.RECENT, *records],
                [self.holder, State.DEAD, *some],
            )
            await run_async(self._records.redis, call)
