"""CPU time of one job in the worker, beside a bare Celery no-op on the same transport."""

import time
from collections.abc import Iterator

from celery import Celery
from figures import Figure
from stand import PEOPLE, Stand, cpu_seconds, wait_until

from dingrelay_tasks import MessageSend

GROUP = "worker CPU per job"


def measure(stand: Stand, jobs: int) -> list[Figure]:
    """Two figures in ms a job, and their ratio.

    Args:
        stand: where to measure.
        jobs: how many of each.
    """
    bare = _bare(stand, jobs)
    ours = _ours(stand, jobs)
    return [
        Figure(GROUP, "bare Celery no-op", bare * 1000, "ms"),
        Figure(GROUP, "dingrelay message-send", ours * 1000, "ms"),
        Figure(GROUP, "dingrelay ÷ bare Celery", ours / bare),
    ]


def _bare(stand: Stand, jobs: int) -> float:
    stand.clear()
    celery = Celery(broker=stand.redis_url, set_as_current=False)
    with stand.workers(1, app="peers.noop", concurrency=32, options=()) as workers:
        before = cpu_seconds(workers)
        for number in range(jobs):
            celery.send_task("peers.noop.noop", args=[f"u{number}", f"text {number}"])
        wait_until(lambda: celery_queue_empty(celery), 120)
        # The last ones have left the queue; they take no longer than a moment.
        time.sleep(0.5)
        return (cpu_seconds(workers) - before) / jobs


def celery_queue_empty(celery: Celery, queue: str = "celery") -> bool:
    """Whether nothing waits in a queue, taken or not."""
    with celery.connection_for_read() as connection:
        redis = connection.default_channel.client
        return not redis.llen(queue) and not redis.hlen("unacked")


def _ours(stand: Stand, jobs: int) -> float:
    # In force, and never met: what every rule costs a job is in the figure.
    stand.clear(latency=(0, 0), calls="100000/1s", recipients="1000000/60s")
    rules = stand.rules(calls="50000/1s", recipients="500000/60s")
    with stand.workers(1, concurrency=32, env=rules) as workers, stand.client() as client:
        before = cpu_seconds(workers)
        client.send_many(distinct(jobs))
        wait_until(lambda: stand.sandbox.audit()["delivered"] >= jobs, 240)
        time.sleep(0.5)
        return (cpu_seconds(workers) - before) / jobs


def distinct(jobs: int) -> Iterator[MessageSend]:
    """So many messages, each with a text of its own, to one user each."""
    for number in range(jobs):
        message = {"msgtype": "text", "text": {"content": f"text {number}"}}
        yield MessageSend.parse({"to": {"users": [f"u{number % PEOPLE + 1}"]}, "message": message})
