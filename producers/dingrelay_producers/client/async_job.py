"""One job, for asyncio."""

import asyncio

from dingrelay_producers.client.arguments import checked_timeout
from dingrelay_producers.client.client import JobRef, pauses
from dingrelay_producers.errors import WaitTimeout
from dingrelay_producers.store.status import JobStatus


class AsyncJobRef:
    """One job by its id, for asyncio."""

    __slots__ = ("_ref",)

    def __init__(self, ref: JobRef) -> None:
        self._ref = ref

    @property
    def id(self) -> str:
        """The job's id."""
        return self._ref.id

    async def status(self) -> JobStatus:
        """What the record tells; see `Client.status`."""
        return await self._ref.threads.run(self._ref.app, self._ref.status)

    async def wait(self, timeout: float = 60) -> JobStatus:
        """The status once the job has ended; see `JobRef.wait`."""
        try:
            async with asyncio.timeout(checked_timeout(timeout)):
                for pause in pauses():
                    status = await self.status()
                    if status.state.ended:
                        return status
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise WaitTimeout(f"job {self.id} has not ended after {timeout:g} s") from None
        raise AssertionError  # pragma: no cover - the pauses never end

    async def cancel(self) -> bool:
        """Cancel the job if it does not run; see `Client.cancel`."""
        return await self._ref.threads.run(self._ref.app, self._ref.cancel)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncJobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"AsyncJobRef({self.id!r})"
