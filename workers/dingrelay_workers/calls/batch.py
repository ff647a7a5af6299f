"""A batch: jobs of equal content that share one call."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Json
from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_workers.dingtalk.call_span import SharedCall
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
)
from dingrelay_workers.limiter.grant import Draining, Outage, Parked
from dingrelay_workers.limiter.slot_request import SlotRequest

log = get_logger("dingrelay.jobs")


class BatchClosed(Exception):
    """The call leaves without this job, which looks for another one."""


class BatchSplit(Exception):
    """DingTalk refused a call for several jobs, perhaps for one of them: each goes alone now."""

    def __init__(self, refusal: DingTalkError) -> None:
        super().__init__(f"a call for several jobs was refused ({refusal}): each is tried alone")


@dataclass(frozen=True, slots=True)
class BatchKey:
    """The common part of jobs that share calls by themselves.

    Attributes:
        waiting: where the jobs of their content wait.
        lane: theirs. No job joins one that has to wait for longer than itself.
    """

    waiting: str
    lane: str


class Member:
    """One job's part of a batch.

    Attributes:
        batch: of which it is part.
        users: the people that it adds to the call.
        trace: of the job's run.
    """

    __slots__ = ("_answer", "batch", "trace", "users")

    def __init__(self, batch: "Batch") -> None:
        self.batch = batch
        self.users: tuple[str, ...] = ()
        self.trace = ""
        self._answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    @property
    def sends(self) -> bool:
        """Whether this job makes the call."""
        return self.batch.sender is self

    def add(self, users: Iterable[str]) -> None:
        """Say which people the job adds.

        Raises:
            BatchClosed: the call has left, or has one of them already.
        """
        self.trace = spans.current()
        self.batch.add(self, tuple(users))

    async def slot(self) -> None:
        """Wait until the slot of the call has come.

        Raises:
            Exception: what kept it from coming.
            BatchClosed: the call leaves without this job.
        """
        await self.batch.closed.wait()
        if self._answer.done():
            self._answer.result()

    def ready(self) -> None:
        """The job's intent is written."""
        self.batch.expect_no_longer(self)

    async def answer(self) -> Json:
        """DingTalk's answer to the call.

        Raises:
            Exception: how the call ended instead.
            BatchClosed: the call left without this job.
        """
        return await self._answer

    def leave(self) -> None:
        """Give the part up; what has left stays in the call."""
        self.batch.remove(self)
        if self._answer.done() and not self._answer.cancelled():
            self._answer.exception()  # it is known, whether anybody waited for it or not

    def settle(self, answer: Json | BaseException) -> None:
        """Say how the call ended, once."""
        if self._answer.done():
            return
        if isinstance(answer, BaseException):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)


class Batch:
    """One call, from the moment its slot is waited for until it is answered.

    It is open while it waits for its slot: jobs join. It is closed when the slot has come: those that
    were claimed for it and those that joined write their intents. It is frozen before it leaves.

    Attributes:
        slot_request: asks for the call's slot, for as many people as are in it.
        sender: the part of the job that makes the call.
        eager: others wait for a call of this content, so it claims the jobs that it has room for.
        closed: set when the slot has come, or won't.
        frozen: set when it is decided who is in it.
        call: its traces, once it is frozen.
    """

    def __init__(self, users: Iterable[str], *, eager: bool, most: int = USERS_PER_CALL) -> None:
        self.slot_request = SlotRequest()
        self.eager = eager
        self.closed = asyncio.Event()
        self.frozen = asyncio.Event()
        self.call = SharedCall(())
        self._most = most
        self._members: dict[Member, None] = {}
        self._users: set[str] = set()
        self._expected: set[Member] = set()
        self._nobody_expected = asyncio.Event()
        self.sender = Member(self)
        self.sender.add(users)

    @property
    def room(self) -> int:
        """How many more users the call can take."""
        return max(0, self._most - len(self._users))

    def takes(self, users: Iterable[str]) -> bool:
        """Whether these users can join while the slot is waited for."""
        users = set(users)
        fits = len(users) <= self.room and self._users.isdisjoint(users)
        return fits and not self.closed.is_set()

    def join(self, users: Iterable[str], *, eager: bool) -> Member:
        """A part for a job that found this batch by itself."""
        member = Member(self)
        member.add(users)
        self.eager = self.eager or eager
        return member

    def reserve(self) -> Member:
        """A part for a job that is claimed for it; the job says later which people it adds."""
        member = Member(self)
        self._members[member] = None
        self._expected.add(member)
        return member

    def close(self, paid: int | None) -> None:
        """The slot has come. Members that joined after it was paid for stay behind.

        Args:
            paid: recipients that the slot was paid for; None where they cost nothing.
        """
        carried = 0
        for member in list(self._members):
            carried += len(member.users)
            if paid is not None and carried > paid and member is not self.sender:
                member.settle(BatchClosed())
                self.remove(member)
        self._expected |= self._members.keys() - {self.sender}
        self.closed.set()

    async def members_ready(self, timeout: float) -> None:
        """Wait for the intents of the members, so many seconds at most."""
        if self._expected:
            self._nobody_expected.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._nobody_expected.wait()
            except TimeoutError:
                log.warning("batch_members_late", jobs=len(self._expected))

    def freeze(self) -> list[str]:
        """The users of the call; members that are not ready stay behind."""
        for member in list(self._expected):
            member.settle(BatchClosed())
            self.remove(member)
        self.frozen.set()
        others = [member.trace for member in self._members if member is not self.sender]
        self.call = SharedCall(others)
        return [user for member in self._members for user in member.users]

    def complete(self, answer: Json) -> None:
        """DingTalk took the call."""
        for member in self._members:
            member.settle(answer)

    def fail(self, error: BaseException, *, left: bool) -> BaseException:
        """The call did not succeed.

        Args:
            error: how the job that makes the call ended.
            left: the call may have left.

        Returns:
            What follows for the job that makes the call.
        """
        others = self._for_others(error, left=left)
        for member in self._members:
            if member is not self.sender:
                member.settle(others)
        self.closed.set()
        self.frozen.set()
        return others if isinstance(others, BatchSplit) else error

    def _for_others(self, error: BaseException, *, left: bool) -> Exception:
        """The outcome for the others: an error that is the sender's alone is not theirs."""
        match error:
            case Permanent() | Permission() | NotFound() if len(self._members) > 1:
                return BatchSplit(error)
            case DingTalkError() | Parked() | Outage() | Draining() | RedisError():
                return error
            case _ if left:
                return Ambiguous("abandoned", "the job that made the call ended before its answer")
            case _:
                return BatchClosed()

    def add(self, member: Member, users: tuple[str, ...]) -> None:
        """Let these users be the member's.

        Raises:
            BatchClosed: the call has left, or has one of them already.
        """
        if self.frozen.is_set() or not self._users.isdisjoint(users):
            raise BatchClosed
        self._members[member] = None
        member.users = users
        self._users.update(users)
        self.slot_request.resize(len(self._users))

    def remove(self, member: Member) -> None:
        """Forget a member, unless the call leaves with it."""
        if self.frozen.is_set() or member not in self._members:
            return
        del self._members[member]
        self._users.difference_update(member.users)
        self.slot_request.resize(len(self._users))
        self.expect_no_longer(member)

    def expect_no_longer(self, member: Member) -> None:
        """The member is ready, or given up."""
        self._expected.discard(member)
        if not self._expected:
            self._nobody_expected.set()
