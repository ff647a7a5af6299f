"""The services that the APIs of DingTalk need to make their calls."""

from typing import Any, Protocol

from dingrelay_workers.dingtalk.request import Request


class Calls(Protocol):
    """Makes the calls of one job."""

    @property
    def app(self) -> str:
        """The app for which it calls."""
        ...

    @property
    def agent_id(self) -> str:
        """The app's agent id."""
        ...

    async def send(self, request: Request) -> dict[str, Any]:
        """DingTalk's answer, which is a success.

        Raises:
            DingTalkError: exactly one of its classes.
        """
        ...
