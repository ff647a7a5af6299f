"""What the invariants check: what was asked, what the system says now, and what is true."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dingrelay_chaos.directory import Directory
from dingrelay_chaos.faults.dingtalk import DingTalkClock
from dingrelay_chaos.faults.valkey import (
    ValkeyFailsOver,
    ValkeyFreezes,
    ValkeyRefuses,
    ValkeyRestarts,
)
from dingrelay_chaos.faults.workers import WorkerEnds, WorkerSleeps
from dingrelay_chaos.journal import Journal
from dingrelay_chaos.requests import JobRequest, Requests
from dingrelay_chaos.snapshot import TOO_MANY_A_DAY, TOO_MANY_A_MINUTE, Snapshot, day_of, text_of
from dingrelay_chaos.system_state import SystemState
from dingrelay_chaos.valkey import Lost
from dingrelay_producers import Client, JobNotFound, JobStatus, Settings
from dingrelay_sandbox.report_types import AttemptReport, EventReport
from dingrelay_workers.campaigns import documents
from dingrelay_workers.campaigns.opened import opened_store
from dingrelay_workers.campaigns.report import Report

if TYPE_CHECKING:
    from dingrelay_chaos.schedule import Schedule
    from dingrelay_chaos.system import System

CLI = (sys.executable, "-W", "ignore", "-m", "dingrelay_producers.cli")
COMMAND_SECONDS = 60
LATEST_SECONDS = 6
"""A call is on its way for so long at most."""
FAILED_EVENTS = "/call_back/get_call_back_failed_result"
SPOILING = (WorkerEnds, WorkerSleeps, ValkeyRestarts, ValkeyFailsOver, ValkeyFreezes, ValkeyRefuses)
"""Faults in which an answer of DingTalk's that it gives only once may be lost."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant of the design's section 22 that does not hold."""

    invariant: int
    text: str
    job: str = ""
    """The job, or the content, that a story should be told of."""

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.text}"


@dataclass
class Evidence:
    """Everything at the end of a run."""

    schedule: "Schedule"
    requests: Requests
    snapshot: Snapshot
    journal: Journal
    statuses: dict[str, JobStatus | None]
    """By id of every job that was asked for; None where there is no record."""
    campaigns: dict[str, "CampaignEvidence"] = field(default_factory=dict[str, "CampaignEvidence"])
    discarded: set[str] = field(default_factory=set[str])
    unacked: set[str] = field(default_factory=set[str])
    """Ids of the Celery messages that a worker took and never acknowledged."""
    lost: list[Lost] = field(default_factory=list[Lost])
    """When Valkey forgot what was written, in seconds from the start."""
    left_too_early: list[str] = field(default_factory=list[str])
    """People who are there and were marked as left before the last walk."""
    by_events: Directory = field(default_factory=Directory)
    """The directory before the last walks."""
    walks: list[str] = field(default_factory=list[str])
    """The jobs of the last walks."""
    system_state: SystemState = field(default_factory=SystemState)
    began: float = 0
    """When the schedule started, by the monotonic clock of `calls`."""
    began_at: float = 0
    """The same in Unix seconds."""
    waited: float = 0
    """Seconds until everything was settled."""
    last: str = ""
    """A job that was among the last to settle."""
    logs: dict[str, str] = field(default_factory=dict[str, str])

    def forgotten(self, request: JobRequest) -> bool:
        """Whether a failover may have lost that this was accepted."""
        return any(
            request.at <= lost.until and request.answered >= lost.since for lost in self.lost
        )

    def calls_near_a_loss(self, seconds: float) -> set[int]:
        """The calls that arrived while a failover lost what was noted, or so much later."""
        return {
            each["id"]
            for each in self.snapshot.calls
            for lost in self.lost
            if lost.since <= each["monotonic"] - self.began <= lost.until + seconds
        }

    @cached_property
    def uncounted(self) -> set[int]:
        """The calls in whose window of recipients a failover may have lost others."""
        _, _, window = self.schedule.setting.recipients.partition("/")
        return self.calls_near_a_loss(float(window.removesuffix("s")) + LATEST_SECONDS)

    @cached_property
    def unnoted(self) -> set[int]:
        """The calls whose note a failover may have lost, while they were on their way."""
        return self.calls_near_a_loss(LATEST_SECONDS)

    @cached_property
    def lost_events(self) -> set[str]:
        """The events of which the system may never have heard."""
        return {event["id"] for event in self.system_state.events if self._may_be_lost(event)}

    def _may_be_lost(self, event: EventReport) -> bool:
        for delivery in event["deliveries"]:
            taken = [each for each in delivery["attempts"] if each["outcome"] == "success"]
            if delivery["state"] == "delivered" and not any(map(self._may_be_forgotten, taken)):
                return False
            if delivery["state"] == "failed" and not self._spoilt_lists:
                return False
        return True

    def _may_be_forgotten(self, attempt: AttemptReport) -> bool:
        """Whether a failover may have lost what was written of an attempt.

        Its time is DingTalk's, whose clock may have jumped.
        """
        offsets = [self.schedule.setting.sandbox_skew]
        offsets += [
            each.what.offset for each in self.journal.faults if isinstance(each.what, DingTalkClock)
        ]
        at = attempt["at"] + attempt["took"] - self.began_at
        return any(self.lost_at(at - offset) for offset in offsets)

    @cached_property
    def _spoilt_lists(self) -> bool:
        """Whether an answer with events that could not be pushed may have been lost."""
        calls = [each for each in self.snapshot.calls if each["api"].startswith(FAILED_EVENTS)]
        if any(each["fault"] for each in calls):
            return True
        moments = [each["monotonic"] - self.began for each in calls]
        return any(
            fault.began - LATEST_SECONDS <= at <= fault.ended + LATEST_SECONDS
            for at in moments
            for fault in self.journal.faults
            if isinstance(fault.what, SPOILING)
        )

    def lost_at(self, at: float) -> bool:
        """Whether a failover may have lost what was written then, in seconds from the start."""
        return any(lost.since <= at <= lost.until for lost in self.lost)

    @cached_property
    def beyond_the_day(self) -> set[tuple[str, str]]:
        """Content and person of what DingTalk dropped after the day's messages, and nobody could keep back.

        A message to departments, to everyone or with `allow_duplicate` is sent in any case. One to departments
        is in nobody's count, so for each that somebody got, another one may be sent to them in vain.
        """
        in_any_case = {
            request.content
            for request in self.requests.messages
            if request.departments or request.everyone or request.allow_duplicate
        }
        to_departments = {each.content for each in self.requests.messages if each.departments}
        uncounted: Counter[tuple[str, str]] = Counter()
        dropped: dict[tuple[str, str], list[str]] = {}
        for entry in self.snapshot.entries:
            content, key = text_of(entry), (entry["user"], day_of(entry))
            if entry["reason"] == TOO_MANY_A_DAY:
                dropped.setdefault(key, []).append(content)
            elif not entry["reason"]:
                uncounted[key] += content in to_departments
        found: set[tuple[str, str]] = set()
        for key, contents in dropped.items():
            counted = [content for content in contents if content not in in_any_case]
            excused = contents if len(counted) <= uncounted[key] else in_any_case & {*contents}
            found |= {(content, key[0]) for content in excused}
        return found

    def unreachable(self, content: str, user: str) -> bool:
        """Whether nobody could know that a message, which was sent, would not arrive."""
        entries = self.snapshot.by_content.get(content, {}).get(user, ())
        return (
            self.snapshot.unreachable(content, user)
            or any(
                each["reason"] == TOO_MANY_A_MINUTE and each["call_id"] in self.uncounted
                for each in entries
            )
            or (content, user) in self.beyond_the_day
        )


@dataclass(frozen=True, slots=True)
class CampaignEvidence:
    """What the system tells of a campaign."""

    row: dict[str, Any]
    summary: dict[str, Any]
    people: list[dict[str, Any]]


def statuses(client: Client, jobs: Iterable[str]) -> dict[str, JobStatus | None]:
    """What the records tell."""
    found: dict[str, JobStatus | None] = {}
    for job in jobs:
        try:
            found[job] = client.status(job)
        except JobNotFound:
            found[job] = None
    return found


def command(*arguments: str) -> str:
    """What a command of ours prints."""
    ran = subprocess.run(
        [*CLI, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"dingrelay {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
    return ran.stdout


def campaigns(system: "System", numbers: Sequence[str]) -> dict[str, CampaignEvidence]:
    """What the system tells of these campaigns, and of each of their people.

    Read here, as the command line reads it: a process for each takes longer than the run.
    """
    return asyncio.run(_campaigns(system, numbers))


async def _campaigns(system: "System", numbers: Sequence[str]) -> dict[str, CampaignEvidence]:
    found: dict[str, CampaignEvidence] = {}
    async with opened_store(Settings.load()) as store:
        report = Report(store.database)
        for number in numbers:
            summary = documents.report(await report.summary(number))
            people = [each._asdict() async for page in report.results(number) for each in page]
            (row,) = system.database.rows("select * from campaigns where id = ?", number)
            found[number] = CampaignEvidence(row, summary, people)
    return found


def read_logs(folder: Path) -> dict[str, str]:
    """Log file → its text."""
    return {path.stem: path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.log"))}


def wait_until(done: Any, seconds: float, tick: Any) -> bool:
    """Whether `done()` was true within so many seconds; `tick()` is called between the looks."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        tick()
        time.sleep(0.25)
    return True
