"""After the faults: wait until nothing is under way, bring the directory up to date, look."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from dingrelay_chaos import evidence, passing
from dingrelay_chaos.directory import Directory
from dingrelay_chaos.evidence import Evidence
from dingrelay_chaos.journal import Journal
from dingrelay_chaos.people import JOINING, MOVING, STAYING
from dingrelay_chaos.schedule import Schedule
from dingrelay_chaos.snapshot import Snapshot
from dingrelay_chaos.system import System
from dingrelay_chaos.system_state import SystemState
from dingrelay_chaos.valkey import Lost
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
"""In a shorter run nobody waits a minute until a stream that was refused or is half dead is opened
anew: whoever listens is started again."""
RESUME_SECONDS = 30
"""Between two times that an operator has endpoints told that are being left alone."""
LAG_SECONDS = 0.5
"""A replica is so far behind at most, on a busy machine."""
QUEUES = ("urgent", "normal", "events", "bulk", "directory", "webhooks")


def settle(system: System, schedule: Schedule, journal: Journal) -> Evidence:
    """The evidence, once everything is settled or the time for it is over."""
    system.mend()
    if schedule.seconds < PATIENT_SECONDS:
        system.door.kill()
        system.door.start()
    began = time.monotonic()
    last: list[str] = []
    _rest(system, last, SETTLE_SECONDS)
    _look_at_approvals(system, last)
    waited = time.monotonic() - began
    left = system.marked_as_left & _present(system)
    by_events = Directory.read(system.database)
    walks = _walks(system, last)
    requests = system.requests
    snapshot = Snapshot.read(system.sandbox, (*STAYING, *MOVING, *JOINING))
    found = Evidence(
        schedule=schedule,
        requests=requests,
        snapshot=snapshot,
        journal=journal,
        statuses=evidence.statuses(system.client, [*requests.jobs(), *walks]),
        discarded={each.job for each in requests.commands if each.verb == "discard"},
        unacked=_unacked(system),
        lost=[
            Lost(lost.since - system.began - LAG_SECONDS, lost.until - system.began)
            for lost in system.valkey.lost
        ],
        left_too_early=sorted(left),
        by_events=by_events,
        walks=walks,
        system_state=SystemState.read(system),
        began=system.began,
        began_at=system.began_at,
        waited=waited,
        last=last[0] if last else "",
    )
    created = [each.campaign for each in requests.campaigns if each.campaign]
    found.campaigns = evidence.campaigns(system, created)
    found.logs = evidence.read_logs(system.folder)
    return found


def _rest(system: System, last: list[str], seconds: float) -> bool:
    """Whether everything has come to rest within so many seconds."""
    late = time.monotonic() + RESUME_SECONDS

    def tend() -> None:
        nonlocal late
        _tend(system)
        if time.monotonic() > late:
            late = time.monotonic() + RESUME_SECONDS
            with suppress(DingrelayError):
                system.subscribers.resume_all()

    with suppress(DingrelayError):
        system.subscribers.resume_all()
    return evidence.wait_until(lambda: _settled(system, last), seconds, tend)


def _settled(system: System, last: list[str]) -> bool:
    """Whether nothing is under way; `last` is told what is."""
    try:
        found = next(filter(None, (look(system) for look in _LOOKS)), "")
    except (RedisError, DingrelayError, OSError, sqlite3.OperationalError) as error:
        found = repr(error)
    if found and found not in last:
        last[:] = [found]
        with (system.folder / "settling.log").open("a") as out:
            out.write(f"{system.now():.1f} {found}\n")
    return not found


def _look_at_approvals(system: System, last: list[str]) -> None:
    """Let hours pass for approvals of which no event has told."""
    moment = passing.pass_for_approvals(system)
    evidence.wait_until(
        lambda: not passing.waits_for_a_look(system, moment), LOOK_SECONDS, system.supervise
    )
    _rest(system, last, SETTLE_SECONDS)


def _tend(system: System) -> None:
    """What an operator does after a bad hour: let campaigns that paused go on."""
    system.supervise()
    for row in system.database.rows("select id from campaigns where state = 'paused'"):
        with suppress(DingrelayError):
            system.client.campaign_ref(row["id"]).resume()


def _open_jobs(system: System) -> str:
    for status in evidence.statuses(system.client, system.requests.jobs()).values():
        if status and not status.state.ended:
            return f"{status.kind} {status.id} {status.state} {status.error or ''}"
    return ""


def _undelivered_events(system: System) -> str:
    events = system.sandbox.events_summary()
    if events["waiting"]:
        return f"{events['waiting']} events are on their way"
    # DingTalk has given up pushing: what it keeps is there to be read.
    passing.pass_for_missed_events(system)
    return ""


def _queued(system: System) -> str:
    with system.valkey.connect() as redis:
        places = [keys.SCHEDULE, keys.RUNNING, *redis.scan_iter("dingrelay:woken:*")]
        jobs = {job.decode() for place in places for job in _members(redis, place)}
        waiting = sorted(passing.kind_of(redis, job) for job in jobs - passing.resting(redis))
        queued: int = sum(redis.llen(f"dingrelay.{lane}") for lane in QUEUES)
        if waiting or queued:
            return f"{Counter(waiting)} wait, {queued} messages are in queues"
    return ""


def _members(redis: Redis, place: str | bytes) -> list[bytes]:
    return cast("list[bytes]", redis.zrange(place, 0, -1))


def _open_campaigns(system: System) -> str:
    """Campaigns that are under way, and drafts that somebody tried to start."""
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
    (row,) = system.database.rows(
        "select count(*) as deliveries from webhook_deliveries"
        " join webhook_endpoints on webhook_endpoints.id = endpoint"
        " where webhook_deliveries.state = 'pending' and webhook_endpoints.state = 'enabled'"
    )
    return f"{row['deliveries']} deliveries are pending" if row["deliveries"] else ""


_LOOKS: tuple[Callable[[System], str], ...] = (
    *(_open_jobs, _undelivered_events, _queued, _open_campaigns, _undelivered_notices),
)
"""Each tells what is under way."""


def _present(system: System) -> set[str]:
    """People who were there all the time."""
    return {user for user in (*STAYING, *MOVING) if not system.requests.was_absent(user)}


def _walks(system: System, last: list[str]) -> list[str]:
    """Walks of everything, until one finds nothing that the directory did not know; the jobs."""
    walks: list[str] = []
    for _ in range(2):
        try:
            job = system.client.send(UserSync(confirm_removals=True))
        except DingrelayError:
            break
        walks.append(job.id)
        evidence.wait_until(
            lambda job=job: job.status().state.ended, SYNC_SECONDS, system.supervise
        )
        result = job.status().result or {}
        if not any(result.get(name) for name in ("added", "changed", "left")):
            break
    _rest(system, last, SYNC_SECONDS)
    return walks


def _unacked(system: System) -> set[str]:
    """The ids of the messages in kombu's list of those that are under way."""
    found: set[str] = set()
    with suppress(RedisError), system.valkey.connect() as redis:
        for raw in cast("list[bytes]", redis.hvals("unacked")):
            message = json.loads(raw)[0]
            found.add(str(message["headers"].get("id", "")))
    return found
