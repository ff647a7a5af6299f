"""Any API of DingTalk's as a body sees it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dingrelay_tasks.names import Json


class Apis(Protocol):
    """Every API of DingTalk's, called as the job's app."""

    async def call(
        self,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | Sequence[Any] | None,
        changes: bool,
    ) -> Json:
        """DingTalk's answer, which is a success.

        Args:
            method: of HTTP.
            path: on the host that its form selects (`api_call.is_rest`).
            query: parameters of the URL, without the token.
            body: what is sent as JSON.
            changes: whether the call has an effect, so that a lost answer matters.
        """
        ...
