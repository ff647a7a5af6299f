"""Messages as workers take them from a broker that is a Redis: `Taking` over the simulated network.

In place of Celery's event loop and kombu's channel (`celery_worker/transport.py`): asyncio runs what `Taking` returns.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.store.scripts import round_trip, run_async
from dingrelay_simulation.broker import Message
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.celery_worker.taking import Taken, Taking
from dingrelay_workers.celery_worker.transport import OLD_PAUSE, RENEW
from dingrelay_workers.store.wakeup import is_wakeup

if TYPE_CHECKING:
    from dingrelay_simulation.worker import SimulatedWorker

RECONNECT = 1.0
"""Seconds before a worker that has lost the broker tries again."""
WAIT = 5.0
"""Seconds that Redis waits for a message: longer than for real workers, whose idle waits were most of a quiet run."""
SILENCE = WAIT + 5.0
"""Seconds without an answer after which the broker is lost."""


class Consumer:
    """A worker's connection to the broker, until it breaks."""

    def __init__(self, settings: Settings) -> None:
        self.taking = Taking("\x06\x16")
        self._redis = open_async(
            settings.redis_address, socket_timeout=SILENCE, socket_connect_timeout=SILENCE
        )
        self._landed: deque[Taken] = deque()
        self._waits: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._broken = False
        self._renewing = asyncio.create_task(self._renew())

    async def next(self) -> Taken:
        """The next message.

        Raises:
            RedisError, OSError: the broker is gone.
        """
        while True:
            self._news.clear()
            if self._broken:
                raise ConnectionError("a wait was broken")
            if self._landed:
                return self._landed.popleft()
            answer = await run_async(self._redis, self.taking.take(QUEUES, 1))
            self._landed.extend(self.taking.taken(QUEUES, answer))
            if not self._landed:
                await self._wait()

    async def _wait(self) -> None:
        """Have Redis wait for a message in each queue; until one has come, or may have."""
        sources = self.taking.sources(QUEUES)
        if not self._waits:
            await run_async(self._redis, self.taking.renew(sources))
        for source in sources:
            if source not in self._waits or self._waits[source].done():
                self._waits[source] = asyncio.create_task(self._wait_for(source))
        await self._news.wait()

    async def _wait_for(self, source: str) -> None:
        *command, _ = self.taking.wait(source)
        text: Any = None
        try:
            while text is None:
                (text,) = await round_trip(self._redis, [(*command, WAIT)])
                if isinstance(text, RedisError):
                    raise text
        except (RedisError, OSError):
            self._broken = True
        else:
            self._landed.append(self.taking.landed(source, text))
        self._news.set()

    async def _renew(self) -> None:
        old_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RENEW)
            try:
                await run_async(self._redis, self.taking.renew(self._waits))
                if loop.time() >= old_at:
                    passed = await run_async(self._redis, self.taking.restore_old(QUEUES))
                    old_at = loop.time() + (OLD_PAUSE if self.taking.restored(passed) else 0.0)
            except (RedisError, OSError):
                self._broken = True
                self._news.set()

    async def finish(self, tag: str, *, back: bool) -> None:
        """A message is done with, or the next of its queue again."""
        if tag in self.taking.held and (
            call := self.taking.finish(tag, "back" if back else "done")
        ):
            try:
                await run_async(self._redis, call)
            except (RedisError, OSError):
                self._broken = True
                self._news.set()

    async def close(self, *, orderly: bool) -> None:
        """End it; in order, what is held goes back."""
        for task in (self._renewing, *self._waits.values()):
            task.cancel()
        await asyncio.gather(self._renewing, *self._waits.values(), return_exceptions=True)
        if orderly:
            with suppress(RedisError, OSError):
                await run_async(self._redis, self.taking.close(QUEUES))
        await self._redis.aclose()


class TakingBroker:
    """Redis as the broker: it loses what it forgets, and what killed workers had taken comes back."""

    calm = False

    def __init__(
        self, valkey: VirtualValkey, settings: Settings, read: Callable[[bytes], dict[str, Any]]
    ) -> None:
        self._valkey = valkey
        self._settings = settings
        self._read = read
        self._consumers: dict[SimulatedWorker, Consumer] = {}
        self._number = 0

    def look(self) -> None:
        """Something was published: serve who waits for it."""
        self._valkey.serve_waits()

    @property
    def idle(self) -> bool:
        """Whether no message waits, and none is held by a worker that lives or by one that died."""
        return not self._valkey.call("EXISTS", *QUEUES) and not self._valkey.call(
            "KEYS", "dingrelay:taken:*"
        )

    async def take(self, worker: "SimulatedWorker") -> Message:
        """The next message for a worker."""
        while True:
            consumer = self._consumers.get(worker)
            if consumer is None:
                consumer = self._consumers[worker] = Consumer(self._settings)
            try:
                taken = await consumer.next()
            except (RedisError, OSError):
                await consumer.close(orderly=False)
                del self._consumers[worker]
                await asyncio.sleep(RECONNECT)
                continue
            self._number += 1
            request = self._read(taken.text)
            return Message(self._number, taken.queue, request, not is_wakeup(request), taken.tag)

    async def finish(
        self, worker: "SimulatedWorker", message: Message, *, back: bool = False
    ) -> None:
        """A worker is done with a message, or could not work on it."""
        if consumer := self._consumers.get(worker):
            await consumer.finish(message.tag, back=back)

    async def leave(self, worker: "SimulatedWorker") -> None:
        """A worker stops."""
        if consumer := self._consumers.pop(worker, None):
            await consumer.close(orderly=True)

    def lose(self, worker: "SimulatedWorker") -> None:
        """A worker was killed: Redis knows what it had taken."""
        self._consumers.pop(worker, None)
