"""What really happened at DingTalk, as the sandbox reports it at the end of a run."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_sandbox.report_types import ApprovalReport, AuditReport, CallReport, EntryReport
from dingrelay_tasks import beijing

NOT_REACHABLE = frozenset({"unknown_user", "scope"})
"""Why DingTalk drops a message to somebody who is gone, which the app could not know."""
TOO_MANY_A_MINUTE = "143103"
TOO_MANY_A_DAY = "143105"
USER_DAY = 500
"""Messages a day to one person (API §2.1)."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot. People are userids, contents the texts of messages."""

    entries: list[EntryReport]
    approvals: list[ApprovalReport]
    calls: list[CallReport]
    audit: AuditReport
    people: dict[str, dict[str, Any]]
    departments: dict[int, dict[str, Any]]
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
    def by_content(self) -> dict[str, dict[str, list[EntryReport]]]:
        """Content → person → what was sent to them, whether or not it arrived."""
        found: dict[str, dict[str, list[EntryReport]]] = {}
        for entry in self.entries:
            content = text_of(entry)
            found.setdefault(content, {}).setdefault(entry["user"], []).append(entry)
        return found

    def delivered(self, content: str, user: str) -> int:
        """How many times it arrived on one day: an equal message is another one on the next."""
        entries = self.by_content.get(content, {}).get(user, ())
        days = Counter(day_of(each) for each in entries if not each["reason"])
        return max(days.values(), default=0)

    def received(self, user: str) -> int:
        """How many messages arrived at somebody on one day at most."""
        return self._received.get(user, 0)

    @cached_property
    def _received(self) -> dict[str, int]:
        days = Counter((each["user"], day_of(each)) for each in self.entries if not each["reason"])
        found: dict[str, int] = {}
        for (user, _), count in days.items():
            found[user] = max(count, found.get(user, 0))
        return found

    def unreachable(self, content: str, user: str) -> bool:
        """Whether it was sent to somebody who was not there at the time."""
        entries = self.by_content.get(content, {}).get(user, ())
        return any(each["reason"] in NOT_REACHABLE for each in entries)

    def reached(self, content: str, besides: Collection[int] = ()) -> list[str]:
        """The people who have it, by another call than these."""
        return [
            user
            for user, entries in self.by_content.get(content, {}).items()
            if any(not each["reason"] and each["call_id"] not in besides for each in entries)
        ]

    def instances(self, tag: str) -> list[ApprovalReport]:
        """The approvals whose form holds this tag."""
        return [each for each in self.approvals if tag in _values(each)]

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


def day_of(entry: EntryReport) -> str:
    """The Beijing day of a message, by DingTalk's clock."""
    return beijing.day(datetime.fromtimestamp(entry["at"], UTC))


def text_of(entry: EntryReport) -> str:
    """The text of a message."""
    return str(entry["message"].get("text", {}).get("content", ""))


def _values(instance: ApprovalReport) -> list[str]:
    return [value for _, value in instance["form"]]
