"""Robots: custom ones with a webhook, those of apps, and what they posted in groups (API §2.8, §11.4)."""

import html
import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dingrelay_sandbox.call import Call

FIRST_GROUP = "cidSandboxGroup=="
"""The group that is there from the start."""


class Robot(BaseModel, extra="forbid", frozen=True):
    """A custom robot.

    Attributes:
        secret: with one its calls must be signed.
        keywords: with any a message must hold one of them.
        group: the group that it posts to.
        month: messages that its administrator lets it post in a month.
    """

    token: str = "sandbox-robot"
    secret: str = Field(default="", repr=False)
    keywords: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    group: str = FIRST_GROUP
    month: int | None = None


@dataclass(slots=True)
class GroupPost:
    """A post of an app's robot in a group."""

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
        self.read: dict[str, set[str]] = {}
        """Key of a message of an app's robot → who has read it."""
        self.flow_controlled: set[str] = set()
        """People who receive nothing from robots for now."""
        self.sessions: dict[str, tuple[str, float]] = {}
        """Session of a message to a robot → where it was written, and until when it is good."""
        self._seen: set[tuple[str, str]] = set()

    def seen(self, token: str, key: object) -> bool:
        """Whether a webhook has posted a message with this ``msgUuid``; it has from now on."""
        if not isinstance(key, str) or not key:
            return False
        known = (token, key) in self._seen
        self._seen.add((token, key))
        return known

    def post(self, call: Call, robot: str, group: str, message: dict[str, Any]) -> None:
        """Keep what a robot says in a group."""
        place = {"at": call.at, "call_id": call.id, "robot": robot, "group": group}
        self.posts.append({**place, "message": message})

    def page(self, group: str) -> str:
        """The posts in a group, as a page for people."""
        posts = [post for post in self.posts if post["group"] == group]
        rows = "".join(
            f"<article><small>{time.strftime('%H:%M:%S', time.localtime(post['at']))}</small>"
            f"<pre>{html.escape(_shown(post['message']))}</pre></article>"
            for post in reversed(posts[-PAGE_POSTS:])
        )
        name = html.escape(group)
        return (
            f"<!DOCTYPE html><meta charset=utf-8><title>{name}</title><style>"
            "body{font:15px sans-serif;max-width:40em;margin:2em auto}"
            "article{border:1px solid #ccc;border-radius:6px;padding:.5em 1em;margin:.5em 0}"
            f"pre{{white-space:pre-wrap}}</style><h1>{name}: {len(posts)}</h1>{rows}"
        )


PAGE_POSTS = 200


def _shown(message: dict[str, Any]) -> str:
    """A message as text: its parts line by line."""
    part = message.get(str(message.get("msgtype")), message)
    lines = [part] if isinstance(part, str) else [str(value) for value in part.values()]
    mentions = message.get("at")
    return "\n".join([*lines, *([json.dumps(mentions, ensure_ascii=False)] if mentions else [])])
