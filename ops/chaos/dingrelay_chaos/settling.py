"""After the faults: wait until nothing is under way, bring the directory up to date, look."""

import json
import time
from contextlib import suppress
from typing import Any, cast

from redis.exceptions import RedisError

from dingrelay_chaos import evidence
from dingrelay_chaos.evidence import Evidence
from dingrelay_chaos.journal import Journal
from dingrelay_chaos.people import MOVING, STAYING
from dingrelay_chaos.schedule import Schedule
from dingrelay_chaos.system import System
from dingrelay_chaos.truth import Truth
from dingrelay_chaos.valkey import Lost
from dingrelay_producers import JobStatus
from dingrelay_producers.errors import DingrelayError
from dingrelay_tasks import UserSync

SETTLE_SECONDS = 180
"""Within which everything has come to an end. After an outage three hundred jobs leave at five a
second, on a machine that has more to do."""
SYNC_SECONDS = 60
LAG_SECONDS = 0.5
"""A replica is so far behind at most, on a busy machine."""
QUEUES = ("urgent", "normal", "bulk", "directory")


def settle(system: System, schedule: Schedule, journal: Journal) -> Evidence:
    """The evidence, once everything is settled or the time for it is over."""
    system.mend()
    began = time.monotonic()
    open_last: list[str] = []
    evidence.wait_until(lambda: _settled(system, open_last), SETTLE_SECONDS, lambda: _tend(system))
    waited = time.monotonic() - began
    left = system.marked_as_left & _present(system)
    last = _walk(system)
    asked = system.asked
    jobs = [*asked.jobs(), last] if last else list(asked.jobs())
    truth = Truth.read(system.sandbox, (*STAYING, *MOVING))
    found = Evidence(
        schedule=schedule,
        asked=asked,
        truth=truth,
        journal=journal,
        statuses=evidence.statuses(system.client, jobs),
        discarded={each.job for each in asked.commands if each.verb == "discard"},
        unacked=_unacked(system),
        lost=[
            Lost(lost.since - system.began - LAG_SECONDS, lost.until - system.began)
            for lost in system.valkey.lost
        ],
        left_too_early=sorted(left),
        began=system.began,
        waited=waited,
        last=open_last[0] if open_last else "",
    )
    created = [each.campaign for each in asked.campaigns if each.campaign]
    found.campaigns = evidence.campaigns(system, created)
    found.logs = evidence.read_logs(system.folder)
    return found


def _settled(system: System, last: list[str]) -> bool:
    """Whether nothing is under way; `last` is told a job that is."""
    try:
        jobs = _open_jobs(system)
        if jobs:
            last[:] = [f"{job.kind} {job.id} {job.state} {job.error or ''}" for job in jobs[:1]]
        return not jobs and not _queued(system) and not _open_campaigns(system)
    except (RedisError, DingrelayError, OSError):
        return False


def _tend(system: System) -> None:
    """What an operator does after a bad hour: let campaigns that paused go on."""
    system.supervise()
    for row in _open_campaigns(system):
        if row["state"] == "paused":
            with suppress(DingrelayError):
                system.client.campaign_ref(row["id"]).resume()


def _queued(system: System) -> int:
    with system.valkey.connect() as redis:
        places = ["dingrelay:schedule", "dingrelay:running", *redis.scan_iter("dingrelay:woken:*")]
        scheduled: int = sum(redis.zcard(place) for place in places)
        queued: int = sum(redis.llen(f"dingrelay.{lane}") for lane in QUEUES)
        return scheduled + queued


def _open_jobs(system: System) -> list[JobStatus]:
    found = evidence.statuses(system.client, system.asked.jobs())
    return [status for status in found.values() if status and not status.state.ended]


def _open_campaigns(system: System) -> list[dict[str, Any]]:
    """Campaigns that are under way, and drafts that somebody tried to start."""
    rows = system.database.rows("select id, state from campaigns")
    return [row for row in rows if row["state"] in {"running", "paused"}]


def _present(system: System) -> set[str]:
    """People who were there all the time."""
    return {*STAYING, *MOVING} - system.asked.absent


def _walk(system: System) -> str:
    """A user-sync of everything that sees the organisation as it is in the end; the job's id."""
    try:
        job = system.client.send(UserSync(confirm_removals=True))
    except DingrelayError:
        return ""
    evidence.wait_until(lambda: job.status().state.ended, SYNC_SECONDS, system.supervise)
    return job.id


def _unacked(system: System) -> set[str]:
    """The ids of the messages in kombu's list of those that are under way."""
    found: set[str] = set()
    with suppress(RedisError), system.valkey.connect() as redis:
        for raw in cast("list[bytes]", redis.hvals("unacked")):
            message = json.loads(raw)[0]
            found.add(str(message["headers"].get("id", "")))
    return found
