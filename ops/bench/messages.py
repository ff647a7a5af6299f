"""The jobs that are measured: texts to one user each, or to many."""

from collections.abc import Iterator, Sequence
from itertools import count, islice

from testbed import PEOPLE

from dingrelay_tasks import MessageSend


def text(
    content: str, users: Sequence[str], *, app: str = "default", lane: str = "normal"
) -> MessageSend:
    """One text to these users."""
    message = {"msgtype": "text", "text": {"content": content}}
    job = {"app": app, "lane": lane, "to": {"users": list(users)}, "message": message}
    return MessageSend.parse(job)


def user(number: int) -> str:
    """One user after the other, again and again."""
    return f"u{number % PEOPLE + 1}"


def distinct(
    jobs: int, *, first: int = 0, apps: Sequence[str] = ("default",), lane: str = "normal"
) -> Iterator[MessageSend]:
    """So many messages, each with a text of its own, to one user each, by one app after the other."""
    for number in range(first, first + jobs):
        app = apps[number % len(apps)]
        yield text(f"text {number}", [user(number)], app=app, lane=lane)


def same(jobs: int) -> Iterator[MessageSend]:
    """The same text so many times, each time to another user."""
    return (text("one text for all", [f"u{number + 1}"]) for number in range(jobs))


def full(jobs: int, users: int) -> Iterator[MessageSend]:
    """So many messages, each with a text of its own, to so many users each."""
    everybody = (user(number) for number in count())
    for number in range(jobs):
        yield text(f"text {number}", list(islice(everybody, users)), lane="bulk")
