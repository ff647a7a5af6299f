"""Lets time pass for what waits for minutes and hours: it is due now.

Only the moments that a job waits for are moved, in its row and on the schedule. What the job does then
is its own.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from redis import Redis

from dingrelay_producers.store import keys

if TYPE_CHECKING:
    from dingrelay_chaos.system import System

FOLLOW, MISSED = "approval-follow", "missed-events"
WAITING = (b"snoozed", b"queued")


def resting(redis: Redis) -> set[str]:
    """The jobs that nothing is to be waited for.

    They are on the slow schedule of approvals.
    """
    return set(_waiting(redis, FOLLOW))


def kind_of(redis: Redis, job: str) -> str:
    """The kind of a job; empty if there is none."""
    return (cast("bytes | None", redis.hget(keys.job(job), "kind")) or b"").decode()


def _waiting(redis: Redis, kind: str) -> list[str]:
    """The jobs of a kind that wait for a time."""
    found: list[str] = []
    for raw in cast("list[bytes]", redis.zrange(keys.SCHEDULE, 0, -1)):
        job = raw.decode()
        of, state = redis.hmget(keys.job(job), ["kind", "state"])
        if of == kind.encode() and state in WAITING:
            found.append(job)
    return found


def _wake(redis: Redis, kind: str) -> None:
    now, _ = redis.time()
    for job in _waiting(redis, kind):
        with redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.job(job), mapping={"due": now * 1000, "woken": 0})
            # One that has just left the schedule by itself is not put back.
            pipe.zadd(keys.SCHEDULE, {job: now * 1000}, xx=True)
            pipe.execute()


def pass_for_missed_events(system: "System") -> None:
    """DingTalk's list of events that could not be pushed is read again now."""
    with system.valkey.connect() as redis:
        _wake(redis, MISSED)


def pass_for_approvals(system: "System") -> datetime:
    """Every approval that is followed and runs is looked at now.

    Returns:
        The moment up to which time has passed: once no approval waits for an earlier one, all have
        been looked at.
    """
    moment = datetime.now(UTC) - timedelta(seconds=1)
    system.database.write(
        "update approvals set look_at = ? where look_at is not null",
        moment.strftime("%Y-%m-%d %H:%M:%S.%f"),
    )
    with system.valkey.connect() as redis:
        _wake(redis, FOLLOW)
    return moment


def waits_for_a_look(system: "System", moment: datetime) -> bool:
    """Whether an approval has not been looked at since time passed."""
    rows = system.database.rows("select look_at from approvals where look_at is not null")
    return any(_moment(row["look_at"]) <= moment for row in rows)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
