"""One job, by its id."""

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dingrelay_producers.client.arguments import checked_id, checked_timeout
from dingrelay_producers.client.in_threads import InThreads, in_threads
from dingrelay_producers.errors import WaitTimeout
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.client import Client

POLL_SECONDS = (0.02, 0.5)
"""First and longest pause between two looks of `wait`."""


class JobRef:
    """One job, by its id."""

    __slots__ = ("_client", "id")

    def __init__(self, client: "Client", job_id: str) -> None:
        self._client = client
        self.id = checked_id(job_id)

    def status(self) -> JobStatus:
        """The status in the record; see `Client.status`."""
        return self._client.status(self.id)

    def wait(self, timeout: float = 60) -> JobStatus:
        """The status once the job has ended, however it ended.

        Raises:
            WaitTimeout: not within `timeout` seconds.
        """
        deadline = time.monotonic() + checked_timeout(timeout)
        for pause in pauses():
            status = self.status()
            if status.state.ended:
                return status
            if time.monotonic() + pause > deadline:
                raise WaitTimeout(en("job {} is {} after {:g} s", self.id, status.state, timeout))
            time.sleep(pause)
        raise AssertionError  # pragma: no cover - the pauses never end

    def cancel(self) -> bool:
        """Cancel the job if it does not run; see `Client.cancel`."""
        return self._client.cancel(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"JobRef({self.id!r})"


def pauses() -> Iterator[float]:
    """Seconds between two looks of `wait`: short ones first, without an end."""
    pause, longest = POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, longest)


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
        deadline = time.monotonic() + checked_timeout(timeout)
        for pause in pauses():
            status = await self.status()
            if status.state.ended:
                return status
            if time.monotonic() + pause > deadline:
                raise WaitTimeout(en("job {} is {} after {:g} s", self.id, status.state, timeout))
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the pauses never end
