"""How a worker takes messages from a broker that is a Redis: none of them is ever in a socket only.

kombu pops a message, and marks it as taken by a second command: what is popped into a dying connection is
lost. Here Redis does both in one step. What waits already is taken by a script, several messages at a time.
Where nothing waits, one ``BLMOVE`` a queue moves the next message to the list of those that this worker has taken.
A worker renews its lists; those of one that is gone go back to their queues. What is published, and control
commands, stay kombu's: by its own transport any Celery client writes to the same lists.

A wake-up needs no mark, since its job has a record and is on the schedule: taking it costs no write but the pop.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.json import loads
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from structlog.stdlib import get_logger

from dingrelay_producers import sentinel_transport
from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_producers.redis_address import SOCKET_TIMEOUT
from dingrelay_producers.store import keys, scripts

SEVERAL = 20
"""Messages that are taken in one round trip at most."""
ENOUGH = 6
"""Free places for which messages are taken at once; for fewer, others may become free within `PAUSE`."""
PAUSE = 0.003
"""Seconds between two round trips for fewer messages: a busy worker would ask for every message alone."""
WAIT = 1
"""Seconds that Redis waits for a message at most."""
RENEW = 5.0
"""Seconds between two renewals of what this worker has taken."""
LEASE_MS = 30_000
"""How long it belongs to this worker without renewal."""
FULL_PAUSE = 1.0
"""Seconds before a Redis that is full is asked again to wait."""
PRIORITIES = range(1, 10)
"""Priorities of Celery's messages."""
GATHERED = 100
"""Messages of one such list that are moved at once."""
OLD_MESSAGES = 300.0
"""Seconds between two looks for what kombu's own transport marked as taken, in 0.2.0 for instance."""

WAKEUP = f'"{WOKEN_HEADER}"'.encode()
"""Marker of wake-ups, which no other message holds: in a text the quotes would be escaped."""

_TAKE = scripts.Script.load("dingrelay_workers.celery_worker", "take_messages")
_KEEP = scripts.Script.load("dingrelay_workers.celery_worker", "keep_taken")

log = get_logger("dingrelay.worker")


@dataclass(slots=True)
class Taken:
    """A message that was taken: as it was in its queue, and whether Redis has it marked as such."""

    queue: str
    text: bytes
    marked: bool


@dataclass(slots=True)
class QueueWait:
    """A connection over which one queue is waited for; `since` is when that began, if it is."""

    queue: str
    connection: Any
    socket: int
    since: float | None = None


class QoS(redis.QoS):
    """The messages that were handed out and not acknowledged.

    Attributes:
        arriving: the message that is being handed out, until it is here.
        held: the messages by their delivery tags.
    """

    channel: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self.arriving: Taken | None = None
        self.held: dict[str, Taken] = {}

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message was handed out."""
        if self.arriving is None:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]
            return
        self.held[delivery_tag], self.arriving = self.arriving, None
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """A message was acknowledged."""
        if taken := self.held.pop(delivery_tag, None):
            virtual.QoS.ack(self, delivery_tag)
            self.channel.forget(taken)
        elif not self.channel.closed:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A message was refused; with `requeue` it goes back to the head of its queue."""
        if taken := self.held.pop(delivery_tag, None):
            virtual.QoS.ack(self, delivery_tag)
            (self.channel.give_back if requeue else self.channel.forget)(taken)
        elif not self.channel.closed:
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Put back what kombu's own transport marked and a dead worker left; a Redis that is full lets it wait."""
        with suppress(ResponseError):
            super().restore_visible(*args, **options)  # type: ignore[no-untyped-call]

    def release(self) -> list[Taken]:
        """Forget all that is held; what Redis has no mark of, the newest first."""
        held, self.held = self.held, {}
        for tag in held:
            virtual.QoS.ack(self, tag)
        return [taken for taken in reversed(held.values()) if not taken.marked]


