"""Endpoints of webhooks as a body sees them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of one attempt to tell an endpoint.

    Attributes:
        verdict: `taken`; `failed`; or `void`, since there is nobody or nothing to tell any more.
        code: a short machine word, such as ``http_503``.
        reason: one sentence, without anything that the endpoint said.
        status: of HTTP; 0 where there was none.
        retry_after: how long the endpoint wants to be left alone.
    """

    verdict: Literal["taken", "failed", "void"]
    code: str
    reason: str
    status: int = 0
    retry_after: timedelta = timedelta()


class Webhooks(Protocol):
    """What delivers notices."""

    async def deliver(self, endpoint: str, notice: int) -> Receipt:
        """Tell an endpoint of a notice, once.

        Args:
            endpoint: its id.
            notice: its number.

        Raises:
            Wait: the endpoint is paused, fails for all, or has as many deliveries under way as it may.
        """
        ...

    async def test(self, endpoint: str) -> Receipt:
        """Tell an endpoint of nothing, to see whether it listens. It waits for nothing."""
        ...
