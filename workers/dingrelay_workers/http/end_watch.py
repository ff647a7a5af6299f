"""Waits for jobs to end: one query covers all awaited jobs, however many callers wait."""

import asyncio
from contextlib import suppress

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_workers.http.records import GatewayRecords

LOOK_SECONDS = 0.05


class EndWatch:
    """Polls the states of jobs for callers that wait for their ends."""

    def __init__(self, records: GatewayRecords) -> None:
        self._records = records
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Whether the job has ended, or was forgotten, within so many seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            waiters = self._waiting.get(job_id, set())
            waiters.discard(future)
            if not waiters:
                self._waiting.pop(job_id, None)
        return True

    async def _look(self) -> None:
        while self._waiting:
            ids = list(self._waiting)
            # While Redis is away the states are unknown: callers wait on, and time out.
            with suppress(ServiceUnavailable):
                states = await self._records.states(ids)
                for job_id, state in zip(ids, states, strict=True):
                    if state is None or state.ended:
                        for future in self._waiting.pop(job_id, ()):
                            if not future.done():
                                future.set_result(None)
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Look no more."""
        if self._looking:
            self._looking.cancel()
