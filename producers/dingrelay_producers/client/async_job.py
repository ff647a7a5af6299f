"""One job, for asyncio."""

import asyncio

from dingrelay_producers.client.arguments import checked_timeout
from dingrelay_producers.client.in_threads import InThreads, in_threads
from dingrelay_producers.client.job_ref import JobRef, pauses
from dingrelay_producers.errors import WaitTimeout
from dingrelay_producers.store.status import JobStatus


class AsyncJobRef(InThreads[JobRef]):
    """One job by its id, for asyncio."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """The job's id."""
        return self._blocking.id

    status = in_threads(JobRef.status)
    cancel = in_threads(JobRef.cancel)

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
