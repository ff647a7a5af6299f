"""Evidence for the invariants: the requests, the system's reports, and the truth at DingTalk."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

from dingrelay_chaos.database import Directory
from dingrelay_chaos.dingtalk import JOINING, MOVING, STAYING, holds, text_of
from dingrelay_chaos.operations import Send
from dingrelay_chaos.subscribers import QUEUE
from dingrelay_chaos.valkey import Lost
from dingrelay_producers import Client, JobNotFound, JobStatus, Settings
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import Row, SandboxAdmin
from dingrelay_tasks import beijing
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.database.schema import opened

if TYPE_CHECKING:
    from dingrelay_chaos.faults import Fault
    from dingrelay_chaos.schedule import Schedule
    from dingrelay_chaos.system import System

NOT_REACHABLE = frozenset({"unknown_user", "scope"})
"""Why DingTalk drops a message to a person who is gone, which the app could not know."""
TOO_MANY_A_MINUTE = "143103"
TOO_MANY_A_DAY = "143105"
USER_DAY = 500
"""Messages a day to one person (API §2.1)."""


class Snapshot:
    """The truth at DingTalk. People are userids, contents the texts of messages.

    Args:
        sandbox: what holds it now.
        users: all that a message may have gone to.
    """

    def __init__(self, sandbox: SandboxAdmin, users: Iterable[str]) -> None:
        organisation = sandbox.organisation()
        self.people: dict[str, Row] = {each["userid"]: each for each in organisation["users"]}
        departments: list[Row] = organisation["departments"]
        self.departments = {int(each["dept_id"]): each for each in departments}
        inboxes = [sandbox.inbox(user) for user in sorted({*users, *self.people})]
        self.entries: list[Row] = [
            each for box in inboxes for each in (*box["delivered"], *box["dropped"])
        ]
        self.approvals, self.calls = sandbox.approvals(), sandbox.calls()
        self.audit, self.tokens = sandbox.audit(), sandbox.tokens()

    @cached_property
    def by_content(self) -> dict[str, dict[str, list[Row]]]:
        """Content → person → what was sent to them, whether or not it arrived."""
        found: dict[str, dict[str, list[Row]]] = {}
        for entry in self.entries:
            found.setdefault(text_of(entry), {}).setdefault(entry["user"], []).append(entry)
        return found

    def sent(self, content: str, user: str) -> list[Row]:
        """Sends of a content to a person, whether or not they arrived."""
        return self.by_content.get(content, {}).get(user, [])

    def delivered(self, content: str, user: str) -> int:
        """How many times it arrived on one day: an equal message is another one on the next."""
        days = Counter(day_of(each) for each in self.sent(content, user) if not each["reason"])
        return max(days.values(), default=0)

    def received(self, user: str) -> int:
        """How many messages arrived at a person on one day at most."""
        return max((count for (of, _), count in self._days.items() if of == user), default=0)

    @cached_property
    def _days(self) -> Counter[tuple[str, str]]:
        return Counter((each["user"], day_of(each)) for each in self.entries if not each["reason"])

    def reached(self, content: str, besides: Collection[int] = ()) -> list[str]:
        """The people who have it, by another call than these."""
        return [
            user
            for user, entries in self.by_content.get(content, {}).items()
            if any(not each["reason"] and each["call_id"] not in besides for each in entries)
        ]

    def instances(self, tag: str) -> list[Row]:
        """The approvals whose form holds this tag."""
        return [each for each in self.approvals if holds(each, tag)]

    def below(self, departments: Iterable[int]) -> set[int]:
        """These departments and all below them."""
        found = set(departments)
        while more := {
            number
            for number, each in self.departments.items()
            if each.get("parent_id") in found and number not in found
        }:
            found |= more
        return found


def day_of(entry: Row) -> str:
    """The Beijing day of a message, by DingTalk's clock."""
    return beijing.day(datetime.fromtimestamp(entry["at"], UTC))


