"""RabbitMQ: confirms of what was published, and certificates that are compared with each broker's own name."""

import time
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, pyamqp

from dingrelay_producers.redis_address import TLS_OPTION
from dingrelay_tasks.sentence import en

AMQPS = "amqps"
_KOMBUS = "kombu.transport.pyamqp:SSLTransport"
AWAY = en("RabbitMQ confirms nothing: see its log, it may be short of memory or disk")


class BrokerSilent(TimeoutError):
    """RabbitMQ did not confirm what was published, or refused it."""


class Confirms:
    """The confirms of one channel, while it is used by one thread: all of a batch at once, and not for ever.

    py-amqp can wait for each message by itself, which is a round trip and a write to disk for each. And a
    RabbitMQ with a memory or disk alarm takes nothing and says nothing, as long as that lasts.

    Args:
        channel: py-amqp's. What is published over it from now on is confirmed.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._published = 0
        # Tags by age. What goes to a quorum queue is confirmed later than what goes to none.
        self._open: dict[int, None] = {}
        self._refused = False
        publish = channel.basic_publish

        def counted(*args: Any, **options: Any) -> Any:
            answer = publish(*args, **options)
            self._published += 1
            self._open[self._published] = None
            return answer

        channel.basic_publish = counted
        channel.events["basic_ack"].add(self._acknowledge)
        channel.events["basic_nack"].add(self._refuse)
        channel.confirm_select()

    @classmethod
    def of(cls, channel: Any) -> "Confirms":
        """The confirms of this channel, which are enabled once."""
        confirms: Confirms | None = getattr(channel, "dingrelay_confirms", None)
        if confirms is None:
            confirms = channel.dingrelay_confirms = cls(channel)
        return confirms

    def wait(self, seconds: float) -> None:
        """Return once all is confirmed.

        Raises:
            BrokerSilent: nothing more was confirmed for so many seconds, or something was refused.
            OSError: the connection broke.
        """
        deadline = time.monotonic() + seconds
        while self._open:
            before = len(self._open)
            try:
                self._channel.connection.drain_events(timeout=deadline - time.monotonic())
            except TimeoutError:
                raise BrokerSilent(AWAY) from None
            if len(self._open) < before:
                deadline = time.monotonic() + seconds
            elif time.monotonic() > deadline:
                raise BrokerSilent(AWAY)
        if self._refused:
            self._refused = False
            raise BrokerSilent("RabbitMQ refused a message")

    def _acknowledge(self, tag: int, multiple: bool) -> None:
        self._open.pop(tag, None)
        while multiple and self._open and (oldest := next(iter(self._open))) < tag:
            del self._open[oldest]

    def _refuse(self, tag: int, multiple: bool) -> None:
        self._refused = True
        self._acknowledge(tag, multiple)


class AmqpsTransport(pyamqp.SSLTransport):
    """RabbitMQ over TLS.

    kombu keeps one name for all brokers of a URL, and takes ``localhost`` for an address.
    """

    def establish_connection(self: Any) -> Any:
        """A connection to the broker whose turn it is."""
        client = self.client
        name, ssl, options = client.hostname, client.ssl, client.transport_options
        # They are all passed on to py-amqp, which does not know it.
        client.transport_options = {key: options[key] for key in options if key != TLS_OPTION}
        if isinstance(ssl, dict) and "server_hostname" in ssl:
            client.ssl = {**ssl, "server_hostname": name}
        try:
            return super().establish_connection()  # type: ignore[no-untyped-call]
        finally:
            # kombu has put an address in the place of ``localhost``, for the next time as well.
            client.hostname, client.ssl, client.transport_options = name, ssl, options


def install() -> None:
    """Let kombu find it by its scheme."""
    if TRANSPORT_ALIASES[AMQPS] == _KOMBUS:
        TRANSPORT_ALIASES[AMQPS] = f"{__name__}:AmqpsTransport"
