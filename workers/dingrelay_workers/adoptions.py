"""Which approval instance belongs to which job.

DingTalk knows no idempotency key for approvals (API §4.1), and two jobs may ask for equal ones.
So each instance belongs to one job for good, and each job has one.
"""

from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_producers.scripts import Script, run_async

_ADOPT = Script.load("dingrelay_workers", "adopt")


class Adoptions:
    """The instances of one app, from the side of one job."""

    def __init__(self, redis: Redis, *, app: str, job_id: str) -> None:
        self._redis = redis
        self._key = keys.adopted(app)
        self._job_id = job_id

    async def own(self) -> str | None:
        """The instance that this job has."""
        instance = await self._redis.hget(self._key, f"job:{self._job_id}")
        return instance.decode() if isinstance(instance, bytes) else instance

    async def adopt(self, instance: str, *, since: int) -> int | None:
        """Take an instance that nobody has; None if it is this job's now.

        Args:
            instance: its id.
            since: when the call of this job left that may have made it, in ms.

        Returns:
            Since when the job that has it looked for its own, in ms. What that job's call made is
            left for this one to find.
        """
        call = _ADOPT.call([self._key], [instance, self._job_id, since, keys.ADOPTED_TTL_MS])
        taken_since: bytes = await run_async(self._redis, call)
        return int(taken_since) if taken_since else None
