"""Names of robots and of their limits, for those who need no contract of a message."""

import hashlib
from typing import Literal

TargetKind = Literal["webhook", "enterprise"]
"""The kind of a target: decides which of DingTalk's APIs posts to it."""

ROBOT_MESSAGE = "robot-message"
"""The kind of messages to robots and groups of the settings."""
ROBOTS = "robots"
"""The app of jobs that post by a robot's token, in place of a real one."""
WEBHOOK = "robot.webhook"
"""The API of webhooks, each of which has limits of its own."""
DISTINCT = 12
"""Digits of a digest that tell one robot's limits from another's."""

TARGET = " to="
"""Stands before the target in the summary of a job to a robot, a group or a session by its name."""


def target_of(app: str, summary: str) -> str:
    """The target of a job to robots, such as ``group:oncall``, by its summary; empty for other jobs."""
    if app != ROBOTS or TARGET not in summary:
        return ""
    return summary.rpartition(TARGET)[2].partition(" ")[0]


def robot_digest(token: str) -> str:
    """Digest that identifies a robot wherever its token must not be."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]
