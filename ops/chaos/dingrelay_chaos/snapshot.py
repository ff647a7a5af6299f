"""What there is at the end of a run: at DingTalk, and in the system."""

import base64
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, cast

from dingrelay_chaos.subscribers import QUEUE, WebhookRequest
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import Row, SandboxAdmin
from dingrelay_tasks import beijing

if TYPE_CHECKING:
    from dingrelay_chaos.system import System


NOT_REACHABLE = frozenset({"unknown_user", "scope"})
"""Why DingTalk drops a message to a person who is gone, which the app could not know."""
TOO_MANY_A_MINUTE = "143103"
TOO_MANY_A_DAY = "143105"
USER_DAY = 500
"""Messages a day to one person (API §2.1)."""


@dataclass(frozen=True)
class Snapshot:
    """What really happened at DingTalk. People are userids, contents the texts of messages."""

    entries: list[Row]
    approvals: list[Row]
    calls: list[Row]
    audit: Row
    people: dict[str, Row]
    departments: dict[int, Row]
    tokens: list[str]

    @classmethod
    def read(cls, sandbox: SandboxAdmin, users: Iterable[str]) -> "Snapshot":
        """What the sandbox holds now; `users` are all that a message may have gone to."""
        organisation = sandbox.organisation()
        people = {each["userid"]: each for each in organisation["users"]}
        inboxes = [sandbox.inbox(user) for user in sorted({*users, *people})]
        return cls(
            entries=[each for box in inboxes for each in (*box["delivered"], *box["dropped"])],
            approvals=sandbox.approvals(),
            calls=sandbox.calls(),
            audit=sandbox.audit(),
            people=people,
            departments={int(each["dept_id"]): each for each in organisation["departments"]},
            tokens=sandbox.tokens(),
        )

    @cached_property
    def by_content(self) -> dict[str, dict[str, list[Row]]]:
        """Content → person → what was sent to them, whether or not it arrived."""
        found: dict[str, dict[str, list[Row]]] = {}
        for entry in self.entries:
            found.setdefault(text_of(entry), {}).setdefault(entry["user"], []).append(entry)
        return found

    def sent(self, content: str, user: str) -> list[Row]:
        """What was sent of a content to a person, whether or not it arrived."""
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


def text_of(entry: Row) -> str:
    """The text of a message."""
    return str(entry["message"].get("text", {}).get("content", ""))


def holds(approval: Row, tag: str) -> bool:
    """Whether a form holds a value."""
    return any(value == tag for _, value in approval["form"])


@dataclass(frozen=True, slots=True)
class SystemState:
    """What the system knows and has sent.

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

    events: list[Row]
    approvals: dict[str, Row]
    tasks: dict[str, list[Row]]
    notices: list[Row]
    changes: list[Row]
    endpoints: dict[str, Row]
    given_up: dict[str, list[int]]
    requests: list[WebhookRequest]
    published: list[tuple[str, Row]]
    dead: list[tuple[str, str, str]]
    followers: dict[str, str]

    @classmethod
    def read(cls, system: "System") -> "SystemState":
        """As of now."""
        rows = system.database.rows
        tasks: dict[str, list[Row]] = {}
        for row in rows("select * from approval_tasks"):
            tasks.setdefault(row["instance"], []).append(row)
        approvals = {row["instance"]: row for row in rows("select * from approvals")}
        given_up: dict[str, list[int]] = {}
        for row in rows("select * from webhook_deliveries where state = 'dead'"):
            given_up.setdefault(row["endpoint"], []).append(row["notice"])
        notices = rows("select * from notices where type <> 'webhook.test' order by number")
        changes = rows(
            "select changes.*, runs.opened_at from changes join runs using (number)"
            " where number > ?",
            system.walked,
        )
        return cls(
            events=system.sandbox.events(),
            approvals=approvals,
            tasks=tasks,
            notices=[{**row, "data": json.loads(row["data"])} for row in notices],
            changes=changes,
            endpoints={row["id"]: row for row in rows("select * from webhook_endpoints")},
            given_up=given_up,
            requests=list(system.receiver.requests),
            published=_published(system),
            dead=_dead(system),
            followers=_followers(system, approvals),
        )


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
