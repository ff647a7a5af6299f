"""Claims of jobs on approval instances.

DingTalk knows no idempotency key for approvals (API §4.1), and two jobs may ask for equal ones.
So each instance belongs to one job for good, and each job has one.

A mark is of use as long as another job may look the instance up. That job's call was open when the
instance was made, and it looks again, at the latest, when a person requeues it on the last day of
its record. Each look renews the marks that it meets, so a mark lives as long as a record can.
"""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_workers.store.transitions import APPROVAL_CLAIMS


@script("dingrelay_workers.store", APPROVAL_CLAIMS)
def _claim_approval(
    *,
    approval_owner: Key,
    approval_sought: Key,
    job_approval: Key,
    instance: str,
    job: str,
    since: str,
    owner_ttl: int,
    job_ttl: int,
    settles_in: int | None,
) -> None:
    """`since` then (ms) the job's call may have had its effect. The marks live for so long (ms)."""


class ApprovalClaims:
    """The instances of approvals, from the side of one job."""

    def __init__(self, redis: Redis, settings: Settings, *, job_id: str) -> None:
        self._redis = redis
        self._job_id = job_id
        self._own = keys.job_approval(job_id)
        self._ttl = record.longest_life_ms(settings)
        self._settles_in = max(1, int(settings.settle_delay * 1000))

    async def own(self) -> str | None:
        """The instance that this job has."""
        instance = await self._redis.get(self._own)
        return instance.decode() if isinstance(instance, bytes) else instance

    async def free(self, instances: Sequence[str]) -> list[str]:
        """The instances that no other job has; the marks of the others are renewed."""
        pipe = self._redis.pipeline(transaction=False)
        for instance in instances:
            pipe.getex(keys.approval_owner(instance), px=self._ttl)
        held: list[bytes | None] = await pipe.execute() if instances else []
        return [
            instance
            for instance, mark in zip(instances, held, strict=True)
            if mark is None or mark.decode().partition(" ")[2] == self._job_id
        ]

    async def unsettled(self, instances: Sequence[str]) -> timedelta:
        """For how long an instance may still appear that is left to others, since its job took one of these."""
        pipe = self._redis.pipeline(transaction=False)
        for instance in instances:
            pipe.pttl(keys.approval_sought(instance))
        remaining: list[int] = await pipe.execute() if instances else []
        return timedelta(milliseconds=max([0, *remaining]))

    async def claim(self, instance: str, *, since: int, sought: bool = False) -> int | None:
        """Claim an instance that no job has; None if it is this job's now.

        Args:
            instance: its id.
            since: when the call of this job left that may have made it, in ms.
            sought: whether the job looked for it, as no answer named it: what it takes may be another call's, and what
                its own call made may still appear.

        Returns:
            Since when the job that has it looked for its own, in ms. What that job's call made is
            left for this one to find.
        """
        call = _claim_approval(
            approval_owner=keys.approval_owner(instance),
            approval_sought=keys.approval_sought(instance),
            job_approval=self._own,
            instance=instance,
            job=self._job_id,
            since=str(since),
            owner_ttl=self._ttl,
            job_ttl=keys.JOB_MARGIN_MS,
            settles_in=self._settles_in if sought else None,
        )
        taken_since: bytes = await run_async(self._redis, call)
        return int(taken_since) if taken_since else None
