"""How a worker's messages come from a broker that is a Redis to Celery: kombu's transport, with another way to take them.

What is taken, and that none of it is lost, is in `taking.py`. What is published, and control commands, stay kombu's:
by its own transport any Celery client writes to the same lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.json import loads
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.stdlib import get_logger

from dingrelay_producers import sentinel_transport
from dingrelay_producers.redis_address import SOCKET_TIMEOUT
from dingrelay_producers.store import scripts
from dingrelay_workers.celery_worker.taking import WAIT, Becomes, Taken, Taking
from dingrelay_workers.metrics import MESSAGES_REFUSED

SEVERAL = 20
"""Messages that are taken in one round trip at most."""
ENOUGH = 6
"""Free places for which messages are taken at once; for fewer, others may become free within `PAUSE`."""
PAUSE = 0.003
"""Seconds between two round trips for fewer messages: a busy worker would ask for every message alone."""
RENEW = 5.0
"""Seconds between two renewals of what this worker has taken."""
FULL_PAUSE = 1.0
"""Seconds before a Redis that is full is asked again to wait."""
PRIORITIES_PAUSE = 0.1
"""Seconds between two looks for messages with a priority, where none has had one yet."""
OLD_PAUSE = 30.0
"""Seconds between two looks through kombu's own marks."""
SILENT = (RedisConnectionError, RedisTimeoutError, OSError)
"""Errors of a Redis that is gone or silent."""

log = get_logger("dingrelay.worker")


@dataclass(slots=True)
class QueueWait:
    """A connection over which one list is waited for; `since` is when that began, if it is."""

    source: str
    connection: Any
    socket: int
    since: float | None = None


class OpenedMessage(virtual.Message):
    """A message that can be read as such."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """Open it.

        Raises:
            Exception: whatever its text makes Python and kombu raise; also what kombu would keep for later.
        """
        super().__init__(payload, channel, **options)  # type: ignore[no-untyped-call]
        if self.errors:
            raise ValueError("its body can't be unpacked") from self.errors[0][1]


class QoS(redis.QoS):
    """The messages that were handed out and not acknowledged, by the tags that this worker gave them."""

    channel: Any
    appended = ""
    """Tag of the latest message."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message was handed out."""
        self.appended = delivery_tag
        if delivery_tag in self.channel.taking.held:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        """A message was acknowledged."""
        if not self._finish(delivery_tag, "done"):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A message was refused; with `requeue` it is the next of its queue again."""
        if not self._finish(delivery_tag, "back" if requeue else "refused"):
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Put back nothing: it would be another Celery app's, too."""

    def _finish(self, delivery_tag: str, becomes: Becomes) -> bool:
        """Whether the message was this channel's; there is nothing to do for one that is closed."""
        if delivery_tag in self.channel.taking.held:
            virtual.QoS.ack(self, delivery_tag)
            self.channel.finish(delivery_tag, becomes)
            return True
        return bool(self.channel.closed)


