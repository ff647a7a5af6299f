"""The workers that are there, with their lanes, versions and latest signs."""

import json
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers import minutes
from dingrelay_workers.backlog.documents import ServedLane, WorkerList, WorkerStatus
from dingrelay_workers.limiter.fleet_rules import published

PREFIX = "dingrelay."


async def read(redis: Redis) -> WorkerList:
    """Read the list of workers.

    Raises:
        RedisError: Redis cannot be reached.
    """
    workers = await published(redis)
    alive: list[Any] = await redis.mget(list(map(keys.alive, QUEUES)))
    ran = await minutes.read(redis, list(map(minutes.worker, workers)))
    return WorkerList(
        workers=[
            _worker(name, text).model_copy(update={"minutes": ran[minutes.worker(name)]})
            for name, text in workers.items()
        ],
        lanes=[
            ServedLane(name=queue.removeprefix(PREFIX), served=sign is not None)
            for queue, sign in zip(QUEUES, alive, strict=True)
        ],
    )


def _worker(name: str, text: bytes) -> WorkerStatus:
    """A worker of what it has published; one of an earlier release says less."""
    try:
        document: Any = json.loads(text or "{}")
        return WorkerStatus.model_validate({"name": name, **_NOTHING, **document.get("worker", {})})
    except (ValueError, AttributeError):
        return WorkerStatus.model_validate({"name": name, **_NOTHING})


_NOTHING: dict[str, Any] = {
    "version": "",
    "lanes": [],
    "running": None,
    "started_at": None,
    "seen_at": None,
}
