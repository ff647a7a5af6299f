"""Custom robots: a webhook with a token of its own, and what it posted (API §2.8)."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Robot(BaseModel):
    """A custom robot. With a secret its calls must be signed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str = "sandbox-robot"
    secret: str = Field(default="", repr=False)


class Robots:
    """All custom robots and their posts."""

    def __init__(self) -> None:
        self.robots: dict[str, Robot] = {}
        self.posts: list[dict[str, Any]] = []
        self._seen: set[tuple[str, str]] = set()

    def post(self, robot: Robot, message: dict[str, Any], *, at: float, call_id: int) -> None:
        """Keep a message, once for each ``msgUuid``."""
        key = message.get("msgUuid")
        if isinstance(key, str) and key:
            if (robot.token, key) in self._seen:
                return
            self._seen.add((robot.token, key))
        self.posts.append({"at": at, "call_id": call_id, "robot": robot.token, "message": message})
