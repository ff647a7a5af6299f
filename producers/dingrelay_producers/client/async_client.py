"""`Client` for asyncio: the same calls, carried out in threads.

The broker's client library is synchronous, so a client written in async would only hide a thread
of its own.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

from dingrelay_producers.client.approval_backend import ApprovalFields, ApprovalStatus
from dingrelay_producers.client.arguments import CallFields, checked_job
from dingrelay_producers.client.async_approvals import AsyncApprovalRef
from dingrelay_producers.client.async_job import AsyncJobRef
from dingrelay_producers.client.campaign_backend import PlanFields
from dingrelay_producers.client.campaigns import AsyncCampaignPlan, AsyncCampaignRef
from dingrelay_producers.client.client import Client, JobRef, OnAway
from dingrelay_producers.client.history_backend import JobDetails, JobFields, PersonHistory
from dingrelay_producers.client.media import Medium
from dingrelay_producers.client.personal_data import Erasure
from dingrelay_producers.errors import UnreadableRecord
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract, Lane
from dingrelay_tasks.media_upload import MediaType

_P = ParamSpec("_P")
_R = TypeVar("_R")


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
        ref = await self._run(checked_job(job).app, self.client.send, job)
        return self.job(ref.id, app=ref.app)

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
            on_sent(self.job(ref.id, app=ref.app))

        def told(ref: JobRef) -> None:
            asyncio.run_coroutine_threadsafe(tell(ref), loop).result()

        return await asyncio.to_thread(self.client.send_many, jobs, on_sent=told)

    async def call(self, method: str, path: str, **fields: Unpack[CallFields]) -> "AsyncJobRef":
        """Enqueue one call of any API of DingTalk's; see `Client.call`."""
        app = fields.get("app", DEFAULT_APP)
        ref = await self._run(app, self.client.call, method, path, **fields)
        return self.job(ref.id, app=ref.app)

    async def upload(
        self,
        file: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        media_type: MediaType | None = None,
        app: str = DEFAULT_APP,
        lane: Lane = "normal",
        timeout: float = 60,
        again: bool = False,
    ) -> Medium:
        """Upload a file for messages; see `Client.upload`."""
        return await self._run(
            app,
            self.client.upload,
            file,
            name=name,
            media_type=media_type,
            app=app,
            lane=lane,
            timeout=timeout,
            again=again,
        )

    def job(self, job_id: str, *, app: str | None = None) -> "AsyncJobRef":
        """The reference of a job by its id; see `Client.job`."""
        return AsyncJobRef(self.client.job(job_id, app=app))

    def campaign(self, **plan: Unpack[PlanFields]) -> AsyncCampaignPlan:
        """A campaign that is not stored yet; see `Client.campaign`."""
        return AsyncCampaignPlan(self.client.campaign(**plan))

    def campaign_ref(self, campaign_id: str, *, app: str | None = None) -> AsyncCampaignRef:
        """The reference of a campaign by its id; see `Client.campaign_ref`."""
        return AsyncCampaignRef(self.client.campaign_ref(campaign_id, app=app))

    def approval(self, instance: str, *, app: str = DEFAULT_APP) -> AsyncApprovalRef:
        """The reference of an approval by DingTalk's id of it; see `Client.approval`."""
        return AsyncApprovalRef(self.client.approval(instance, app=app))

    async def approvals(
        self, *, limit: int = 50, on_away: OnAway | None = None, **chosen: Unpack[ApprovalFields]
    ) -> list[ApprovalStatus]:
        """What became of approvals; see `Client.approvals`."""
        return await asyncio.to_thread(
            self.client.approvals, limit=limit, on_away=on_away, **chosen
        )

    async def status(self, job_id: str, *, app: str | None = None) -> JobStatus:
        """What the record tells; see `Client.status`."""
        return await self._run(app, self.client.status, job_id, app=app)

    async def details(self, job_id: str, *, app: str | None = None) -> JobDetails:
        """A job with its key and its people; see `Client.details`."""
        return await self._run(app, self.client.details, job_id, app=app)

    async def recall(self, job_id: str, *, app: str | None = None) -> "AsyncJobRef":
        """Take back a message; see `Client.recall`."""
        return AsyncJobRef(await self._run(app, self.client.recall, job_id, app=app))

    async def whole_id(self, beginning: str) -> str:
        """The id of the one job that begins so; see `Client.whole_id`."""
        return await asyncio.to_thread(self.client.whole_id, beginning)

    async def cancel(self, job_id: str, *, app: str | None = None) -> bool:
        """Cancel a job that does not run; see `Client.cancel`."""
        return await self._run(app, self.client.cancel, job_id, app=app)

    async def requeue(self, job_id: str, *, app: str | None = None) -> bool:
        """Give a job that has ended another life; see `Client.requeue`."""
        return await self._run(app, self.client.requeue, job_id, app=app)

    async def discard(self, job_id: str, *, app: str | None = None) -> bool:
        """Forget a dead or unknown job for good; see `Client.discard`."""
        return await self._run(app, self.client.discard, job_id, app=app)

    async def resolve(
        self,
        job_id: str,
        *,
        instance: str | None = None,
        not_created: bool = False,
        sent: bool | None = None,
        by: str = "",
        app: str | None = None,
    ) -> bool:
        """Say what became of an unknown job; see `Client.resolve`."""
        return await self._run(
            app,
            self.client.resolve,
            job_id,
            instance=instance,
            not_created=not_created,
            sent=sent,
            by=by,
            app=app,
        )

    async def recent(self, limit: int = 50, *, on_away: OnAway | None = None) -> list[JobStatus]:
        """The newest jobs, newest first; see `Client.recent`."""
        return await asyncio.to_thread(self.client.recent, limit, on_away=on_away)

    async def jobs(
        self,
        *,
        limit: int = 50,
        history: bool = True,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
        on_away: OnAway | None = None,
        **chosen: Unpack[JobFields],
    ) -> list[JobStatus]:
        """Jobs that fit, the latest accepted first; see `Client.jobs`."""
        return await asyncio.to_thread(
            self.client.jobs,
            limit=limit,
            history=history,
            on_unreadable=on_unreadable,
            on_away=on_away,
            **chosen,
        )

    async def person(
        self,
        user: str,
        *,
        app: str | None = None,
        limit: int = 50,
        on_away: OnAway | None = None,
    ) -> PersonHistory:
        """What a person was sent; see `Client.person`."""
        return await self._run(app, self.client.person, user, app=app, limit=limit, on_away=on_away)

    async def export_person(
        self, user: str, *, app: str | None = None, on_away: OnAway | None = None
    ) -> dict[str, Any]:
        """Everything that is kept of a person; see `Client.export_person`."""
        return await self._run(app, self.client.export_person, user, app=app, on_away=on_away)

    async def erase_person(
        self, user: str, *, app: str | None = None, on_away: OnAway | None = None
    ) -> Erasure:
        """Take a person out of everything that is kept; see `Client.erase_person`."""
        return await self._run(app, self.client.erase_person, user, app=app, on_away=on_away)

    async def dead(self, limit: int = 50, *, on_away: OnAway | None = None) -> list[JobStatus]:
        """The jobs that ended dead or unknown, latest first; see `Client.dead`."""
        return await asyncio.to_thread(self.client.dead, limit, on_away=on_away)

    async def _run(
        self, app: str | None, work: Callable[_P, _R], /, *args: _P.args, **named: _P.kwargs
    ) -> _R:
        return await self.client.threads.run(app, work, *args, **named)

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
