"""After the faults: wait until nothing is under way, and bring the directory up to date."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

from kombu.exceptions import KombuError
from redis import Redis
from redis.exceptions import RedisError

from dingrelay_chaos import evidence
from dingrelay_chaos.database import Directory
from dingrelay_chaos.dingtalk import MOVING, STAYING
from dingrelay_chaos.evidence import Settled
from dingrelay_chaos.faults import Fault
from dingrelay_chaos.process import wait_until
from dingrelay_chaos.schedule import Schedule
from dingrelay_chaos.system import System
from dingrelay_producers import JobRef
from dingrelay_producers.errors import DingrelayError
from dingrelay_producers.store import keys
from dingrelay_tasks import UserSync

SETTLE_SECONDS = 180
"""Within which everything has come to an end. After an outage three hundred jobs leave at five a
second, on a machine that has more to do."""
SYNC_SECONDS = 60
LOOK_SECONDS = 90
"""An approval that can't be found is looked for again a minute later before it counts as deleted."""
PATIENT_SECONDS = 30
"""A shorter run does not wait a minute until a stream that was refused or is half dead is opened again:
its listener is restarted. So it is where a stream may be deaf: its pings come, so no client can notice, and
DingTalk sends each event 80 times before it lists it as failed, which takes longer than `SETTLE_SECONDS`."""
RESUME_SECONDS = 30
"""Between two times that an operator resumes endpoints that are being left alone."""
QUEUES = ("urgent", "normal", "events", "bulk", "directory", "webhooks")
FOLLOW, MISSED = "approval-follow", "missed-events"
"""Kinds of jobs that wait for hours."""
WAITING = (b"snoozed", b"queued")


def settle(system: System, schedule: Schedule) -> Settled:
    """How it came to rest, once everything is settled or the time for it is over."""
    system.mend()
    deaf = any(
        isinstance(step.what, Fault) and step.what.values.get("how") == "deaf"
        for step in schedule.steps
    )
    if schedule.seconds < PATIENT_SECONDS or deaf:
        system.listener.kill()
        system.listener.start()
    began = time.monotonic()
    last: list[str] = []
    _rest(system, last, SETTLE_SECONDS)
    _look_at_approvals(system)
    _rest(system, last, SETTLE_SECONDS)
    waited = time.monotonic() - began
    present = {user for user in (*STAYING, *MOVING) if not system.requests.was_absent(user)}
    left = sorted(system.marked_as_left & present)
    by_events = Directory(system.database)
    walks = _walks(system, last)
    return Settled(waited, last[0] if last else "", left, by_events, walks)


def _rest(system: System, last: list[str], seconds: float) -> None:
    """Return once everything has come to rest, or so many seconds are over."""
    resumed = float("-inf")

    def tend() -> None:
        """Act as an operator after a bad hour: serve all lanes, resume endpoints and paused campaigns."""
        nonlocal resumed
        system.supervise()
        # A worker that is just connecting misses a command.
        for lane in system.cancelled_lanes:
            with suppress(RedisError, OSError, KombuError):
                system.command_queue("add_consumer", lane)
        for row in system.database.rows("select id from campaigns where state = 'paused'"):
            with suppress(DingrelayError):
                system.client.campaign_ref(row["id"]).resume()
        if time.monotonic() > resumed + RESUME_SECONDS:
            resumed = time.monotonic()
            with suppress(DingrelayError):
                system.subscribers.resume_all()

    tend()
    wait_until(lambda: _settled(system, last), seconds, tick=tend)


def _settled(system: System, last: list[str]) -> bool:
    """Whether nothing is under way; what still was goes into `last`."""
    try:
        found = next(filter(None, (look(system) for look in _LOOKS)), "")
    except (RedisError, DingrelayError, OSError, sqlite3.OperationalError) as error:
        found = repr(error)
    if found and found not in last:
        last[:] = [found]
        with (system.folder / "settling.log").open("a") as out:
            out.write(f"{system.now():.1f} {found}\n")
    return not found


def _open_jobs(system: System) -> str:
    for status in evidence.statuses(system.client, system.requests.accepted()).values():
        if status and not status.state.ended:
            return f"{status.kind} {status.id} {status.state} {status.error or ''}"
    return ""


def _undelivered_events(system: System) -> str:
    events = system.sandbox.events_summary()
    if events["waiting"]:
        return f"{events['waiting']} events are on their way"
    # DingTalk has given up pushing: what it keeps is there to be read.
    with system.valkey.connect() as redis:
        _wake(redis, MISSED)
    return ""


