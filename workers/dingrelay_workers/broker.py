"""The Redis transport of the workers' broker, relieved of what a wake-up does not need.

kombu notes each message that it hands out, and takes the note back when it is acknowledged: two
round trips a message. A wake-up is no loss, since its job has a record and what is on the schedule
is published again. The message of another client is the job itself, and is noted.
"""

from collections import OrderedDict
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

from dingrelay_producers.publisher import WOKEN_HEADER


class QoS(redis.QoS):
    """The messages that were handed out and not acknowledged."""

    _delivered: OrderedDict[str, Any]

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message was handed out."""
        if _is_wakeup(message):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        """A message was acknowledged."""
        if self._holds_wakeup(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """A message was refused; with `requeue` it goes back to the head of its queue."""
        if not self._holds_wakeup(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]
            return
        if requeue:
            self._put_back([self._delivered[delivery_tag]])
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Put everything back: the channel closes."""
        wakeups = [message for message in self._delivered.values() if _is_wakeup(message)]
        self._put_back(wakeups)
        for message in wakeups:
            del self._delivered[message.delivery_tag]
        super().restore_unacked(client)  # type: ignore[no-untyped-call]

    def _put_back(self, messages: list[Any]) -> None:
        with self.pipe_or_acquire() as pipe:
            for message in messages:
                info = message.delivery_info
                self.channel._do_restore_message(  # noqa: SLF001 - what kombu's own QoS calls
                    message._raw,  # noqa: SLF001
                    info["exchange"],
                    info["routing_key"],
                    pipe,
                )
            pipe.execute()

    def _holds_wakeup(self, delivery_tag: str) -> bool:
        message = self._delivered.get(delivery_tag)
        return message is not None and _is_wakeup(message)


def _is_wakeup(message: Any) -> bool:
    return isinstance(message.headers, dict) and WOKEN_HEADER in message.headers


class Channel(redis.Channel):
    """A channel that takes notes only of what would be lost."""

    QoS = QoS


class Transport(redis.Transport):
    """Redis with these channels."""

    Channel = Channel


class SentinelChannel(redis.SentinelChannel):
    """The same behind Sentinel."""

    QoS = QoS


class SentinelTransport(redis.SentinelTransport):
    """The same behind Sentinel."""

    Channel = SentinelChannel


def install() -> None:
    """Let this process's broker connections use these transports; others are as they were.

    By scheme and not by Celery's `broker_transport`: that would lose the `s` of ``rediss``.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