class _Taking:
    """How a channel takes messages, once its transport is on Celery's event loop."""

    QoS: Any = QoS
    connection: Any
    qos: Any
    pool: Any
    closed: bool
    sep: str
    socket_timeout: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self._owner = uuid4().hex
        self._commands: Redis | None = None
        self._lists: dict[str, str] = {}
        self._waits: dict[str, QueueWait] = {}
        self._unmark: list[Taken] = []
        # Whether messages may wait: unknown at first.
        self._more = True
        self._pausing = False
        self._renew_at = self._take_at = self._wait_at = self._old_at = 0.0
        super().__init__(*args, **options)

    @property
    def active_queues(self) -> list[str]:
        """The queues from which kombu is to take messages."""
        return [] if self._hub else list(self.queues)

    @property
    def queues(self) -> Sequence[str]:
        """The queues that are consumed, the most urgent first."""
        found: Sequence[str] = super().active_queues  # type: ignore[misc]
        return found

    def fill(self) -> None:
        """Take messages as far as there is room; where none wait, have Redis wait for them."""
        queues, now = self.queues, monotonic()
        if not queues:
            return
        self._check_waits(now)
        if now >= self._renew_at:
            self._renew(queues, now)
        while self._more and (room := self._room()):
            if room < ENOUGH and now < self._take_at:
                self._pause()
                return
            self._more = self._take(queues, room)
            self._take_at = monotonic() + PAUSE
        if self._room() and now >= self._wait_at:
            for queue in queues:
                self._wait_for(queue)

    def basic_cancel(self, consumer_tag: str) -> Any:
        """A queue is consumed no longer."""
        answer = super().basic_cancel(consumer_tag)  # type: ignore[misc]
        for queue in set(self._waits).difference(self.queues):
            self._end(self._waits[queue])
        return answer

    def close(self) -> None:
        """Put back what is not acknowledged. kombu closes a channel more than once."""
        if not self.closed and self._hub:
            for wait in list(self._waits.values()):
                self._end(wait)
            try:
                self._put_back()
            except (RedisError, OSError) as error:
                # Marked messages go back when the marks run out, and wake-ups are published again.
                log.warning("messages_not_put_back", reason=type(error).__name__)
        super().close()  # type: ignore[misc]

    def forget(self, taken: Taken) -> None:
        """A message is done with."""
        if taken.marked:
            self._redis.lrem(self._list(taken.queue), -1, taken.text)  # type: ignore[arg-type]

    def give_back(self, taken: Taken) -> None:
        """Put a message back, as the next one of its queue."""
        with self._redis.pipeline() as pipe:
            if taken.marked:
                pipe.lrem(self._list(taken.queue), -1, taken.text)  # type: ignore[arg-type]
            pipe.rpush(taken.queue, taken.text)
            pipe.execute()

    @property
    def _hub(self) -> Any:
        return self.connection and self.connection.hub

    @property
    def _redis(self) -> Redis:
        if self._commands is None:
            # Its connections repeat no command: an answer that is lost ends the channel, which puts back all it had.
            self._commands = Redis(connection_pool=self.pool)
        return self._commands

    def _list(self, queue: str) -> str:
        """Key of the list of a queue's messages that this worker has taken."""
        return self._lists.setdefault(queue, keys.taken(self._owner, queue))

    def _room(self) -> int:
        if not self.qos.can_consume():
            return 0
        room: int | None = self.qos.can_consume_max_estimate()
        return SEVERAL if room is None else min(room, SEVERAL)

    def _take(self, queues: Sequence[str], room: int) -> bool:
        """Take what waits; whether that was as much as there is room for."""
        lists = [self._list(queue) for queue in queues]
        unmark, self._unmark = self._unmark, []
        done = [part for each in unmark for part in (self._list(each.queue), each.text)]
        call = _TAKE.call([*queues, *lists], [room, WAKEUP, *done])
        found = scripts.run(self._redis, call)
        for each in unmark:
            each.marked = False
        for index, text in zip(found[::2], found[1::2], strict=True):
            self._deliver(Taken(queues[int(index) - 1], text, WAKEUP not in text))
        return len(found) == 2 * room

    def _pause(self) -> None:
        """Have `fill` called again when more places may be free."""

        def end() -> None:
            self._pausing = False
            self._take_at = 0.0

        if not self._pausing:
            self._pausing = True
            self._hub.call_later(PAUSE, end)

    def _deliver(self, taken: Taken) -> None:
        """Hand a message out. What is no message of kombu's is refused, and gone."""
        self.qos.arriving = taken
        try:
            self.connection.on_message_ready(self, loads(taken.text.decode()), taken.queue)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("message_refused", reason=f"no message: {type(error).__name__}")  # noqa: TRY400
        if self.qos.arriving is taken:
            self.qos.arriving = None
            self.forget(taken)

    def _wait_for(self, queue: str) -> None:
        wait = self._waits.get(queue)
        if wait is None:
            connection = self.pool.get_connection()
            socket = connection._sock.fileno()  # noqa: SLF001 - redis-py has no other name for it
            wait = self._waits[queue] = QueueWait(queue, connection, socket)
            self._hub.add_reader(wait.socket, self._answered, wait)
        if wait.since is None:
            wait.connection.send_command(
                "BLMOVE", queue, self._list(queue), "RIGHT", "LEFT", WAIT, check_health=False
            )
            wait.since = monotonic()

    def _answered(self, wait: QueueWait) -> None:
        """Redis has moved a message, or waited in vain."""
        since, wait.since = wait.since, None
        try:
            text: bytes | None = wait.connection.read_response()
        except OutOfMemoryError:
            # A move counts as a write that may need memory, unlike a pop.
            self._more, self._wait_at = True, monotonic() + FULL_PAUSE
            return
        except ResponseError:
            raise
        except (RedisError, OSError):
            self._end(wait)
            if since is not None:
                raise
            return  # an idle connection that Redis has closed
        if text is None:
            return
        taken = Taken(wait.queue, text, marked=True)
        self._more = True
        if not self._room() or wait.queue not in self.queues:
            self.give_back(taken)
            return
        self._deliver(taken)
        if WAKEUP in text:
            self._unmark.append(taken)

    def _check_waits(self, now: float) -> None:
        """Notice a connection that is silent, for which the event loop has no time-out."""
        silence = WAIT + (self.socket_timeout or SOCKET_TIMEOUT)
        for wait in list(self._waits.values()):
            if wait.since is not None and now - wait.since > silence:
                if not wait.connection.can_read(timeout=0):
                    raise RedisConnectionError("Redis does not answer")
                self._answered(wait)

    def _end(self, wait: QueueWait) -> None:
        del self._waits[wait.queue]
        self._hub.remove_reader(wait.socket)
        wait.connection.disconnect()

    def _renew(self, queues: Sequence[str], now: float) -> None:
        for queue in queues:
            self._list(queue)
        scripts.run(self._redis, self._kept())
        self._renew_at = now if self._gather(queues) else now + RENEW
        if now >= self._old_at:
            self._old_at = now + OLD_MESSAGES
            self.qos.restore_visible(num=100, interval=1)

    def _gather(self, queues: Sequence[str]) -> bool:
        """Move what other clients have published with a priority into its queue; whether to look again at once."""
        lists = {f"{queue}{self.sep}{number}": queue for number in PRIORITIES for queue in queues}
        if not self._redis.exists(*lists):
            return False
        try:
            for name, queue in lists.items():
                for _ in range(GATHERED):
                    if self._redis.lmove(name, queue, "RIGHT", "LEFT") is None:
                        break
        except OutOfMemoryError:  # a move counts as a write
            return False
        return True

    def _put_back(self) -> None:
        unmarked = self.qos.release()
        scripts.run(self._redis, self._kept(closes=True))
        for taken in unmarked:
            self._redis.rpush(taken.queue, taken.text)
        self._redis.connection_pool.disconnect()

    def _kept(self, *, closes: bool = False) -> scripts.Call:
        return _KEEP.call([keys.TAKEN, *self._lists.values()], [LEASE_MS, int(closes)])


