"""The jobs that are measured: texts to one user each, or to many; and how long one waits."""

import time
from collections.abc import Iterator, Sequence
from itertools import count, islice

from testbed import PEOPLE, Testbed, wait_until

from dingrelay_tasks import MessageSend


def text(content: str, users: Sequence[str], *, lane: str = "normal") -> MessageSend:
    """One text to these users."""
    message = {"msgtype": "text", "text": {"content": content}}
    return MessageSend.parse({"lane": lane, "to": {"users": list(users)}, "message": message})


def user(number: int) -> str:
    """One user after the other, again and again."""
    return f"u{number % PEOPLE + 1}"


def distinct(jobs: int, *, first: int = 0) -> Iterator[MessageSend]:
    """So many messages, each with a text of its own, to one user each."""
    return (text(f"text {number}", [user(number)]) for number in range(first, first + jobs))


def same(jobs: int) -> Iterator[MessageSend]:
    """The same text so many times, each time to another user."""
    return (text("one text for all", [f"u{number + 1}"]) for number in range(jobs))


def full(jobs: int, users: int) -> Iterator[MessageSend]:
    """So many messages, each with a text of its own, to so many users each."""
    everybody = (user(number) for number in count())
    for number in range(jobs):
        yield text(f"text {number}", list(islice(everybody, users)), lane="bulk")


def waits(testbed: Testbed, sent: dict[str, float], timeout: float) -> list[float]:
    """Milliseconds from `sent` (user → `time.monotonic`) to the call that brought the message.

    Raises:
        TimeoutError: a user has none within so many seconds.
    """
    wait_until(lambda: all(_call(testbed, user) for user in sent), timeout, pause=1)
    arrivals = {call["id"]: call["monotonic"] for call in testbed.calls()}
    return [(arrivals[_call(testbed, user)] - at) * 1000 for user, at in sent.items()]


def send_at_pace(
    testbed: Testbed, users: Sequence[str], seconds: float, timeout: float
) -> list[float]:
    """The wait of a message to each user, in ms; one leaves every so many seconds."""
    sent: dict[str, float] = {}
    with testbed.client() as client:
        for user in users:
            sent[user] = time.monotonic()
            client.send(text(f"message {user}", [user]))
            time.sleep(max(0.0, seconds - (time.monotonic() - sent[user])))
        return waits(testbed, sent, timeout)


def _call(testbed: Testbed, user: str) -> int:
    """The call that brought a user the message; 0 while there is none."""
    delivered = testbed.sandbox.inbox(user)["delivered"]
    return delivered[0]["call_id"] if delivered else 0
