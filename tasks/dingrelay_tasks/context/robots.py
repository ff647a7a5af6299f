"""Robots of groups as a body sees them."""

from collections.abc import Mapping
from typing import Any, Protocol

from dingrelay_tasks.names import Json


class Robots(Protocol):
    """The webhooks of robots."""

    async def post(self, robot: str, *, query: Mapping[str, str], body: Mapping[str, Any]) -> Json:
        """DingTalk's answer to a message.

        Args:
            robot: digest of the robot's token.
            query: timestamp and signature, where the robot asks for them.
            body: DingTalk's message.

        Raises:
            Refused: its token is not known any more.
        """
        ...
