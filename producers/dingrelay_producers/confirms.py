"""Waits until RabbitMQ has taken what was published: all of a batch at once, and not for ever.

py-amqp can wait for each message by itself, which is a round trip and a write to disk for each. And a
RabbitMQ with a memory or disk alarm takes nothing and says nothing, as long as that lasts.
"""

import time
from typing import Any

AWAY = "RabbitMQ confirms nothing: see its log, it may be short of memory or disk"


class BrokerSilent(TimeoutError):
    """RabbitMQ did not confirm what was published, or refused it."""


class Confirms:
    """The confirms of one channel, while it is used by one thread.

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
        found: Confirms | None = getattr(channel, "dingrelay_confirms", None)
        if found is None:
            found = channel.dingrelay_confirms = cls(channel)
        return found

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
