"""The broker: the lists in Valkey that the product writes, whose messages it loses, repeats, delays and reorders."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dingrelay_simulation.loop import VirtualLoop, in_process
from dingrelay_simulation.network import SERVER
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_workers.store.wakeup import is_wakeup

if TYPE_CHECKING:
    from dingrelay_simulation.worker import SimulatedWorker

LATE = 0.5, 40.0
"""Seconds after which a late message arrives."""
WAY = 0.0005
"""Seconds to a worker."""
RETURNED = 30.0
"""Seconds after which a message of another client comes back that a worker took and did not acknowledge."""


@dataclass
class Message:
    """A message on its way.

    Attributes:
        bare: of another client: it is the job itself, and comes back until it is acknowledged.
        tag: the worker's name of it.
    """

    number: int
    queue: str
    request: dict[str, Any]
    bare: bool
    tag: str = ""


@dataclass
class Manners:
    """Shares of the messages that the broker loses, repeats, brings late."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    reordered: float = 0.0


class Broker:
    """Takes messages from their lists as soon as they are there, and gives them to the workers."""

    def __init__(
        self,
        loop: VirtualLoop,
        valkey: VirtualValkey,
        rng: random.Random,
        manners: Manners,
        read: Callable[[bytes], dict[str, Any]],
    ) -> None:
        self._loop = loop
        self._valkey = valkey
        self._rng = rng
        self._manners = manners
        self._read = read
        self._waiting: deque[Message] = deque()
        self._unacknowledged: dict[int, tuple[Message, SimulatedWorker]] = {}
        self._takers: deque[tuple[asyncio.Future[Message], SimulatedWorker]] = deque()
        self._number = 0
        self.calm = False
        self.late = 0

    def look(self) -> None:
        """Take what was published."""
        for queue, text in self._valkey.take():
            request = self._read(text)
            self._number += 1
            self._publish(Message(self._number, queue, request, not is_wakeup(request)))

    def _publish(self, message: Message) -> None:
        manners, draw = self._manners, self._rng.random()
        if self.calm:
            self._arrive(message)
            return
        if not message.bare and draw < manners.lost:
            return
        if draw < manners.lost + manners.late:
            self._delay(message)
            return
        self._later(WAY, self._arrive, message)
        if self._rng.random() < manners.repeated:
            self._delay(message)

    def _delay(self, message: Message, seconds: float = 0.0) -> None:
        self.late += 1
        # As often within a second as within half a minute: a job is another one by then.
        late = LATE[0] * (LATE[1] / LATE[0]) ** self._rng.random()
        self._later(seconds or late, self._come_late, message)

    def _later(self, seconds: float, act: Callable[[Message], None], message: Message) -> None:
        """Act as the broker, and not as the worker that gave the message back: that one may be killed before."""
        self._loop.call_later(seconds, act, message, context=in_process(SERVER))

    def _come_late(self, message: Message) -> None:
        self.late -= 1
        self._arrive(message)

    @property
    def idle(self) -> bool:
        """Whether no message is on its way or waits, and no job of another client is in a worker's hands."""
        return not (self.late or self._waiting or self._unacknowledged)

    def _arrive(self, message: Message) -> None:
        if self._waiting and self._rng.random() < self._manners.reordered:
            self._waiting.insert(self._rng.randrange(len(self._waiting)), message)
        else:
            self._waiting.append(message)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._takers:
            live = [
                (future, worker)
                for future, worker in self._takers
                if not worker.process.dead and not future.done()
            ]
            self._takers = deque(live)
            ready = [taker for taker in live if not taker[1].process.frozen]
            if not ready:
                return
            taker = self._rng.choice(ready)
            self._takers.remove(taker)
            message = self._waiting.popleft()
            if message.bare:
                self._unacknowledged[message.number] = message, taker[1]
            taker[0].set_result(message)

    async def take(self, worker: "SimulatedWorker") -> Message:
        """The next message for a worker."""
        future: asyncio.Future[Message] = self._loop.create_future()
        self._takers.append((future, worker))
        self._loop.call_soon(self._hand_out)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._come_back(future.result(), 0.0)
            raise

    async def finish(
        self, worker: "SimulatedWorker", message: Message, *, back: bool = False
    ) -> None:
        """A worker is done with a message, or could not work on it."""
        if back:
            self._come_back(message, 1.0)
        else:
            self._unacknowledged.pop(message.number, None)

    def _come_back(self, message: Message, seconds: float) -> None:
        self._unacknowledged.pop(message.number, None)
        self._delay(message, seconds or WAY)

    async def leave(self, worker: "SimulatedWorker") -> None:
        """A worker stops."""

    def lose(self, worker: "SimulatedWorker") -> None:
        """A worker was killed with what it had taken."""
        for message, taker in list(self._unacknowledged.values()):
            if taker is worker:
                self._come_back(message, RETURNED)
