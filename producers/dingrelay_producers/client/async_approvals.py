"""One approval, for asyncio: the same calls as `ApprovalRef`, carried out in threads."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from dingrelay_producers.client.approval_backend import ApprovalStatus
from dingrelay_producers.client.approvals import POLL_SECONDS, ApprovalRef, Patience
from dingrelay_producers.client.async_job import AsyncJobRef

_P = ParamSpec("_P")
_R = TypeVar("_R")


class AsyncApprovalRef:
    """`ApprovalRef` for asyncio: the same calls, carried out in threads."""

    __slots__ = ("_ref",)

    def __init__(self, ref: ApprovalRef) -> None:
        self._ref = ref

    @property
    def id(self) -> str:
        """DingTalk's id of the instance."""
        return self._ref.id

    async def status(self) -> ApprovalStatus:
        """The stored state; see `ApprovalRef.status`."""
        return await self._run(self._ref.status)

    async def wait(self, timeout: float = 86_400) -> ApprovalStatus:
        """The status once it has ended; see `ApprovalRef.wait`."""
        patience = Patience(self.id, timeout)
        while not ((status := await self._run(self._ref.known)) and status.ended):
            patience.spend(status)
            await asyncio.sleep(POLL_SECONDS)
        return status

    async def look(self) -> AsyncJobRef:
        """Ask DingTalk for the current state; see `ApprovalRef.look`."""
        return AsyncJobRef(await self._run(self._ref.look))

    async def terminate(self, reason: str = "", *, user: str | None = None) -> AsyncJobRef:
        """Withdraw it; see `ApprovalRef.terminate`."""
        return AsyncJobRef(await self._run(self._ref.terminate, reason, user=user))

    async def comment(self, text: str, user: str) -> AsyncJobRef:
        """Add a comment; see `ApprovalRef.comment`."""
        return AsyncJobRef(await self._run(self._ref.comment, text, user))

    async def agree(self, user: str, remark: str = "") -> AsyncJobRef:
        """Agree to it; see `ApprovalRef.agree`."""
        return AsyncJobRef(await self._run(self._ref.agree, user, remark))

    async def refuse(self, user: str, remark: str = "") -> AsyncJobRef:
        """Refuse it; see `ApprovalRef.refuse`."""
        return AsyncJobRef(await self._run(self._ref.refuse, user, remark))

    async def _run(self, work: Callable[_P, _R], /, *args: _P.args, **named: _P.kwargs) -> _R:
        return await self._ref.threads.run(self._ref.app, work, *args, **named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncApprovalRef) and other._ref == self._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return f"Async{self._ref!r}"
