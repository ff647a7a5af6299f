"""Context of a scenario: the system, the screen, the expectations, and ways to send and wait."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dingrelay_demo.requests import Expected, ended
from dingrelay_demo.screen import Screen
from dingrelay_demo.system import System
from dingrelay_producers import CampaignRef, CampaignStatus, JobRef, JobStatus
from dingrelay_producers.language import tr
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import record
from dingrelay_sandbox.admin import Row
from dingrelay_tasks.approval_follow import ApprovalFollow
from dingrelay_tasks.contract import Contract

Act = Callable[[], object]
Found = TypeVar("Found")
LOOK_SECONDS = 0.25
TIMEOUT_SECONDS = 60.0
SEND_API = "/topapi/message/corpconversation/asyncsend_v2"


class TooLate(Exception):
    """Jobs did not end in time."""


@dataclass(frozen=True)
class DemoContext:
    """Context of an act."""

    system: System
    screen: Screen
    expected: Expected

    async def send(self, job: Contract) -> JobRef:
        """Enqueue one job."""
        ref = await asyncio.to_thread(self.system.client.send, job)
        self.expected.add(ref, job)
        return ref

    async def send_many(self, jobs: Sequence[Contract]) -> list[JobRef]:
        """Enqueue jobs in one stream."""
        refs: list[JobRef] = []
        await asyncio.to_thread(self.system.client.send_many, jobs, on_sent=refs.append)
        for ref, job in zip(refs, jobs, strict=True):
            self.expected.add(ref, job)
        return refs

    async def finish(
        self, refs: Sequence[JobRef], look: Callable[[int], object] | None = None
    ) -> list[JobStatus]:
        """The statuses of the jobs once all have ended.

        Args:
            refs: the jobs.
            look: gets how many have ended, several times a second.

        Raises:
            TooLate: not all of them within a minute.
        """
        left = set(refs)

        def over(found: list[JobRef]) -> bool:
            left.difference_update(found)
            if look:
                look(len(refs) - len(left))
            return not left

        await self._poll(lambda: ended(list(left)), over, "the jobs have ended")
        return await asyncio.to_thread(lambda: [ref.status() for ref in refs])

    async def watch(
        self, refs: Sequence[JobRef], since: float = 0, after: int = 0, act: Act = lambda: None
    ) -> list[JobStatus]:
        """Show how messages end, and the calls since a Unix time; the statuses once all have.

        Args:
            refs: the jobs.
            since: 0 for no calls.
            after: how many have ended when something is done.
            act: what that is.
        """
        waiting = [act]
        with self.screen.bar(len(refs), tr("messages")) as bar:

            def look(ended: int) -> None:
                if waiting and ended >= after:
                    waiting.pop()()
                bar(ended, self.calls(since) if since else ())

            return await self.finish(refs, look)

    async def until(self, predicate: Callable[[], bool], what: str) -> None:
        """Wait for something.

        Raises:
            TooLate: it is not so within a minute.
        """
        await self._poll(predicate, bool, what)

    async def _poll(
        self, read: Callable[[], Found], done: Callable[[Found], bool], what: str
    ) -> Found:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not done(found := await asyncio.to_thread(read)):
            if time.monotonic() > deadline:
                raise TooLate(f"not so: {what}")
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The gateway's answer, as JSON values."""
        return await asyncio.to_thread(self.system.ask, method, path, body, headers)

    async def looks(self, instance: str) -> int:
        """How often DingTalk was asked how an approval stands."""
        job = record.keyed_id(DEFAULT_APP, ApprovalFollow.kind, instance)
        (status,) = await self.finish([self.system.client.job(job)])
        return int((status.result or {}).get("looks", 0))

    async def reach(
        self, campaign: CampaignRef, people: int, look: Callable[[int], object]
    ) -> CampaignStatus:
        """The status of a campaign once so many people are accepted, or once it has ended.

        Args:
            campaign: one that runs.
            people: how many to wait for; for all of them it ends as well.
            look: gets how many there are, several times a second.

        Raises:
            TooLate: not within a minute.
        """

        def reached(status: CampaignStatus) -> bool:
            look(status.accepted)
            return status.state.ended or people <= status.accepted < status.recipients

        return await self._poll(
            campaign.status, reached, f"the campaign has come to {people} people"
        )

    def calls(self, since: float) -> list[Row]:
        """The message calls that DingTalk saw since a Unix time."""
        return self.system.sandbox.calls(since=since, api=SEND_API)