class _Taking:
    """How a channel takes messages, once its transport is on Celery's event loop."""

    QoS: Any = QoS
    Message: Any = OpenedMessage
    connection: Any
    qos: Any
    pool: Any
    closed: bool
    sep: str
    socket_timeout: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self.taking = Taking(self.sep)
        self._commands: Redis | None = None
        self._waits: dict[str, QueueWait] = {}
        # Whether messages may wait: unknown at first.
        self._more = True
        self._silent = False
        self._renew_at = self._take_at = self._wait_at = self._old_at = self._priorities_at = 0.0
        super().__init__(*args, **options)

    @property
    def active_queues(self) -> list[str]:
        """The queues from which kombu is to take messages."""
        return [] if self._hub else list(self.queues)

    @property
    def queues(self) -> Sequence[str]:
        """The queues that are consumed, the most urgent first."""
        queues: Sequence[str] = super().active_queues  # type: ignore[misc]
        return queues

    def fill(self) -> None:
        """Take messages as far as there is room; where none wait, have Redis wait for them."""
        queues, now = self.queues, monotonic()
        self._check_waits(now)
        if now >= self._renew_at and (queues or self.taking.held):
            self._renew(queues, now)
        if not queues:
            return
        while self._more and (room := self._room()):
            if room < ENOUGH:
                # A timer would be late: the loop has decided by now for how long it waits.
                sleep(max(0.0, self._take_at - monotonic()))
            self._more = self._take_messages(queues, room)
            self._take_at = monotonic() + PAUSE
        if self._room() and now >= self._wait_at:
            self._wait_for(self.taking.sources(queues))

    def basic_cancel(self, consumer_tag: str) -> Any:
        """A queue is consumed no longer. What is waited for there ends by itself, and its answer is read."""
        answer = super().basic_cancel(consumer_tag)  # type: ignore[misc]
        for wait in list(self._waits.values()):
            if wait.since is None:
                self._end_unused(wait)
        return answer

    def close(self) -> None:
        """Put back what is not acknowledged. kombu closes a channel more than once."""
        if not self.closed and self._hub and (self._waits or self.taking.held):
            sources = [*self._waits]
            for source in sources:
                self._end_wait(self._waits[source])
            for tag in self.taking.held:
                virtual.QoS.ack(self.qos, tag)
            try:
                self._run(self.taking.close(sources))
                self._redis.connection_pool.disconnect()
            except (RedisError, OSError) as error:
                # Marked messages go back when the marks run out, and wake-ups are published again.
                log.warning("messages_not_put_back", reason=type(error).__name__)
        super().close()  # type: ignore[misc]

    def finish(self, tag: str, becomes: Becomes) -> None:
        """End what this worker has to do with a message."""
        if becomes == "refused":
            MESSAGES_REFUSED.inc()
        if call := self.taking.finish(tag, becomes):
            self._run(call)

    @property
    def _hub(self) -> Any:
        return self.connection and self.connection.hub

    @property
    def _redis(self) -> Redis:
        if self._commands is None:
            # Its connections repeat no command: an answer that is lost ends the channel, which puts back all it had.
            self._commands = Redis(connection_pool=self.pool)
        return self._commands

    def _run(self, call: scripts.Call) -> Any:
        """Run a script, unless Redis has been silent: the next silence would take as long.

        Raises:
            RedisError: Redis refused it, or is silent.
            OSError: the same.
        """
        if self._silent:
            raise RedisConnectionError("Redis does not answer")
        try:
            return scripts.run(self._redis, call)
        except SILENT:
            self._silent = True
            raise

    def _room(self) -> int:
        if not self.qos.can_consume():
            return 0
        room: int | None = self.qos.can_consume_max_estimate()
        return SEVERAL if room is None else min(room, SEVERAL)

    def _take_messages(self, queues: Sequence[str], room: int) -> bool:
        """Take what waits; whether that was as much as there is room for."""
        priorities = (now := monotonic()) >= self._priorities_at
        if priorities:
            self._priorities_at = now + PRIORITIES_PAUSE
        answer = self._run(self.taking.take(queues, room, priorities=priorities))
        messages = self.taking.taken(queues, answer)
        for message in messages:
            self._deliver(message)
        return len(messages) == room

    def _deliver(self, message: Taken) -> None:
        """Hand a message out; a text that can't be opened is refused, whatever is wrong with it."""
        if message.queue not in self.queues:  # no longer
            self.finish(message.tag, "back")
            return
        try:
            payload = loads(message.text.decode())
            payload["properties"]["delivery_tag"] = message.tag
            self.connection.on_message_ready(self, payload, message.queue)
            if self.qos.appended != message.tag:  # its consumer acknowledges nothing
                self.finish(message.tag, "done")
        except (RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - nothing that a text can raise may end a worker
            log.error(  # noqa: TRY400
                "message_refused",
                queue=message.queue,
                bytes=len(message.text),
                reason=f"no message: {type(error).__name__}",
            )
            if self.qos.appended == message.tag:
                self.qos.reject(message.tag)
            else:
                self.finish(message.tag, "refused")

    def _wait_for(self, sources: Sequence[str]) -> None:
        """Have Redis wait for messages in each of these lists."""
        if unknown := [source for source in sources if source not in self._waits]:
            for source in unknown:
                connection = self.pool.get_connection()
                socket = connection._sock.fileno()  # noqa: SLF001 - redis-py has no other name for it
                self._waits[source] = QueueWait(source, connection, socket)
                self._hub.add_reader(socket, self._read_reply, self._waits[source])
            self._run(self.taking.renew(self._waits))
        for source in sources:
            wait = self._waits[source]
            if wait.since is None:
                wait.connection.send_command(*self.taking.wait(source), check_health=False)
                wait.since = monotonic()

    def _read_reply(self, wait: QueueWait) -> None:
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
            self._end_wait(wait)
            if since is not None:
                raise
            return  # an idle connection that Redis has closed
        # Where none came, one with a priority may have.
        self._more = True
        if text is not None:
            message = self.taking.landed(wait.source, text)
            if self._room():
                self._deliver(message)
            else:
                self.finish(message.tag, "back")
        self._end_unused(wait)

    def _check_waits(self, now: float) -> None:
        """Notice a connection that is silent, for which the event loop has no time-out."""
        silence = WAIT + (self.socket_timeout or SOCKET_TIMEOUT)
        for wait in list(self._waits.values()):
            if wait.since is not None and now - wait.since > silence:
                if not wait.connection.can_read(timeout=0):
                    self._silent = True
                    raise RedisConnectionError("Redis does not answer")
                self._read_reply(wait)

    def _end_unused(self, wait: QueueWait) -> None:
        """Close a connection whose queue is consumed no longer."""
        if wait.source.partition(self.sep)[0] not in self.queues:
            self._end_wait(wait)

    def _end_wait(self, wait: QueueWait) -> None:
        del self._waits[wait.source]
        self._hub.remove_reader(wait.socket)
        wait.connection.disconnect()
        self.pool.release(wait.connection)

    def _renew(self, queues: Sequence[str], now: float) -> None:
        self._run(self.taking.renew(self._waits))
        self._renew_at = now + RENEW
        if now >= self._old_at and self.taking.restored(self._run(self.taking.restore_old(queues))):
            self._old_at = now + OLD_PAUSE


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

    def on_readable(self, fileno: Any) -> Any:
        """A control command has come, or an event; one that can't be opened is left."""
        try:
            super().on_readable(fileno)  # type: ignore[misc]
        except (RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - nothing that a text can raise may end a worker
            log.error("control_command_refused", reason=type(error).__name__)  # noqa: TRY400

    def _fill(self) -> None:
        self._turns += 1
        if self._turns == 1:
            return  # kombu subscribes to control commands in this turn: they are not to wait, nor to be missed
        for channel in list(self.channels):
            channel.fill()


class TakingChannel(_Taking, redis.Channel):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A channel to Redis."""


class TakingTransport(_OnLoop, redis.Transport):  # type: ignore[misc]
    """Redis with these channels."""

    Channel = TakingChannel


class SentinelTakingChannel(_Taking, sentinel_transport.SentinelChannel):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The same behind Sentinel."""


class SentinelTakingTransport(_OnLoop, sentinel_transport.SentinelTransport):  # type: ignore[misc]
    """The same behind Sentinel."""

    Channel = SentinelTakingChannel


def install() -> None:
    """Let this process's broker connections use these transports; others are as they were.

    By scheme and not by Celery's `broker_transport`: that would lose the `s` of ``rediss``.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:TakingTransport"
    TRANSPORT_ALIASES[sentinel_transport.ALIAS] = f"{__name__}:SentinelTakingTransport"
