"""Calls that carry several jobs: those of one content that wait for a slot at the same time."""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    DingTalkError,
    NotFound,
    Permanent,
    Permission,
)
from dingrelay_workers.limiter.grant import Draining, Outage, Parked

BOARDING = 1.0
"""Seconds that a call whose slot has come waits at most for those whom it carries."""

Json = dict[str, Any]

log = get_logger("dingrelay.jobs")


class NoSeat(Exception):
    """The call leaves without this job, which looks for another one."""


class Parted(Exception):
    """DingTalk refused a call for several jobs, perhaps for one of them: each goes alone now."""

    def __init__(self, refusal: DingTalkError) -> None:
        super().__init__(f"a call for several jobs was refused ({refusal}): each is tried alone")


class Seat:
    """One job's part of a call.

    Attributes:
        users: whom it adds to the call.
    """

    __slots__ = ("_answer", "_ride", "users")

    def __init__(self, ride: "Ride") -> None:
        self.users: tuple[str, ...] = ()
        self._ride = ride
        self._answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    @property
    def ride(self) -> "Ride":
        """The call that it is part of."""
        return self._ride

    @property
    def leads(self) -> bool:
        """Whether this job makes the call."""
        return self._ride.leader is self

    def take(self, users: Iterable[str]) -> None:
        """Say whom the job adds.

        Raises:
            NoSeat: the call has left, or has one of them already.
        """
        self._ride.add(self, tuple(users))

    async def departure(self) -> None:
        """Wait until the slot of the call has come.

        Raises:
            Exception: whatever kept it from coming.
            NoSeat: the call leaves without this job.
        """
        await self._ride.departing.wait()
        if self._answer.done():
            self._answer.result()

    def ready(self) -> None:
        """The job has noted that its call leaves."""
        self._ride.expect_no_longer(self)

    async def arrival(self) -> Json:
        """DingTalk's answer to the call.

        Raises:
            Exception: what became of the call instead.
            NoSeat: the call left without this job.
        """
        return await self._answer

    def leave(self) -> None:
        """Give the seat up; what has left stays in the call."""
        self._ride.remove(self)
        if self._answer.done() and not self._answer.cancelled():
            self._answer.exception()  # it is known, whether anybody waited for it or not

    def tell(self, answer: Json | BaseException) -> None:
        """Say what became of the call, once."""
        if self._answer.done():
            return
        if isinstance(answer, BaseException):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)


class Ride:
    """One call, from the moment its slot is waited for until it is answered.

    Attributes:
        costs: what the call costs by unit; the limiter reads it when it asks for the slot.
        leader: the seat of the job that makes the call.
        eager: others wait for a call of this content, so it takes along whom it can.
        boarding: its slot has come, and nobody joins by himself any more.
        departing: set when the slot has come, or won't.
        sealed: set when it is decided whom it carries.
    """

    def __init__(self, users: Iterable[str], *, eager: bool, most: int = USERS_PER_CALL) -> None:
        self.costs = {"calls": 1, "recipients": 0}
        self.eager = eager
        self._most = most
        self.boarding = False
        self.departing = asyncio.Event()
        self.sealed = asyncio.Event()
        self._seats: dict[Seat, None] = {}
        self._users: set[str] = set()
        self._expected: set[Seat] = set()
        self._nobody_expected = asyncio.Event()
        self.leader = Seat(self)
        self.leader.take(users)

    @property
    def room(self) -> int:
        """How many more users the call can take."""
        return max(0, self._most - len(self._users))

    def takes(self, users: Iterable[str]) -> bool:
        """Whether these users can join while the slot is waited for."""
        users = set(users)
        return not self.boarding and len(users) <= self.room and self._users.isdisjoint(users)

    def join(self, users: Iterable[str], *, eager: bool) -> Seat:
        """A seat for a job that found this call by itself."""
        seat = Seat(self)
        seat.take(users)
        self.eager = self.eager or eager
        return seat

    def reserve(self) -> Seat:
        """A seat for a job that is taken along; it says later whom it adds."""
        seat = Seat(self)
        self._seats[seat] = None
        self._expected.add(seat)
        return seat

    def depart(self, paid: int | None) -> None:
        """The slot has come. Who joined after it was paid for stays behind.

        Args:
            paid: recipients that the slot was paid for; None where they cost nothing.
        """
        self.boarding = True
        carried = 0
        for seat in list(self._seats):
            carried += len(seat.users)
            if paid is not None and carried > paid and seat is not self.leader:
                seat.tell(NoSeat())
                self.remove(seat)
        self._expected |= self._seats.keys() - {self.leader}
        self.departing.set()

    async def boarded(self, patience: float) -> None:
        """Wait for those who are expected, so many seconds at most."""
        if self._expected:
            self._nobody_expected.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._nobody_expected.wait()
            except TimeoutError:
                log.warning("left_behind", jobs=len(self._expected))

    def seal(self) -> list[str]:
        """Whom the call carries; those who are still expected stay behind."""
        for seat in list(self._expected):
            seat.tell(NoSeat())
            self.remove(seat)
        self.sealed.set()
        return [user for seat in self._seats for user in seat.users]

    def arrive(self, answer: Json) -> None:
        """DingTalk took the call."""
        for seat in self._seats:
            seat.tell(answer)

    def end(self, error: BaseException, *, left: bool) -> BaseException:
        """The call did not succeed.

        Args:
            error: how the job that makes the call ended.
            left: the call may have left.

        Returns:
            What follows for the job that makes the call.
        """
        others = self._for_others(error, left=left)
        for seat in self._seats:
            if seat is not self.leader:
                seat.tell(others)
        self.departing.set()
        self.sealed.set()
        return others if isinstance(others, Parted) else error

    def _for_others(self, error: BaseException, *, left: bool) -> Exception:
        """What the others make of it: what befell the leader only is not theirs."""
        match error:
            case Permanent() | Permission() | NotFound() if len(self._seats) > 1:
                return Parted(error)
            case DingTalkError() | Parked() | Outage() | Draining() | RedisError():
                return error
            case _ if left:
                return Ambiguous("abandoned", "the job that made the call ended before its answer")
            case _:
                return NoSeat()

    def add(self, seat: Seat, users: tuple[str, ...]) -> None:
        """Let these users be the seat's.

        Raises:
            NoSeat: the call has left, or has one of them already.
        """
        if self.sealed.is_set() or not self._users.isdisjoint(users):
            raise NoSeat
        self._seats[seat] = None
        seat.users = users
        self._users.update(users)
        self.costs["recipients"] = len(self._users)

    def remove(self, seat: Seat) -> None:
        """Forget a seat, unless the call leaves with it."""
        if self.sealed.is_set() or seat not in self._seats:
            return
        del self._seats[seat]
        self._users.difference_update(seat.users)
        self.costs["recipients"] = len(self._users)
        self.expect_no_longer(seat)

    def expect_no_longer(self, seat: Seat) -> None:
        """The seat is ready, or given up."""
        self._expected.discard(seat)
        if not self._expected:
            self._nobody_expected.set()


