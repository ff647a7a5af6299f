"""The types of notices that business applications can subscribe to: each family is declared once, in `FAMILIES`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

ROBOT_MESSAGE = "robot.message"
"""Type of an event, too: a person has written to a robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The types that begin with one word and a dot.

    Attributes:
        types: after the dot; none where DingTalk makes the list.
        scopes: that an API key needs to subscribe to one of them.
        has_sender: whether its notices have the sender of a job, campaign or approval, which an
            endpoint filters by, and a key may be limited to.
        shared: beginnings of types without a sender that a key with a sender of its own may subscribe
            to as well. The others would show it what all senders do.
    """

    types: tuple[str, ...] = ()
    scopes: tuple[str, ...]
    has_sender: bool = False
    shared: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "job": Family(
        types=("done", "dead", "unknown", "duplicate", "expired", "cancelled"),
        scopes=("jobs:read",),
        has_sender=True,
    ),
    "approval": Family(
        types=("approved", "refused", "terminated", "deleted", "task"),
        scopes=("approvals:read",),
        has_sender=True,
    ),
    "directory": Family(
        types=(
            "user.added",
            "user.changed",
            "user.left",
            "department.added",
            "department.changed",
            "department.removed",
        ),
        scopes=("directory:read",),
        shared=("directory.",),
    ),
    "campaign": Family(
        types=("started", "paused", "resumed", "completed", "cancelled"),
        scopes=("campaigns:read",),
        has_sender=True,
    ),
    # It names the person who wrote, and is the content of a job.
    "robot": Family(
        types=(ROBOT_MESSAGE.partition(".")[2],), scopes=("directory:read", "jobs:read")
    ),
    # DingTalk's own events hold people, departments and approvals; these ones no approvals.
    "dingtalk": Family(
        scopes=("directory:read", "approvals:read"), shared=("dingtalk.user_", "dingtalk.org_")
    ),
}
"""First word of a type → its family."""

TYPES: tuple[str, ...] = tuple(
    f"{name}.{type_}" for name, family in FAMILIES.items() for type_ in family.types
)
"""Every type but those of DingTalk's events, of which DingTalk makes the list."""

TEST = "webhook.test"
"""Sent on request only, whatever an endpoint subscribed to."""

DINGTALK = "dingtalk."
"""Begins the type of a notice that passes on an event of DingTalk's, such as
``dingtalk.user_add_org``."""

EVENT_TYPE = re.compile(r"^[A-Za-z0-9_.:-]{1,100}$", re.ASCII)
"""DingTalk's event types are words such as ``bpms_instance_change`` (API §7.1)."""


def is_type(name: str) -> bool:
    """Whether notices of this type may be written."""
    if name.startswith(DINGTALK):
        return EVENT_TYPE.fullmatch(name.removeprefix(DINGTALK)) is not None
    return name in TYPES or name == TEST


def families(pattern: str) -> Collection[Family | None]:
    """The families of which a subscription takes notices. None is one that another release knows."""
    return FAMILIES.values() if pattern == "*" else [FAMILIES.get(pattern.partition(".")[0])]


def has_sender(name: str) -> bool:
    """Whether notices of this type have a sender."""
    return any(family and family.has_sender for family in families(name))


def matches(pattern: str, name: str) -> bool:
    """Whether a subscription to `pattern` takes notices of this type.

    A pattern is a type, or ends in ``.*`` for all that begin so, or is ``*`` for all.
    """
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name
