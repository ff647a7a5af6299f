"""`Client` for asyncio."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, Unpack

from dingrelay_producers.client.approvals import AsyncApprovalRef
from dingrelay_producers.client.arguments import CallFields
from dingrelay_producers.client.campaign_documents import Plan
from dingrelay_producers.client.campaigns import AsyncCampaignPlan, AsyncCampaignRef
from dingrelay_producers.client.client import Client
from dingrelay_producers.client.in_threads import InThreads, in_threads, in_threads_as
from dingrelay_producers.client.job_ref import AsyncJobRef, JobRef
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_tasks.contract import Contract


class AsyncClient(InThreads[Client]):
    """Enqueues jobs and reads their status and results, for asyncio.

    It has the methods of `Client`, with the same arguments, results and errors; `close` is
    `aclose`.

    Args:
        settings: where Redis and the broker are; from the environment if not given.

    Raises:
        SettingsError: a setting is missing or wrong.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(Client(settings))

    @property
    def client(self) -> Client:
        """The blocking one."""
        return self._blocking

    @property
    def settings(self) -> Settings:
        """The client's settings."""
        return self._blocking.settings

    async def send(self, job: Contract) -> AsyncJobRef:
        """Enqueue a job; see `Client.send`."""
        ref = await asyncio.to_thread(self._blocking.send, job)
        return self.job(ref.id)

    async def send_many(
        self, jobs: Iterable[Contract], *, on_sent: Callable[[AsyncJobRef], object] | None = None
    ) -> int:
        """Enqueue any number of jobs; see `Client.send_many`.

        Args:
            jobs: is iterated over in a thread, so a generator may block.
            on_sent: is called on the event loop. What it raises ends the sending and is raised here.
        """
        if on_sent is None:
            return await asyncio.to_thread(self._blocking.send_many, jobs)
        loop = asyncio.get_running_loop()

        async def on_loop(ref: JobRef) -> None:
            on_sent(self.job(ref.id))

        def in_thread(ref: JobRef) -> None:
            asyncio.run_coroutine_threadsafe(on_loop(ref), loop).result()

        return await asyncio.to_thread(self._blocking.send_many, jobs, on_sent=in_thread)

    async def call(self, method: str, path: str, **fields: Unpack[CallFields]) -> AsyncJobRef:
        """Enqueue one call of any API of DingTalk's; see `Client.call`."""
        ref = await asyncio.to_thread(self._blocking.call, method, path, **fields)
        return self.job(ref.id)

    def job(self, job_id: str) -> AsyncJobRef:
        """The reference of a job by its id; see `Client.job`."""
        return AsyncJobRef(self._blocking.job(job_id))

    def campaign(self, **plan: Unpack[Plan]) -> AsyncCampaignPlan:
        """A campaign that is not stored yet; see `Client.campaign`."""
        return AsyncCampaignPlan(self._blocking.campaign(**plan))

    def campaign_ref(self, campaign_id: str) -> AsyncCampaignRef:
        """The reference of a campaign by its id; see `Client.campaign_ref`."""
        return AsyncCampaignRef(self._blocking.campaign_ref(campaign_id))

    def approval(self, instance: str, *, app: str = DEFAULT_APP) -> AsyncApprovalRef:
        """The reference of an approval by DingTalk's id of it; see `Client.approval`."""
        return AsyncApprovalRef(self._blocking.approval(instance, app=app))

    check = in_threads(Client.check)
    upload = in_threads(Client.upload)
    templates = in_threads(Client.templates)
    template = in_threads(Client.template)
    keep_template = in_threads(Client.keep_template)
    delete_template = in_threads(Client.delete_template)
    approvals = in_threads(Client.approvals)
    status = in_threads(Client.status)
    details = in_threads(Client.details)
    recall = in_threads_as(AsyncJobRef, Client.recall)
    whole_id = in_threads(Client.whole_id)
    cancel = in_threads(Client.cancel)
    postpone = in_threads(Client.postpone)
    requeue = in_threads(Client.requeue)
    discard = in_threads(Client.discard)
    pause_lane = in_threads(Client.pause_lane)
    resume_lane = in_threads(Client.resume_lane)
    paused_lanes = in_threads(Client.paused_lanes)
    requeue_all = in_threads(Client.requeue_all)
    discard_all = in_threads(Client.discard_all)
    resolve = in_threads(Client.resolve)
    recent = in_threads(Client.recent)
    jobs = in_threads(Client.jobs)
    person = in_threads(Client.person)
    export_person = in_threads(Client.export_person)
    erase_person = in_threads(Client.erase_person)
    dead = in_threads(Client.dead)
    dead_codes = in_threads(Client.dead_codes)

    async def aclose(self) -> None:
        """Close the connections; the client opens new ones if it is used again."""
        await asyncio.to_thread(self._blocking.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