class _OnLoop:
    """A transport on Celery's event loop; without one, it does what kombu's does.

    Attributes:
        hub: the event loop.
    """

    hub: Any = None
    channels: list[Any]
    _turns = 0

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Take messages from now on."""
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        self.hub = loop
        loop.on_tick.add(self._fill)

    def close_connection(self, connection: Any) -> None:
        """Take no more."""
        if self.hub:
            self.hub.on_tick.discard(self._fill)
        super().close_connection(connection)  # type: ignore[misc]

    def _fill(self) -> None:
        self._turns += 1
        if self._turns == 1:
            return  # kombu subscribes to control commands in this turn: they are not to wait, nor to be missed
        for channel in list(self.channels):
            channel.fill()


class TakingChannel(_Taking, redis.Channel):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A channel to Redis."""


class TakingTransport(_OnLoop, redis.Transport):
    """Redis with these channels."""

    Channel = TakingChannel


class SentinelTakingChannel(_Taking, sentinel_transport.SentinelChannel):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The same behind Sentinel."""


class SentinelTakingTransport(_OnLoop, sentinel_transport.SentinelTransport):
    """The same behind Sentinel."""

    Channel = SentinelTakingChannel


def install() -> None:
    """Let this process's broker connections use these transports; others are as they were.

    By scheme and not by Celery's `broker_transport`: that would lose the `s` of ``rediss``.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:TakingTransport"
    TRANSPORT_ALIASES[sentinel_transport.ALIAS] = f"{__name__}:SentinelTakingTransport"
