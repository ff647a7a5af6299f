"""RabbitMQ's confirms, in any order, one by one or many at once."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.rabbitmq import BrokerSilent, Confirms


class Channel:
    """A channel like py-amqp's: it delivers the server's answers when it waits for events."""

    def __init__(self) -> None:
        self.events: dict[str, set[Callable[[int, bool], None]]] = defaultdict(set)
        self.answers: list[tuple[str, int, bool]] = []
        self.connection = self

    def basic_publish(self, *args: Any) -> None: ...

    def confirm_select(self) -> None: ...

    def drain_events(self, timeout: float) -> None:
        if not self.answers:
            raise TimeoutError
        name, tag, multiple = self.answers.pop(0)
        for callback in self.events[name]:
            callback(tag, multiple)


@given(st.data())
def test_all_is_confirmed_in_whatever_order(data: st.DataObject) -> None:
    channel = Channel()
    confirms = Confirms.of(channel)
    count = data.draw(st.integers(1, 12))
    for _ in range(count):
        channel.basic_publish()
    left = set(range(1, count + 1))
    while left:
        tag, multiple = data.draw(st.sampled_from(sorted(left))), data.draw(st.booleans())
        left -= {each for each in left if each <= tag} if multiple else {tag}
        channel.answers.append(("basic_ack", tag, multiple))
    forgotten = channel.answers.pop()
    with pytest.raises(BrokerSilent):
        confirms.wait(0.01)
    channel.answers.append(forgotten)
    confirms.wait(0.01)
    assert Confirms.of(channel) is confirms


def test_a_refused_message_is_an_error_once() -> None:
    channel = Channel()
    confirms = Confirms.of(channel)
    channel.basic_publish()
    channel.answers.append(("basic_nack", 1, False))
    with pytest.raises(BrokerSilent, match="refused"):
        confirms.wait(1)
    confirms.wait(1)