def _queued(system: System) -> str:
    with system.valkey.connect() as redis:
        # Messages of bare clients whose worker was killed go back to their queue after a while.
        taken: int = sum(_size(redis, place) for place in _members(redis, keys.TAKEN))
        places = [keys.SCHEDULE, keys.RUNNING, *redis.scan_iter("dingrelay:woken:*")]
        jobs = {job for place in places for job in _members(redis, place)}
        # Those on the slow schedule of approvals are not waited for.
        kinds = (redis.hget(keys.job(job), "kind") for job in jobs - {*_waiting(redis, FOLLOW)})
        waiting = sorted((cast("bytes | None", kind) or b"").decode() for kind in kinds)
        queued: int = sum(redis.llen(f"dingrelay.{lane}") for lane in QUEUES)
        if waiting or queued or taken:
            return f"{Counter(waiting)} wait, {queued} messages are in queues, {taken} are taken"
    return ""


def _size(redis: Redis, place: str) -> int:
    """How many messages a worker has marked, or a wait has moved."""
    return redis.hlen(place) if redis.type(place) == b"hash" else redis.llen(place)


def _open_campaigns(system: System) -> str:
    for row in system.database.rows("select id, state from campaigns"):
        if row["state"] in {"running", "paused"}:
            return f"campaign {row['id']} {row['state']}"
    return ""


def _undelivered_notices(system: System) -> str:
    """Ends of jobs that are not passed on, and deliveries that are pending."""
    if not system.subscribers.all:
        return ""
    with system.valkey.connect() as redis:
        stream = cast("list[tuple[bytes, Any]]", redis.xrevrange("dingrelay:endings", count=1))
        read = cast("bytes | None", redis.hget("dingrelay:endings-read", "webhooks")) or b""
        if stream and read.split(b" ")[0] != stream[0][0]:
            return "ends of jobs are not passed on"
    pending = system.database.value(
        "select count(*) from webhook_deliveries"
        " join webhook_endpoints on webhook_endpoints.id = endpoint"
        " where webhook_deliveries.state = 'pending' and webhook_endpoints.state = 'enabled'"
    )
    return f"{pending} deliveries are pending" if pending else ""


_LOOKS: tuple[Callable[[System], str], ...] = (
    *(_open_jobs, _undelivered_events, _queued, _open_campaigns, _undelivered_notices),
)
"""Each says what is under way."""


def _look_at_approvals(system: System) -> None:
    """Let hours pass for approvals without an event.

    Only the moments that their jobs wait for are moved, in their rows and on the schedule. Once no approval
    waits for an earlier one, all have been looked at.
    """
    moment = datetime.now(UTC) - timedelta(seconds=1)
    system.database.write(
        "update approvals set look_at = ? where look_at is not null",
        moment.strftime("%Y-%m-%d %H:%M:%S.%f"),
    )
    with system.valkey.connect() as redis:
        _wake(redis, FOLLOW)

    def looked_at() -> bool:
        rows = system.database.rows("select look_at from approvals where look_at is not null")
        moments = (datetime.fromisoformat(row["look_at"]) for row in rows)
        return all((at if at.tzinfo else at.replace(tzinfo=UTC)) > moment for at in moments)

    wait_until(looked_at, LOOK_SECONDS, tick=system.supervise)


def _wake(redis: Redis, kind: str) -> None:
    """Let the jobs of a kind be due now."""
    now, _ = redis.time()
    for job in _waiting(redis, kind):
        with redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.job(job), mapping={"due": now * 1000, "woken": 0})
            # One that has just left the schedule by itself is not put back.
            pipe.zadd(keys.SCHEDULE, {job: now * 1000}, xx=True)
            pipe.execute()


def _waiting(redis: Redis, kind: str) -> list[str]:
    """The jobs of a kind that wait for a time."""
    found: list[str] = []
    for job in _members(redis, keys.SCHEDULE):
        of, state = redis.hmget(keys.job(job), ["kind", "state"])
        if of == kind.encode() and state in WAITING:
            found.append(job)
    return found


def _members(redis: Redis, place: str | bytes) -> list[str]:
    return [job.decode() for job in cast("list[bytes]", redis.zrange(place, 0, -1))]


def _walks(system: System, last: list[str]) -> list[str]:
    """Walks of everything, until one finds nothing that the directory did not know; the jobs."""
    walks: list[str] = []
    for _ in range(2):
        try:
            job = system.client.send(UserSync(confirm_removals=True))
        except DingrelayError:
            break
        walks.append(job.id)
        wait_until(partial(_ended, job), SYNC_SECONDS, tick=system.supervise)
        result = job.status().result or {}
        if not any(result.get(name) for name in ("added", "changed", "left")):
            break
    _rest(system, last, SYNC_SECONDS)
    return walks


def _ended(job: JobRef) -> bool:
    return job.status().state.ended
