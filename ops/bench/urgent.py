"""How long an urgent message waits while a broadcast fills the same limit, or a campaign does."""

import random
import time
from collections.abc import Callable
from itertools import count, islice

import broadcast
from figures import Figure, percentile
from limit_used import CALLS, LIMIT
from messages import text
from punctuality import LIMITS
from testbed import Testbed, wait_until

GROUP = "urgent under a broadcast"
CAMPAIGN_GROUP = "urgent under a campaign"
PACE = 0.3
"""Seconds between two urgent messages, on average."""
BACKLOG = 10
"""Seconds of the limit that wait all the time."""
URGENT, BULK = 0, 1_000
"""The numbers of the first users who get urgent messages, and messages in bulk."""

Send = Callable[[str, str, str], object]
"""Enqueues a text to a user in a lane."""
Fill = Callable[[int], object]
"""Sees to it that so many more calls are wanted in bulk."""


def measure(testbed: Testbed, messages: int, *, peer_messages: int) -> list[Figure]:
    """Milliseconds from before the enqueueing to the moment in which DingTalk takes the call.

    Args:
        testbed: where to measure.
        messages: how many urgent ones of ours.
        peer_messages: how many through Celery, first in, first out; 0 for none.
    """
    ours = _ours(testbed, messages)
    figures = [
        Figure(GROUP, "p50", percentile(ours, 50), "ms", at_most=110),
        Figure(GROUP, "p99", percentile(ours, 99), "ms", at_most=250, note=f"{messages} messages"),
    ]
    if peer_messages:
        fifo = _fifo(testbed, peer_messages)
        note = f"{peer_messages} messages, behind {BACKLOG} s of others"
        for part in (50, 99):
            name = f"first-in-first-out Celery, p{part}"
            figures.append(Figure(GROUP, name, percentile(fifo, part), "ms", note=note))
    return figures


def under_campaign(testbed: Testbed, messages: int) -> list[Figure]:
    """The same while a campaign fills the limits of calls and of recipients.

    Args:
        testbed: where to measure.
        messages: how many urgent ones.
    """
    people = int(LIMIT * (messages * PACE + BACKLOG)) * broadcast.A_CALL
    testbed.clear(people=BULK + people, **LIMITS)
    created = broadcast.create(testbed, "broadcast", people, first=BULK + 1)
    with testbed.workers(2, env=testbed.rules(**LIMITS)), testbed.client() as client:
        broadcast.move(testbed, "start", created)

        def send(user: str, content: str, lane: str) -> object:
            return client.send(text(content, [user], lane=lane))

        waits = _waits(testbed, messages, send, lambda calls: None)
        goes = broadcast.row(testbed, created)["state"]
        broadcast.move(testbed, "cancel", created)
    note = f"{messages} messages, and then it is {goes}"
    return [
        Figure(CAMPAIGN_GROUP, "p50", percentile(waits, 50), "ms", at_most=110),
        Figure(CAMPAIGN_GROUP, "p99", percentile(waits, 99), "ms", at_most=250, note=note),
    ]


def _ours(testbed: Testbed, messages: int) -> list[float]:
    testbed.clear(calls=CALLS, recipients="")
    rules = testbed.rules(calls=CALLS, recipients="")
    with testbed.workers(2, env=rules), testbed.client() as client:

        def send(user: str, content: str, lane: str) -> object:
            return client.send(text(content, [user], lane=lane))

        return _waits(testbed, messages, send, _bulk(send))


def _fifo(testbed: Testbed, messages: int) -> list[float]:
    testbed.clear(calls=CALLS, recipients="")
    celery = testbed.celery()
    # Few threads: what waits, waits in the queue and in its order.
    with testbed.celery_workers(2, "peers.fifo", concurrency=4):

        def send(user: str, content: str, lane: str) -> object:
            return celery.send_task("peers.fifo.send_text", [user, content])

        return _waits(testbed, messages, send, _bulk(send))


def _bulk(send: Send) -> Fill:
    """Fills with messages in bulk."""
    numbers = count()

    def fill(jobs: int) -> None:
        for bulk in islice(numbers, jobs):
            send(f"u{BULK + bulk % BULK + 1}", f"bulk {bulk}", "bulk")

    return fill


def _waits(testbed: Testbed, messages: int, send: Send, fill: Fill) -> list[float]:
    """The wait of each urgent message, in ms, in the order in which they were enqueued."""
    fill(LIMIT * BACKLOG)
    # By then the limit is reached and the lines have formed.
    wait_until(lambda: len(testbed.calls()) >= LIMIT * 2, 60)
    sent: dict[str, float] = {}
    for number in range(messages):
        user = f"u{URGENT + number + 1}"
        sent[user] = time.monotonic()
        send(user, f"urgent {number}", "urgent")
        fill(round(LIMIT * PACE) - 1)
        # At random moments of DingTalk's second, and no faster than the limit lets through.
        elapsed = time.monotonic() - sent[user]
        time.sleep(max(0.0, random.uniform(0.5, 1.5) * PACE - elapsed))
    wait_until(lambda: all(_arrived(testbed, user) for user in sent), BACKLOG * 6, pause=1)
    arrivals = {call["id"]: call["monotonic"] for call in testbed.calls()}
    return [(arrivals[_arrived(testbed, user)] - at) * 1000 for user, at in sent.items()]


def _arrived(testbed: Testbed, user: str) -> int:
    """The call that brought a user the message; 0 while there is none."""
    delivered = testbed.sandbox.inbox(user)["delivered"]
    return delivered[0]["call_id"] if delivered else 0
