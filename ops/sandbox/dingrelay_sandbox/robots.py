"""Robots: custom ones with a webhook, those of apps, and what they posted in groups (API §2.8, §11.4)."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

FIRST_GROUP = "cidSandboxGroup=="
"""The group that is there from the start."""


class Robot(BaseModel, extra="forbid", frozen=True):
    """A custom robot.

    Attributes:
        secret: with one its calls must be signed.
        keywords: with any a message must hold one of them.
    """

    token: str = "sandbox-robot"
    secret: str = Field(default="", repr=False)
    keywords: Annotated[tuple[str, ...], Field(max_length=10)] = ()


@dataclass(slots=True)
class GroupPost:
    """What an app's robot posted in a group."""

    key: str
    group: str
    app_key: str
    at: float
    recalled: bool = False


class Robots:
    """All robots and their posts."""

    def __init__(self) -> None:
        self.robots: dict[str, Robot] = {}
        self.groups = {FIRST_GROUP}
        self.group_posts: dict[str, GroupPost] = {}
        self.posts: list[dict[str, Any]] = []
        self._seen: set[tuple[str, str]] = set()

    def post(self, robot: Robot, message: dict[str, Any], *, at: float, call_id: int) -> None:
        """Keep a webhook's message, once for each ``msgUuid``."""
        key = message.get("msgUuid")
        if isinstance(key, str) and key:
            if (robot.token, key) in self._seen:
                return
            self._seen.add((robot.token, key))
        self.posts.append({"at": at, "call_id": call_id, "robot": robot.token, "message": message})

    def post_in_group(
        self,
        app_key: str,
        robot: str,
        group: str,
        message: dict[str, Any],
        *,
        at: float,
        call_id: int,
    ) -> str:
        """Keep what an app's robot says in a group; the key to ask about it with."""
        key = f"group{len(self.group_posts) + 1}"
        self.group_posts[key] = GroupPost(key, group, app_key, at)
        post = {"at": at, "call_id": call_id, "robot": robot, "group": group, "message": message}
        self.posts.append(post)
        return key
