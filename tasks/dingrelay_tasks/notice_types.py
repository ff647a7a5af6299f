"""The types of notices that business applications can subscribe to."""

import re

JOB = ("job.done", "job.dead", "job.unknown", "job.duplicate", "job.expired", "job.cancelled")
APPROVAL = (
    "approval.approved",
    "approval.refused",
    "approval.terminated",
    "approval.deleted",
    "approval.task",
)
DIRECTORY = (
    "directory.user.added",
    "directory.user.changed",
    "directory.user.left",
    "directory.department.added",
    "directory.department.changed",
    "directory.department.removed",
)
CAMPAIGN = (
    "campaign.started",
    "campaign.paused",
    "campaign.resumed",
    "campaign.completed",
    "campaign.cancelled",
)
TEST = "webhook.test"
"""Sent on request only, whatever an endpoint subscribed to."""

ROBOT = ("robot.message",)
"""Type of an event, too: a person has written to a robot."""

TYPES: tuple[str, ...] = (*JOB, *APPROVAL, *DIRECTORY, *CAMPAIGN, *ROBOT)
"""Every type but those of DingTalk's events, of which DingTalk makes the list."""

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


def matches(pattern: str, name: str) -> bool:
    """Whether a subscription to `pattern` takes notices of this type.

    A pattern is a type, or ends in ``.*`` for all that begin so, or is ``*`` for all.
    """
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name
