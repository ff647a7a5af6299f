"""Batches: jobs of equal content that share one call, and the calls of this process that they may join."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Json
from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
)
from dingrelay_workers.dingtalk.transport import SharedCall
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.slot import Draining, Outage, Parked, SlotRequest, Turns
from dingrelay_workers.store.records import Claim, Records

LATE = 0.5
"""Seconds after which a wake-up that is not started stands behind many others in its queue."""

log = get_logger("dingrelay.jobs")


class BatchClosed(Exception):
    """The call leaves without this job, which looks for another one."""


class BatchSplit(Exception):
    """DingTalk refused a call for several jobs, perhaps for one of them: each goes alone now."""

    def __init__(self, refusal: DingTalkError) -> None:
        super().__init__(
            en("a call for several jobs was refused ({}): each is tried alone", refusal)
        )


@dataclass(frozen=True, slots=True)
class BatchKey:
    """The common part of jobs that share calls by themselves.

    Attributes:
        waiting: where the jobs of their content wait.
        lane: theirs. No job joins one that has to wait for longer than itself.
    """

    waiting: str
    lane: str


class BatchMember:
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
        self.batch.admit(self, tuple(users))

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
    """One call, from the moment its slot is waited for until it is answered, of one job or of several.

    With a key it is open while it waits for its slot: jobs join. It is closed when the slot has come: those that
    were claimed for it and those that joined write their intents. It is frozen before it leaves.

    Attributes:
        key: what the jobs have in common that may join; None if none may.
        request: asks for the call's slot, for as many people as are in it.
        sender: the part of the job that makes the call.
        eager: others wait for a call of this content, so it claims the jobs that it has room for.
        closed: set when the slot has come, or won't.
        frozen: set when it is decided who is in it.
        call: its traces, once it is frozen.
    """

    def __init__(
        self,
        request: SlotRequest,
        users: Iterable[str] = (),
        *,
        key: BatchKey | None = None,
        eager: bool = False,
        most: int = USERS_PER_CALL,
    ) -> None:
        self.key = key
        self.request = request
        self.eager = eager
        self.closed = asyncio.Event()
        self.frozen = asyncio.Event()
        self.call = SharedCall(())
        self._most = most
        self._members: dict[BatchMember, None] = {}
        self._users: set[str] = set()
        self._expected: set[BatchMember] = set()
        self._nobody_expected = asyncio.Event()
        self.sender = BatchMember(self)
        self._members[self.sender] = None
        if key is not None:
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

    def join(self, users: Iterable[str], *, eager: bool) -> BatchMember:
        """A part for a job that found this batch by itself."""
        member = BatchMember(self)
        member.add(users)
        self.eager = self.eager or eager
        return member

    def reserve(self) -> BatchMember:
        """A part for a job that is claimed for it; the job says later which people it adds."""
        member = BatchMember(self)
        self._members[member] = None
        self._expected.add(member)
        return member

    def seal(self, paid: int | None) -> None:
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

    def admit(self, member: BatchMember, users: tuple[str, ...]) -> None:
        """Let these users be the member's.

        Raises:
            BatchClosed: the call has left, or has one of them already.
        """
        if self.frozen.is_set() or not self._users.isdisjoint(users):
            raise BatchClosed
        self._members[member] = None
        member.users = users
        self._users.update(users)
        self.request.recipients = len(self._users)

    def remove(self, member: BatchMember) -> None:
        """Forget a member, unless the call leaves with it."""
        if self.frozen.is_set() or member not in self._members:
            return
        del self._members[member]
        self._users.difference_update(member.users)
        self.request.recipients = len(self._users)
        self.expect_no_longer(member)

    def expect_no_longer(self, member: BatchMember) -> None:
        """The member is ready, or given up."""
        self._expected.discard(member)
        if not self._expected:
            self._nobody_expected.set()


ClaimedRun = tuple[Claim, BatchMember | None, BatchKey | None]
"""A job that was claimed here without its wake-up, and that is to be run; what is kept for it in the batch that claimed
it; or the key of that batch, if it makes the next call. A job whose turn it is has neither."""


class BatchRegistry:
    """The open batches by what their jobs have in common.

    What it claims goes into a queue, which the executor takes from.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._open: dict[BatchKey, Batch] = {}
        self._claimed: asyncio.Queue[ClaimedRun] = asyncio.Queue()
        self._claiming: set[asyncio.Task[None]] = set()
        self._coming: Counter[BatchKey] = Counter()
        self._late: set[Turns] = set()

    async def join(
        self,
        key: BatchKey,
        users: Iterable[str],
        request: SlotRequest,
        *,
        eager: bool,
        most: int = USERS_PER_CALL,
    ) -> BatchMember:
        """A part of the next call of jobs like this, or of a new one.

        Args:
            key: what the job has in common with those that it may join.
            users: the people that the job adds.
            request: for the slot, if the call is a new one.
            eager: the job has waited for a slot before.
            most: users that a call may have.
        """
        while True:
            batch = self._open.get(key)
            if batch is None or not (batch.closed.is_set() or batch.takes(users)):
                eager = eager or bool(self._coming[key])
                batch = Batch(request, users, key=key, eager=eager, most=most)
                self._open[key] = batch
                return batch.sender
            if not batch.closed.is_set():
                return batch.join(users, eager=eager)
            # A moment, and then there is room: more calls at a time would leave less full.
            await batch.frozen.wait()
            eager = True

    def withdraw(self, batch: Batch) -> None:
        """Close the batch to further jobs."""
        if batch.key is not None and self._open.get(batch.key) is batch:
            del self._open[batch.key]

    async def claim_members(self, batch: Batch, key: BatchKey, bucket: Rule | None) -> None:
        """Claim waiting jobs for a batch whose slot has come, and one that makes the next call.

        Args:
            batch: for which they are claimed.
            key: what they have in common with it.
            bucket: of the recipients, which are taken from it; None if they are not limited.
        """
        self._coming[key] += 1
        claiming = self._begin(self._claim(key, batch, bucket))
        # A claimed job runs even if the job that makes the call is cancelled.
        if batch.room:
            await asyncio.shield(claiming)

    def claim_next(self, key: BatchKey) -> None:
        """Claim the job that makes the next call, unless one is to come from this process.

        A wake-up whose job is already claimed becomes that of a waiting job: otherwise a
        worker would only meet wake-ups of jobs that another one has just claimed.
        """
        if key not in self._open and not self._coming[key]:
            self._coming[key] += 1
            self._begin(self._claim(key, None, None))

    def claim_late(self, turns: Turns, queue: str, most: int) -> None:
        """Claim jobs whose turn it is and whose wake-ups are late: slots come up with no job here.

        Without them, the senders at the head of the queue would have all slots.
        """
        if most > 0 and turns not in self._late:
            self._late.add(turns)
            self._begin(self._claim_late(turns, queue, most))

    async def next_claimed(self) -> ClaimedRun:
        """The next job that is to be run; `ended` is to be called when that is over."""
        return await self._claimed.get()

    def ended(self, key: BatchKey | None) -> None:
        """A job that was claimed has been run."""
        if key is not None:
            self._no_longer_coming(key)

    @property
    def busy(self) -> bool:
        """Whether jobs are being claimed, or are claimed and not taken to be run."""
        return bool(self._claiming) or not self._claimed.empty()

    def _begin(self, claiming: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(claiming)
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)
        return task

    async def _claim(self, key: BatchKey, batch: Batch | None, bucket: Rule | None) -> None:
        """Claim jobs for a batch, if there is one, and the one that makes the next call."""
        jobs, following, room = list[Claim](), None, batch.room if batch else 0
        try:
            jobs, following = await self._records.claim_batch(
                key.waiting, nonce=uuid.uuid4().hex, room=room, lane=key.lane, bucket=bucket
            )
        except RedisError as error:
            log.warning("batch_claim_failed", reason=type(error).__name__)
        for job in jobs:
            self._claimed.put_nowait((job, batch.reserve() if batch else None, None))
        if following:
            self._claimed.put_nowait((following, None, key))
        else:
            self._no_longer_coming(key)

    def _no_longer_coming(self, key: BatchKey) -> None:
        self._coming[key] -= 1
        if not self._coming[key]:
            del self._coming[key]

    async def _claim_late(self, turns: Turns, queue: str, most: int) -> None:
        try:
            found = await self._records.claim_late(
                turns, queue, nonce=uuid.uuid4().hex, most=most, late=LATE
            )
        except RedisError as error:
            log.warning("late_claim_failed", reason=type(error).__name__)
        else:
            for job in found:
                self._claimed.put_nowait((job, None, None))
        finally:
            self._late.discard(turns)
