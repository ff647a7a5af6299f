"""What the invariants check: what was asked, what the system says now, and what is true."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from dingrelay_chaos.database import Directory
from dingrelay_chaos.requests import JobRequest, Journal, Requests
from dingrelay_chaos.snapshot import (
    NOT_REACHABLE,
    TOO_MANY_A_DAY,
    TOO_MANY_A_MINUTE,
    Snapshot,
    SystemState,
    day_of,
    text_of,
)
from dingrelay_chaos.valkey import Lost
from dingrelay_producers import Client, JobNotFound, JobStatus, Settings
from dingrelay_sandbox.admin import Row
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.campaigns.service import opened_store

if TYPE_CHECKING:
    from dingrelay_chaos.schedule import Schedule
    from dingrelay_chaos.system import System

LATEST_SECONDS = 6
"""A call is on its way for so long at most."""
FAILED_EVENTS = "/call_back/get_call_back_failed_result"


Finding = tuple[str, str]
"""What does not hold, and the job, or the content, that its story is about."""


@dataclass(frozen=True, slots=True)
class CampaignEvidence:
    """What the system reports of a campaign."""

    row: Row
    summary: Row
    people: list[Row]


@dataclass
class Evidence:
    """Everything at the end of a run.

    Attributes:
        statuses: by id of every job that was asked for; None where there is no record.
        discarded: jobs that were discarded.
        lost: when Valkey forgot what was written, in seconds from the start.
        left_too_early: people who are there and were marked as left before the last walk.
        by_events: the directory before the last walks.
        walks: the jobs of the last walks.
        began: when the schedule started, by the monotonic clock of `calls`.
        began_at: the same in Unix seconds.
        waited: seconds until everything was settled.
        last: a job that was among the last to settle.
        logs: log file → its text.
    """

    schedule: "Schedule"
    requests: Requests
    snapshot: Snapshot
    journal: Journal
    statuses: dict[str, JobStatus | None]
    discarded: set[str]
    lost: list[Lost]
    left_too_early: list[str]
    by_events: Directory
    walks: list[str]
    system_state: SystemState
    began: float
    began_at: float
    waited: float
    last: str
    campaigns: dict[str, CampaignEvidence]
    logs: dict[str, str] = field(default_factory=dict[str, str])

    def status(self, job: str) -> JobStatus | None:
        """A job's status; None where there is no record."""
        return self.statuses.get(job)

    def forgotten(self, request: JobRequest) -> bool:
        """Whether a failover may have lost that this was accepted."""
        return any(
            request.at <= lost.until and request.answered >= lost.since for lost in self.lost
        )

    def lost_at(self, at: float) -> bool:
        """Whether a failover may have lost what was written then, in seconds from the start."""
        return any(lost.since <= at <= lost.until for lost in self.lost)

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
        """The events that may never have reached the system."""
        return {event["id"] for event in self.system_state.events if self._may_be_lost(event)}

    def _may_be_lost(self, event: Row) -> bool:
        for delivery in event["deliveries"]:
            taken = [each for each in delivery["attempts"] if each["outcome"] == "success"]
            if delivery["state"] == "delivered" and not any(map(self._may_be_forgotten, taken)):
                return False
            if delivery["state"] == "failed" and not self._spoilt_lists:
                return False
        return True

    def _may_be_forgotten(self, attempt: Row) -> bool:
        """Whether a failover may have lost what was written of an attempt.

        Its time is DingTalk's, whose clock may have jumped.
        """
        jumps = [each.what for each in self.journal.faults if each.what.name == "dingtalk_clock"]
        offsets = [self.schedule.setting.sandbox_skew, *(each.values["offset"] for each in jumps)]
        at = attempt["at"] + attempt["took"] - self.began_at
        return any(self.lost_at(at - offset) for offset in offsets)

    @cached_property
    def _spoilt_lists(self) -> bool:
        """Whether an answer with events that could not be pushed, which is given once, may have been lost."""
        calls = [each for each in self.snapshot.calls if each["api"].startswith(FAILED_EVENTS)]
        spoiling = [fault for fault in self.journal.faults if fault.what.loses_answers]
        return any(
            each["fault"]
            or any(
                fault.began - LATEST_SECONDS
                <= each["monotonic"] - self.began
                <= fault.ended + LATEST_SECONDS
                for fault in spoiling
            )
            for each in calls
        )

    @cached_property
    def beyond_the_day(self) -> set[tuple[str, str]]:
        """Content and person of what DingTalk dropped after the day's messages, and could not be kept back.

        A message to departments, to everyone or with `allow_duplicate` is sent in any case. One to departments
        is in no count, so for each that a person got, another one may be sent to them in vain.
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
        """Whether the system could not know that a message, which was sent, would not arrive."""
        return (content, user) in self.beyond_the_day or any(
            each["reason"] in NOT_REACHABLE
            or (each["reason"] == TOO_MANY_A_MINUTE and each["call_id"] in self.uncounted)
            for each in self.snapshot.sent(content, user)
        )


def statuses(client: Client, jobs: Iterable[str]) -> dict[str, JobStatus | None]:
    """What the records say."""
    found: dict[str, JobStatus | None] = {}
    for job in jobs:
        try:
            found[job] = client.status(job)
        except JobNotFound:
            found[job] = None
    return found


def campaigns(system: "System", numbers: Sequence[str]) -> dict[str, CampaignEvidence]:
    """What the system reports of these campaigns, and of each of their people.

    Read here, as the command line reads it: a process for each takes longer than the run.
    """
    return asyncio.run(_campaigns(system, numbers))


async def _campaigns(system: "System", numbers: Sequence[str]) -> dict[str, CampaignEvidence]:
    found: dict[str, CampaignEvidence] = {}
    async with opened_store(Settings.load()) as store:
        report = Report(store.database)
        for number in numbers:
            summary = (await report.summary(number)).model_dump(mode="json")
            people = [each._asdict() async for page in report.results(number) for each in page]
            (row,) = system.database.rows("select * from campaigns where id = ?", number)
            found[number] = CampaignEvidence(row, summary, people)
    return found