@dataclass(frozen=True, slots=True)
class Likeness:
    """What jobs have in common that join one another's calls by themselves.

    Attributes:
        waiting: where the jobs of their content wait.
        lane: theirs. No job joins one that has to wait for longer than itself.
    """

    waiting: str
    lane: str


class Rides:
    """The calls of this process that wait for their slots, and the jobs taken along in others'."""

    def __init__(self) -> None:
        self._open: dict[Likeness, Ride] = {}
        self._carried: set[asyncio.Task[object]] = set()
        self._leading: dict[asyncio.Task[object], Likeness] = {}

    async def seat(
        self, alike: Likeness, users: Iterable[str], *, eager: bool, most: int = USERS_PER_CALL
    ) -> Seat:
        """A seat in the call of jobs like this that comes next, or in a new one.

        Args:
            alike: what the job has in common with those that it may join.
            users: whom the job adds.
            eager: the job has waited for a slot before.
            most: users that a call may have.
        """
        while True:
            ride = self._open.get(alike)
            if ride is None or not (ride.boarding or ride.takes(users)):
                eager = eager or alike in self._leading.values()
                ride = self._open[alike] = Ride(users, eager=eager, most=most)
                return ride.leader
            if not ride.boarding:
                return ride.join(users, eager=eager)
            # A moment, and then there is room: more calls at a time would leave less full.
            await ride.sealed.wait()
            eager = True

    def close(self, alike: Likeness, ride: Ride) -> None:
        """Let nobody join the ride any more."""
        if self._open.get(alike) is ride:
            del self._open[alike]

    def carry(
        self, run: Coroutine[Any, Any, object], *, leads: Likeness | None = None
    ) -> asyncio.Task[object]:
        """Run a job that no wake-up brought.

        Args:
            run: its run.
            leads: what it has in common with those for whom it makes the next call; None if it is
                taken along.
        """
        task = asyncio.get_running_loop().create_task(run)
        self._carried.add(task)
        task.add_done_callback(self._carried_out)
        if leads is not None:
            self._leading[task] = leads
        return task

    def idle(self, alike: Likeness) -> bool:
        """Whether no call of jobs like this is to come from this process."""
        return alike not in self._open and alike not in self._leading.values()

    async def finish(self, timeout: float) -> None:
        """Wait for the jobs that were taken along; what still runs then is left to its lease."""
        if self._carried:
            _, late = await asyncio.wait(self._carried, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _carried_out(self, task: asyncio.Task[object]) -> None:
        self._carried.discard(task)
        self._leading.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("job_left", error=type(error).__name__, exc_info=error)
