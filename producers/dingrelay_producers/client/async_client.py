"""`Client` for asyncio: the same calls, carried out in threads.

The broker's client library is synchronous, so a client written in async would only hide a thread
of its own.
"""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, Unpack

from dingrelay_producers.client.arguments import CallFields, checked_timeout
from dingrelay_producers.client.campaign_backend import PlanFields
from dingrelay_producers.client.campaigns import AsyncCampaignPlan, AsyncCampaignRef
from dingrelay_producers.client.client import Client, JobRef, pauses
from dingrelay_producers.errors import WaitTimeout
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract


class AsyncClient:
    """Enqueues jobs and tells what became of them, for asyncio.

    It has the methods of `Client`, with the same arguments, results and errors; `close` is
    `aclose`.

    Args:
        settings: where Redis and the broker are; from the environment if not given.

    Raises:
        SettingsError: a setting is missing or wrong.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.client = Client(settings)

    @property
    def settings(self) -> Settings:
        """Where Redis and the broker are."""
        return self.client.settings

    async def send(self, job: Contract) -> "AsyncJobRef":
        """Enqueue a job; see `Client.send`."""
        return AsyncJobRef(await asyncio.to_thread(self.client.send, job))

    async def send_many(
        self, jobs: Iterable[Contract], *, on_sent: Callable[["AsyncJobRef"], object] | None = None
    ) -> int:
        """Enqueue any number of jobs; see `Client.send_many`.

        Args:
            jobs: is iterated over in a thread, so a generator may block.
            on_sent: is called on the event loop. What it raises ends the sending and is raised here.
        """
        if on_sent is None:
            return await asyncio.to_thread(self.client.send_many, jobs)
        loop = asyncio.get_running_loop()

        async def tell(ref: JobRef) -> None:
            on_sent(AsyncJobRef(ref))

        def told(ref: JobRef) -> None:
            asyncio.run_coroutine_threadsafe(tell(ref), loop).result()

        return await asyncio.to_thread(self.client.send_many, jobs, on_sent=told)

    async def call(self, method: str, path: str, **fields: Unpack[CallFields]) -> "AsyncJobRef":
        """Enqueue one call of any API of DingTalk's; see `Client.call`."""
        return AsyncJobRef(await asyncio.to_thread(self.client.call, method, path, **fields))

    def job(self, job_id: str) -> "AsyncJobRef":
        """The reference of a job by its id; it need not exist."""
        return AsyncJobRef(self.client.job(job_id))

    def campaign(self, **plan: Unpack[PlanFields]) -> AsyncCampaignPlan:
        """A campaign that is not stored yet; see `Client.campaign`."""
        return AsyncCampaignPlan(self.client.campaign(**plan))

    def campaign_ref(self, campaign_id: str) -> AsyncCampaignRef:
        """The reference of a campaign by its id; see `Client.campaign_ref`."""
        return AsyncCampaignRef(self.client.campaign_ref(campaign_id))

    async def status(self, job_id: str) -> JobStatus:
        """What the record tells; see `Client.status`."""
        return await asyncio.to_thread(self.client.status, job_id)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job that does not run; see `Client.cancel`."""
        return await asyncio.to_thread(self.client.cancel, job_id)

    async def requeue(self, job_id: str) -> bool:
        """Give a job that has ended another life; see `Client.requeue`."""
        return await asyncio.to_thread(self.client.requeue, job_id)

    async def discard(self, job_id: str) -> bool:
        """Forget a dead or unknown job for good; see `Client.discard`."""
        return await asyncio.to_thread(self.client.discard, job_id)

    async def resolve(
        self,
        job_id: str,
        *,
        instance: str | None = None,
        not_created: bool = False,
        sent: bool | None = None,
        by: str = "",
    ) -> bool:
        """Say what became of an unknown job; see `Client.resolve`."""
        return await asyncio.to_thread(
            self.client.resolve,
            job_id,
            instance=instance,
            not_created=not_created,
            sent=sent,
            by=by,
        )

    async def recent(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs, newest first."""
        return await asyncio.to_thread(self.client.recent, limit)

    async def dead(self, limit: int = 50) -> list[JobStatus]:
        """The jobs that ended dead or unknown, latest first."""
        return await asyncio.to_thread(self.client.dead, limit)

    async def aclose(self) -> None:
        """Close the connections; the client opens new ones if it is used again."""
        await asyncio.to_thread(self.client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


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
        return await asyncio.to_thread(self._ref.status)

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
        return await asyncio.to_thread(self._ref.cancel)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncJobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"AsyncJobRef({self.id!r})"
