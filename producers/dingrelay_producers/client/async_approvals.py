"""One approval, for asyncio."""

import asyncio

from dingrelay_producers.client.approvals import POLL_SECONDS, ApprovalRef, ApprovalStatus, Patience
from dingrelay_producers.client.async_job import AsyncJobRef
from dingrelay_producers.client.in_threads import InThreads, in_threads, in_threads_as


class AsyncApprovalRef(InThreads[ApprovalRef]):
    """`ApprovalRef` for asyncio: the same calls, carried out in threads."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """DingTalk's id of the instance."""
        return self._blocking.id

    status = in_threads(ApprovalRef.status)
    known = in_threads(ApprovalRef.known)
    look = in_threads_as(AsyncJobRef, ApprovalRef.look)
    terminate = in_threads_as(AsyncJobRef, ApprovalRef.terminate)
    comment = in_threads_as(AsyncJobRef, ApprovalRef.comment)
    agree = in_threads_as(AsyncJobRef, ApprovalRef.agree)
    refuse = in_threads_as(AsyncJobRef, ApprovalRef.refuse)

    async def wait(self, timeout: float = 86_400) -> ApprovalStatus:
        """The status once it has ended; see `ApprovalRef.wait`."""
        patience = Patience(self.id, timeout)
        while not ((status := await self.known()) and status.ended):
            patience.spend(status)
            await asyncio.sleep(POLL_SECONDS)
        return status
