"""Batches: each makes one call to DingTalk, for one job or for several of equal content."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from opentelemetry import trace
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Json
from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_workers.calls.errors import BatchClosed, BatchSplit
from dingrelay_workers.calls.exchange import Exchange
from dingrelay_workers.calls.intent_log import IntentLog
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, Api
from dingrelay_workers.dingtalk.classify import request_id_of
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
    TokenInvalid,
)
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import REQUEST_ID, SharedCall
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import JITTER
from dingrelay_workers.limiter.slot import Draining, Outage, Parked, Slot, SlotRequest
from dingrelay_workers.metrics import LIMIT_WAIT_SECONDS

if TYPE_CHECKING:
    from dingrelay_workers.calls.registry import BatchRegistry

MEMBERS_READY_WITHIN = 1.0
"""Seconds that a call whose slot has come waits at most for those who share it."""

log = get_logger("dingrelay.jobs")


@dataclass(frozen=True, slots=True)
class CallingJob:
    """A job that makes calls, and what they leave by.

    Attributes:
        app: for which it calls.
        queue: that its wake-ups come from.
        intents: of its run.
    """

    app: str
    queue: str
    intents: IntentLog
    limiter: Limiter
    batches: "BatchRegistry"
    exchange: Exchange


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
        leave_by: when a call that carries it must be on its way, by the monotonic clock.
    """

    __slots__ = ("_answer", "batch", "leave_by", "trace", "users")

    def __init__(self, batch: "Batch") -> None:
        self.batch = batch
        self.users: tuple[str, ...] = ()
        self.trace = ""
        self.leave_by = inf
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

    async def share(self, request: Request, caller: CallingJob) -> Json:
        """DingTalk's answer to the call, which the job makes itself if it opened the batch.

        Raises:
            BatchSplit: DingTalk refused a call that several jobs shared.
            BatchClosed: the call left without this job.
            Exception: how the call ended instead.
        """
        try:
            with caller.intents.call():
                if self.sends:
                    await self.batch.make(request, caller)
                else:
                    await self.slot()
                    self.ready(await caller.intents.write())
                answer = await self.answer()
        finally:
            if not self.sends:
                spans.link(self.batch.call.trace)
            self.leave()
        if not self.sends:
            _note_request_id(answer)
        return answer

    async def slot(self) -> None:
        """Wait until the slot of the call has come.

        Raises:
            Exception: what kept it from coming.
            BatchClosed: the call leaves without this job.
        """
        await self.batch.closed.wait()
        if self._answer.done():
            self._answer.result()

    def ready(self, leave_by: float = inf) -> None:
        """The job's intent is written, and the call must be on its way by then."""
        self.leave_by = leave_by
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
    were claimed for it and those that joined write their intents. It is frozen before it leaves, and leaves in the time
    of each.

    Attributes:
        key: what the jobs have in common that may join; None if none may.
        request: asks for the call's slot, for as many people as are in it.
        sender: the part of the job that makes the call.
        eager: others wait for a call of this content, so it claims the jobs that it has room for.
        closed: set when the slot has come, or won't.
        frozen: set when it is decided who is in it.
        call: its traces, once it is frozen.
        took_turn: it got the slot for which the job that makes it was woken.
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
        self.took_turn = False
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

    async def make(self, request: Request, caller: CallingJob) -> None:
        """Make the call for all jobs in it: token → slot → fill → intent → exchange → report.

        Raises:
            Exception: how it ended for the job that makes it.
        """
        exchange, api, app = caller.exchange, request.api, caller.app
        answer = token = refused = None
        try:
            # A process that was stopped with its slot, or has lost its token, takes another one in its place; a call
            # whose token DingTalk refused is made again with a new one, once.
            while answer is None:
                await exchange.prepare(api, app, refused)
                try:
                    async with self._slot(api, caller) as slot:
                        if not self.frozen.is_set():
                            if self.key is not None:
                                await self._fill(self.key, slot, caller)
                            users = self.freeze()
                            caller.batches.withdraw(self)
                            request = request.to(users) if users else request
                        token = exchange.token_at_hand(api, app, refused)
                        if token and not caller.limiter.stale(slot):
                            slot.sent = True
                            answer = await exchange.make(
                                request, app, token, caller.intents, self.call, again=bool(refused)
                            )
                except TokenInvalid:
                    refused = token
        except BaseException as error:
            caller.batches.withdraw(self)
            outcome = self.fail(error, sent=caller.intents.open)
            if outcome is error:
                raise
            raise outcome from error
        self.complete(answer)

    @asynccontextmanager
    async def _slot(self, api: Api, caller: CallingJob) -> AsyncGenerator[Slot]:
        """A slot, whose end is reported to the limiter once.

        Raises:
            limiter.Parked: it is too far away to wait for it here.
            limiter.Outage: the API is out, or the app held.
        """
        request, limiter, began = self.request, caller.limiter, time.monotonic()
        try:
            slot = await limiter.acquire(request)
        finally:
            caller.batches.claim_late(request.turns, caller.queue, limiter.wanted(request))
        LIMIT_WAIT_SECONDS.labels(api.name, request.turns.lane).observe(time.monotonic() - began)
        if request.woken:
            self.took_turn, request.woken = True, ""
        try:
            yield slot
        except BaseException as error:
            await limiter.report(slot, error)
            raise
        await limiter.report(slot)

    async def _fill(self, key: BatchKey, slot: Slot, caller: CallingJob) -> None:
        """The slot has come: claim those who wait for a call like this one, and wait for all."""
        bucket = caller.limiter.recipients_rule(caller.app, MESSAGE_SEND.name)
        self.seal(slot.paid if bucket else None)
        if (slot.waited or self.eager) and not slot.trial:
            await caller.batches.claim_members(self, key, bucket)
        # Recipients are counted when they arrive: they may not be much later than their tokens.
        await self.members_ready(JITTER if bucket else MEMBERS_READY_WITHIN)

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
        """The users of the call; members that are not ready, or whose time is over, stay behind."""
        now = time.monotonic()
        late = [member for member in self._members if member.leave_by <= now]
        for member in [*self._expected, *late]:
            member.settle(BatchClosed())
            self.remove(member)
        self.frozen.set()
        traces = [member.trace for member in self._members if member is not self.sender]
        self.call = SharedCall(traces, leave_by=min(member.leave_by for member in self._members))
        return [user for member in self._members for user in member.users]

    def complete(self, answer: Json) -> None:
        """DingTalk took the call."""
        for member in self._members:
            member.settle(answer)

    def fail(self, error: BaseException, *, sent: bool) -> BaseException:
        """The call did not succeed.

        Args:
            error: how the job that makes the call ended.
            sent: the call may have left.

        Returns:
            What follows for the job that makes the call.
        """
        member_error = self._error_of_members(error, sent=sent)
        for member in self._members:
            if member is not self.sender:
                member.settle(member_error)
        self.closed.set()
        self.frozen.set()
        return member_error if isinstance(member_error, BatchSplit) else error

    def _error_of_members(self, error: BaseException, *, sent: bool) -> Exception:
        """The outcome for the others: an error that is the sender's alone is not theirs."""
        match error:
            case Permanent() | Permission() | NotFound() if len(self._members) > 1:
                return BatchSplit(error)
            case DingTalkError() | Parked() | Outage() | Draining() | RedisError():
                return error
            case _ if sent:
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
        self.request.ask_for(len(self._users))

    def remove(self, member: BatchMember) -> None:
        """Forget a member, unless the call leaves with it."""
        if self.frozen.is_set() or member not in self._members:
            return
        del self._members[member]
        self._users.difference_update(member.users)
        self.request.ask_for(len(self._users))
        self.expect_no_longer(member)

    def expect_no_longer(self, member: BatchMember) -> None:
        """The member is ready, or given up."""
        self._expected.discard(member)
        if not self._expected:
            self._nobody_expected.set()


def _note_request_id(answer: Json) -> None:
    """Add the request id of a call that another job made to this job's trace."""
    span = trace.get_current_span()
    if span.is_recording() and (request_id := request_id_of(answer)):
        span.set_attribute(REQUEST_ID, request_id)
