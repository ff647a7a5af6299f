"""Publishes the names of the apps, robots and groups that a worker serves, so that doors refuse others."""

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.served_names import app_name
from dingrelay_tasks.robot_names import ROBOTS


def names_of_settings(settings: Settings) -> list[str]:
    """The names that these settings serve, such as ``app:hr``, ``robot:ops`` and ``group:oncall``."""
    apps = {*settings.apps} - {ROBOTS}
    robots = {
        *settings.robots,
        *(name for group in settings.groups.values() for name in group.robots),
    }
    return [
        *map(app_name, sorted(apps)),
        *(f"robot:{name}" for name in sorted(robots)),
        *(f"group:{name}" for name in sorted(settings.groups)),
    ]


async def publish(redis: Redis, names: list[str]) -> None:
    """Publish these names, and delete those that no worker has published for `keys.SERVED_TTL_MS`."""
    if not names:
        return
    seconds, microseconds = await redis.time()
    now = seconds * 1000 + microseconds // 1000
    pipe = redis.pipeline(transaction=True)
    pipe.hset(keys.SERVED, mapping=dict.fromkeys(names, now))
    pipe.pexpire(keys.SERVED, keys.SERVED_TTL_MS)
    pipe.hgetall(keys.SERVED)
    published: dict[bytes, bytes] = (await pipe.execute())[-1]
    outdated = [name for name, at in published.items() if now - int(at) > keys.SERVED_TTL_MS]
    if outdated:
        await redis.hdel(keys.SERVED, *outdated)
