"""dramatiq: one POST a job. ``python -m peers.dramatiq FIRST COUNT`` enqueues so many."""

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from peers.dingtalk import send

dramatiq.set_broker(RedisBroker(url=os.environ["DINGRELAY_REDIS_URL"]))


@dramatiq.actor
def send_text(user: str, text: str) -> None:
    """Send."""
    send(user, text)


if __name__ == "__main__":
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for number in range(first, first + count):
        send_text.send(f"u{number % 2_000 + 1}", f"text {number}")
