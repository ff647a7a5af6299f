"""Makes campaigns of files in threads: reading a million rows would hold up every other request."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from dingrelay_producers.client.campaign_backend import (
    CampaignPreview,
    CreatedCampaign,
    Plan,
)
from dingrelay_workers.campaigns.backend import SqlBackend

AT_ONCE = 2
"""Files that are read at the same time; the uploads behind them wait, each complete on the disk."""

CAMPAIGN_PLACES = 10
"""Requests that ask for campaigns at the same time; the others wait, since each opens a connection to SQL."""

_T = TypeVar("_T")


class CampaignWriter:
    """Reads the files of campaigns beside the loop that serves requests.

    Args:
        backend: keeps the campaigns.

    Attributes:
        places: bounds the concurrent campaign requests, each of which has its own connection.
    """

    def __init__(self, backend: SqlBackend) -> None:
        self._backend = backend
        self.places = asyncio.Semaphore(CAMPAIGN_PLACES)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="campaign")

    async def create(self, plan: Plan, campaign: str | None = None) -> CreatedCampaign:
        """Store a draft, with this id if one is given, even if the caller goes away.

        Raises:
            ContractError: the plan is wrong; it names the field, or the lines.
            ServiceUnavailable: the database can't be used.
        """
        return await self._run(lambda: self._backend.create(plan, campaign))

    async def preview(self, plan: Plan) -> CampaignPreview:
        """What a campaign would take; raises as `create`."""
        return await self._run(lambda: self._backend.preview(plan))

    def close(self) -> None:
        """Begin no more; what is being written is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        # A loop of its own: what keeps campaigns works on files and on the database by turns.
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(
            self._threads, lambda: context.run(lambda: asyncio.run(ask()))
        )
