"""Campaigns from Python: one that is planned, and one that is stored."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dingrelay_producers.client.arguments import (
    checked_fields,
    checked_limit,
    checked_timeout,
    checked_users,
)
from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    ConfirmRequest,
    Plan,
    Recipients,
    StartRequest,
    TestRequest,
)
from dingrelay_producers.client.in_threads import InThreads, in_threads, in_threads_as, run
from dingrelay_producers.errors import InvalidArgument, WaitTimeout
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

POLL_SECONDS = 0.5
"""Pause between two looks of `wait`."""


class CampaignPlan:
    """A campaign that is not stored yet."""

    __slots__ = ("_plan", "_service")

    def __init__(self, service: Any, plan: Plan) -> None:
        self._service = service
        self._plan = plan

    def preview(self) -> CampaignPreview:
        """Check the plan; nothing is stored. An iterator that is read here is used up.

        Raises:
            ContractError: the plan is wrong; it names the field, or the lines.
            InvalidArgument: a file can't be read.
            ServiceUnavailable: the database or Redis can't be used.
        """
        with _opened(self._plan) as plan:
            preview: CampaignPreview = run(self._service.preview(plan))
            return preview

    def create(self) -> "CampaignRef":
        """Store a campaign that is ready, with its recipients: all of it or, whatever happens, nothing.

        Raises:
            ContractError: the plan is wrong; it names the field, or the lines.
            InvalidArgument: a file can't be read.
            ServiceUnavailable: the database can't be used.
        """
        with _opened(self._plan) as plan:
            created = run(self._service.create(plan))
        return CampaignRef(self._service, created.id)


class CampaignRef:
    """One campaign, by its id.

    Each method raises `CampaignNotFound` where there is none, `CampaignConflict` where its state
    does not allow the call, `ServiceUnavailable` where the database or Redis can't be used.
    """

    __slots__ = ("_service", "id")

    def __init__(self, service: Any, campaign: str) -> None:
        self._service = service
        self.id = campaign

    def preview(self) -> CampaignPreview:
        """Cost of the whole campaign."""
        preview: CampaignPreview = run(self._service.preview(self.id))
        return preview

    def status(self) -> CampaignStatus:
        """How far it has come."""
        status: CampaignStatus = run(self._service.status(self.id))
        return status

    def start(self, version: int | None = None) -> None:
        """Let it run; it must be ready, and of this version if one is given."""
        if version is not None:
            checked_limit(version, "version")
        run(self._service.start(self.id, StartRequest(version=version)))

    def pause(self) -> None:
        """Hold it; no call of it leaves two seconds later."""
        run(self._service.pause(self.id))

    def resume(self) -> None:
        """Let it run on."""
        run(self._service.resume(self.id))

    def cancel(self) -> None:
        """End it for good: no further calls are made."""
        run(self._service.cancel(self.id))

    def delete(self) -> None:
        """Delete a draft, or a campaign that has ended, with its people and its report.

        Returns once all rows are gone: seconds, some 15 for a million people with a text each. The campaign
        is hidden at once; if the process dies, the workers delete the rest, or a repeat of the call does.

        Raises:
            CampaignConflict: it is ready or has not ended, or calls of it are under way.
        """
        run(self._service.delete(self.id, wait=True))

    def report(self) -> dict[str, Any]:
        """Outcomes of the campaign's people with their reasons, as ``campaign report --json`` prints it."""
        return dict(run(self._service.report(self.id)).model_dump(mode="json"))

    def test(self, users: Sequence[str], fields: Mapping[str, str] | None = None) -> None:
        """Send its message to testers now; fields of it have these values, or the first one's.

        Raises:
            ContractError: fields are missing or unknown.
        """
        checked_users(users)
        checked_fields(fields)
        request = TestRequest.parse({"users": [*users], "fields": dict(fields or {})})
        run(self._service.test(self.id, request))

    def recall(self) -> int:
        """Take back what was sent in the last 24 hours (API §2.4); how many jobs do so.

        Raises:
            CampaignConflict: it runs, so that more messages would be sent.
        """
        jobs: int = run(self._service.recall(self.id)).jobs
        return jobs

    def confirm(self, sample: int | None = None) -> int:
        """Ask DingTalk which people it reached (API §2.3), two calls each; how many jobs do so.

        `sample` is how many calls to ask about; None for all of the last 24 hours.
        """
        if sample is not None:
            checked_limit(sample, "sample")
        jobs: int = run(self._service.confirm(self.id, ConfirmRequest(sample=sample))).jobs
        return jobs

    def wait(self, timeout: float = 3600) -> CampaignStatus:
        """The status once it is done or cancelled.

        Raises:
            WaitTimeout: not within `timeout` seconds; it may be paused.
        """
        deadline = time.monotonic() + checked_timeout(timeout)
        while not (status := self.status()).state.ended:
            if time.monotonic() + POLL_SECONDS > deadline:
                raise _late(status, timeout)
            time.sleep(POLL_SECONDS)
        return status

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CampaignRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"CampaignRef({self.id!r})"


class AsyncCampaignRef(InThreads[CampaignRef]):
    """`CampaignRef` for asyncio: the same calls, carried out in threads."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """The campaign's id."""
        return self._blocking.id

    preview = in_threads(CampaignRef.preview)
    status = in_threads(CampaignRef.status)
    start = in_threads(CampaignRef.start)
    pause = in_threads(CampaignRef.pause)
    resume = in_threads(CampaignRef.resume)
    cancel = in_threads(CampaignRef.cancel)
    delete = in_threads(CampaignRef.delete)
    report = in_threads(CampaignRef.report)
    test = in_threads(CampaignRef.test)
    recall = in_threads(CampaignRef.recall)
    confirm = in_threads(CampaignRef.confirm)

    async def wait(self, timeout: float = 3600) -> CampaignStatus:
        """The status once it is done or cancelled; see `CampaignRef.wait`."""
        deadline = time.monotonic() + checked_timeout(timeout)
        while not (status := await self.status()).state.ended:
            if time.monotonic() + POLL_SECONDS > deadline:
                raise _late(status, timeout)
            await asyncio.sleep(POLL_SECONDS)
        return status


class AsyncCampaignPlan(InThreads[CampaignPlan]):
    """`CampaignPlan` for asyncio. Recipients are read in a thread: reading would hold up the loop."""

    __slots__ = ()

    preview = in_threads(CampaignPlan.preview)
    create = in_threads_as(AsyncCampaignRef, CampaignPlan.create)


@contextmanager
def _opened(plan: Plan) -> "Generator[Plan]":
    """The plan with its paths opened, while the block runs."""
    with (
        _file(plan.get("recipients"), "recipients") as recipients,
        _file(plan.get("without"), "without") as without,
    ):
        yield {**plan, "recipients": recipients, "without": without}


def _file(
    source: Recipients | None, name: str
) -> "AbstractContextManager[BinaryIO | Iterable[object] | None]":
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).open("rb")
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or en("no path")
            raise InvalidArgument(name, en("a file that can be read ({})", why), source) from None
    return nullcontext(source)


def _late(status: CampaignStatus, timeout: float) -> WaitTimeout:
    why = f" ({status.reason})" if status.reason else ""
    return WaitTimeout(
        en("campaign {} is {}{} after {:g} s", status.id, status.state, why, timeout)
    )