class SystemState:
    """The system's present state, and the notices that it has sent.

    Attributes:
        events: all that happened at DingTalk, the oldest first.
        approvals: rows of the table.
        tasks: approval → rows of its tasks.
        notices: all that some endpoint takes, in their order; no tests.
        changes: what the directory found out about people since the first walk, and when it began to
            look (`opened_at`): one a run and person, with all that the run found out.
        endpoints: id → row.
        given_up: endpoint → notices that it was not delivered, for which it is tried for three days.
        requests: what the receiver got.
        published: what was published to Celery: id and document.
        dead: id, kind and error of the jobs that are dead or unknown.
        followers: approval → state of the job that follows it.
    """

    def __init__(self, system: "System") -> None:
        rows = system.database.rows
        self.events = system.sandbox.events()
        self.approvals = {row["instance"]: row for row in rows("select * from approvals")}
        self.tasks: dict[str, list[Row]] = {}
        for row in rows("select * from approval_tasks"):
            self.tasks.setdefault(row["instance"], []).append(row)
        notices = rows("select * from notices where type <> 'webhook.test' order by number")
        self.notices = [{**row, "data": json.loads(row["data"])} for row in notices]
        self.changes = rows(
            "select changes.*, runs.opened_at from changes join runs using (number)"
            " where number > ?",
            system.walked,
        )
        self.endpoints = {row["id"]: row for row in rows("select * from webhook_endpoints")}
        self.given_up: dict[str, list[int]] = {}
        for row in rows("select * from webhook_deliveries where state = 'dead'"):
            self.given_up.setdefault(row["endpoint"], []).append(row["notice"])
        self.requests = list(system.receiver.requests)
        self.published = _published(system)
        self.dead = _dead(system)
        self.followers = _followers(system, self.approvals)


def _published(system: "System") -> list[tuple[str, Row]]:
    """The messages in the queue of the endpoint of Celery's, as anybody's worker would read them."""
    with system.valkey.connect() as redis:
        raw = cast("list[bytes]", redis.lrange(QUEUE, 0, -1))
    bodies = (json.loads(base64.b64decode(json.loads(each)["body"])) for each in raw)
    return [(arguments["webhook_id"], arguments["document"]) for _, arguments, _ in bodies]


def _dead(system: "System") -> list[tuple[str, str, str]]:
    """Id, kind and error of each job that is dead or unknown."""
    with system.valkey.connect() as redis:
        jobs = [job.decode() for job in cast("list[bytes]", redis.zrange(keys.DEAD, 0, -1))]
        fields = [redis.hmget(keys.job(job), "kind", "error") for job in jobs]
    pairs = cast("list[list[bytes | None]]", fields)
    return [
        (job, (kind or b"").decode(), (error or b"").decode())
        for job, (kind, error) in zip(jobs, pairs, strict=True)
    ]


def _followers(system: "System", approvals: Iterable[str]) -> dict[str, str]:
    with system.valkey.connect() as redis:
        found: dict[str, str] = {}
        for instance in approvals:
            job = record.keyed_id("default", "approval-follow", instance)
            state = cast("bytes | None", redis.hget(keys.job(job), "state"))
            found[instance] = (state or b"").decode()
        return found


LATEST_SECONDS = 6
"""A call is on its way for so long at most."""
FAILED_EVENTS = "/call_back/get_call_back_failed_result"


Finding = tuple[str, str]
"""A violation, and the job or the content that its story is about."""


@dataclass(frozen=True, slots=True)
class CampaignEvidence:
    """The system's report of a campaign."""

    row: Row
    summary: Row
    people: list[Row]


class Settled(NamedTuple):
    """How a run came to rest.

    Attributes:
        waited: seconds until everything was settled.
        last: a job that was among the last to settle.
        left_too_early: people who are there and were marked as left before the last walk.
        by_events: the directory before the last walks.
        walks: the jobs of the last walks.
    """

    waited: float
    last: str
    left_too_early: list[str]
    by_events: Directory
    walks: list[str]


