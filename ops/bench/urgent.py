"""How long an urgent message waits while a broadcast fills the same limit."""

import random
import time
from collections.abc import Callable
from itertools import count, islice

from figures import Figure, percentile
from limit_used import CALLS, LIMIT
from messages import text, waits
from testbed import Testbed, wait_until

GROUP = "urgent under a broadcast"
PACE = 0.3
"""Seconds between two urgent messages, on average."""
BACKLOG = 10
"""Seconds of the limit that wait all the time."""
BULK = 1_000
"""The number of the first user who gets messages in bulk."""

Send = Callable[[str, str, str], object]
"""Enqueues a text to a user in a lane."""


def measure(testbed: Testbed, messages: int = 150, *, peer_messages: int = 50) -> list[Figure]:
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


def _ours(testbed: Testbed, messages: int) -> list[float]:
    rules = testbed.clear(calls=CALLS, recipients="")
    with testbed.workers(2, env=rules), testbed.client() as client:
        return _waits(
            testbed,
            messages,
            lambda user, content, lane: client.send(text(content, [user], lane=lane)),
        )


def _fifo(testbed: Testbed, messages: int) -> list[float]:
    testbed.clear(calls=CALLS, recipients="")
    celery = testbed.celery()
    # Few threads: what waits, waits in the queue and in its order.
    with testbed.celery_workers(2, concurrency=4, prefetch=1):
        return _waits(
            testbed,
            messages,
            lambda user, content, lane: celery.send_task("peers.celery.fifo", [user, content]),
        )


def _waits(testbed: Testbed, messages: int, send: Send) -> list[float]:
    """The wait of each urgent message, in ms, in the order in which they were enqueued."""
    numbers = count()

    def fill(jobs: int) -> None:
        for bulk in islice(numbers, jobs):
            send(f"u{BULK + bulk % BULK + 1}", f"bulk {bulk}", "bulk")

    fill(LIMIT * BACKLOG)
    # By then the limit is reached and the queues have formed.
    wait_until(lambda: len(testbed.calls()) >= LIMIT * 2, 60)
    sent: dict[str, float] = {}
    for number in range(messages):
        user = f"u{number + 1}"
        sent[user] = time.monotonic()
        send(user, f"urgent {number}", "urgent")
        fill(round(LIMIT * PACE) - 1)
        # At random moments of DingTalk's second, and no faster than the limit lets through.
        elapsed = time.monotonic() - sent[user]
        time.sleep(max(0.0, random.uniform(0.5, 1.5) * PACE - elapsed))
    return waits(testbed, sent, BACKLOG * 6)
