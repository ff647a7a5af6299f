"""The seam between what is called and everything that stands before a call."""

from collections.abc import Mapping
from typing import Any, Protocol

from dingrelay_workers.dingtalk.apis import Api


class Calls(Protocol):
    """Makes calls for one app: limits, token, note of intent, HTTP and classification are in it."""

    @property
    def app(self) -> str:
        """The app's name in the settings."""
        ...

    @property
    def agent_id(self) -> str:
        """The app's agent id."""
        ...

    async def call(
        self,
        api: Api,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        recipients: int = 0,
    ) -> dict[str, Any]:
        """DingTalk's answer, which is a success.

        Args:
            api: what is called.
            query: parameters of the URL, without the token.
            body: what is sent as JSON.
            recipients: how many people a message reaches, for the limit on recipients.

        Raises:
            DingTalkError: exactly one of its classes.
        """
        ...