class Evidence:
    """Everything at the end of a run.

    Attributes:
        statuses: by id of every job that was asked for; None where there is no record.
        discarded: jobs that were discarded.
        lost: when Valkey forgot what was written, in seconds from the start.
        logs: log file → its text.
    """

    def __init__(self, system: "System", schedule: "Schedule", settled: Settled) -> None:
        self.system, self.schedule, self.settled = system, schedule, settled
        self.requests = system.requests
        self.snapshot = Snapshot(system.sandbox, (*STAYING, *MOVING, *JOINING))
        for each in self.snapshot.calls:
            each["moment"] = each["monotonic"] - system.began
        self.statuses = statuses(system.client, [*self.requests.accepted(), *settled.walks])
        self.discarded = {each.job for each in self.requests.commands if each.verb == "discard"}
        self.lost = [
            Lost(lost.since - system.began, lost.until - system.began)
            for lost in system.valkey.lost
        ]
        self.system_state = SystemState(system)
        numbers = [each.job for each in self.requests.campaigns if each.job]
        self.campaigns = asyncio.run(_campaigns(system, numbers))
        logs = system.folder.glob("*.log")
        self.logs = {path.stem: path.read_text("utf-8", "replace") for path in logs}

    def lost_between(self, since: float, until: float) -> bool:
        """Whether a failover may have lost what was written in a time, in seconds from the start."""
        return any(since <= lost.until and until >= lost.since for lost in self.lost)

    def calls_near_a_loss(self, seconds: float) -> set[int]:
        """The calls that arrived while a failover lost what was noted, or so much later."""
        return {
            each["id"]
            for each in self.snapshot.calls
            if self.lost_between(each["moment"] - seconds, each["moment"])
        }

    def under(self, at: float, wanted: Callable[["Fault"], bool], early: float = 0) -> bool:
        """Whether such a fault may have met a call that arrived then; it may begin so many seconds later."""
        return any(
            wanted(each.what) and each.began - early <= at <= each.ended + LATEST_SECONDS
            for each in self.requests.faults
        )

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
        jumps = [each.what for each in self.requests.faults if each.what.name == "dingtalk_clock"]
        offsets = [self.schedule.setting.sandbox_skew, *(each.values["offset"] for each in jumps)]
        at = attempt["at"] + attempt["took"] - self.system.began_at
        return any(self.lost_between(at - offset, at - offset) for offset in offsets)

    @cached_property
    def _spoilt_lists(self) -> bool:
        """Whether an answer with events that could not be pushed, which is given once, may have been lost."""
        return any(
            each["fault"]
            or self.under(each["moment"], lambda fault: fault.loses_answers, LATEST_SECONDS)
            for each in self.snapshot.calls
            if each["api"].startswith(FAILED_EVENTS)
        )

    @cached_property
    def beyond_the_day(self) -> set[tuple[str, str]]:
        """Content and person of what DingTalk dropped after the day's messages, and could not be kept back.

        A message to departments, to everyone or with `allow_duplicate` is sent in any case. One to departments
        is in no count, so for each that a person got, another one may be sent to them in vain.
        """
        messages = [each.what for each in self.requests.of(Send)]
        in_any_case = {
            each.tag
            for each in messages
            if each.departments or each.everyone or each.allow_duplicate
        }
        to_departments = {each.tag for each in messages if each.departments}
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
    """States of the jobs by their records."""
    found: dict[str, JobStatus | None] = {}
    for job in jobs:
        try:
            found[job] = client.status(job)
        except JobNotFound:
            found[job] = None
    return found


async def _campaigns(system: "System", numbers: Sequence[str]) -> dict[str, CampaignEvidence]:
    """The system's reports of these campaigns, and of each of their people.

    Read here, as the command line reads it: a process for each takes longer than the run.
    """
    found: dict[str, CampaignEvidence] = {}
    async with opened(Settings.load()) as database:
        report = Report(database)
        for number in numbers:
            summary = (await report.summary(number)).model_dump(mode="json")
            people = [each._asdict() async for page in report.results(number) for each in page]
            (row,) = system.database.rows("select * from campaigns where id = ?", number)
            found[number] = CampaignEvidence(row, summary, people)
    return found
