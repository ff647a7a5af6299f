"""How long messages and other notices wait beside receivers of webhooks that hang, and without them."""

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from figures import Figure, percentile
from messages import text
from testbed import Testbed, wait_until

from dingrelay_producers import Client
from dingrelay_tasks import UserSync

ENDPOINTS = 10
STUCK = 1_000
PEOPLE = STUCK // ENDPOINTS
"""At least: each of them is new in the directory, and each endpoint is told so."""
PACE = 0.1
"""Seconds between two messages."""
LIFTED = {"calls": "", "recipients": ""}


def measure(testbed: Testbed, messages: int) -> list[Figure]:
    """Milliseconds from before the enqueueing to the moment in which DingTalk takes the call.

    Args:
        testbed: where to measure.
        messages: how many, with and without deliveries that hang.
    """
    group = f"messages beside {STUCK:,} webhooks that hang"
    testbed.clear(people=max(PEOPLE, 2 * messages), **LIFTED)
    testbed.sandbox.seed(users=max(PEOPLE, 2 * messages), departments=2)
    with (
        testbed.workers(2, env=testbed.rules(**LIFTED)),
        testbed.client() as client,
        _silent() as url,
    ):
        alone = _waits(testbed, client, messages, first=1)
        for number in range(ENDPOINTS):
            _add(testbed, f"{url}/{number}")
        client.send(UserSync()).wait(timeout=120)
        wait_until(lambda: _stuck(testbed) >= STUCK, 60)
        beside = _waits(testbed, client, messages, first=messages + 1)
        note = f"{messages} messages; {_stuck(testbed):,} deliveries are stuck at the end"
    return [
        Figure(group, "p50", percentile(beside, 50), "ms", at_most=110),
        Figure(group, "p99", percentile(beside, 99), "ms", at_most=250, note=note),
        Figure(group, "without webhooks, p50", percentile(alone, 50), "ms"),
        Figure(group, "without webhooks, p99", percentile(alone, 99), "ms"),
    ]


@contextmanager
def _silent() -> Iterator[str]:
    """A server that takes every connection and says nothing, until the block ends."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in kept:
                connection.close()


def _add(testbed: Testbed, url: str) -> None:
    command = [sys.executable, "-m", "dingrelay_producers.cli", "webhook", "add", url]
    subprocess.run(
        [*command, "--type", "directory.user.*", "--json"],
        env=testbed.environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _stuck(testbed: Testbed) -> int:
    """Deliveries that hang, or wait until their endpoint takes something."""
    with sqlite3.connect(testbed.database) as connection:
        query = "select count(*) from webhook_deliveries where state = 'pending'"
        return int(connection.execute(query).fetchone()[0])


def _waits(testbed: Testbed, client: Client, messages: int, *, first: int) -> list[float]:
    sent: dict[str, float] = {}
    for number in range(messages):
        user = f"u{first + number}"
        sent[user] = time.monotonic()
        client.send(text(f"message {user}", [user]))
        time.sleep(max(0.0, PACE - (time.monotonic() - sent[user])))
    wait_until(lambda: all(_arrived(testbed, user) for user in sent), 60, pause=1)
    arrivals = {call["id"]: call["monotonic"] for call in testbed.calls()}
    return [(arrivals[_arrived(testbed, user)] - at) * 1000 for user, at in sent.items()]


def _arrived(testbed: Testbed, user: str) -> int:
    """The call that brought a user the message; 0 while there is none."""
    delivered = testbed.sandbox.inbox(user)["delivered"]
    return delivered[0]["call_id"] if delivered else 0
