"""Any API of DingTalk's, called by its path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dingrelay_tasks.names import Json
from dingrelay_workers.dingtalk.apis import of_path
from dingrelay_workers.dingtalk.calls import Calls
from dingrelay_workers.dingtalk.request import Request


class AnyApi:
    """`dingrelay_tasks.context.Apis` of one app.

    Args:
        calls: makes the calls.
        ruled: path → name of the rule set for it; empty if there is none.
    """

    def __init__(self, calls: Calls, *, ruled: Callable[[str], str]) -> None:
        self._calls = calls
        self._ruled = ruled

    async def call(
        self,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | Sequence[Any] | None,
        changes: bool,
    ) -> Json:
        """One call under the limits of its path; raises what `Calls.send` raises."""
        api = of_path(method, path, ruled=self._ruled, changes=changes)
        return await self._calls.send(Request(api, query=query, body=body))
