"""Celery as people set it up, from a task that does nothing to a token bucket before each call."""

import os
from typing import Any

from celery import Celery, Task
from throttled import RateLimiterType, Throttled, store

from peers.dingtalk import Throttled as ThrottledByDingTalk
from peers.dingtalk import send

REDIS = os.environ["DINGRELAY_REDIS_URL"]
app = Celery("peers", broker=REDIS)
app.conf.update(task_ignore_result=True)


@app.task
def noop(user: str, text: str) -> None:
    """Do nothing: what Celery itself costs, on the same transport."""


@app.task
def post(user: str, text: str) -> None:
    """Make one POST and nothing else: no limit, no record, no second try."""
    send(user, text)


@app.task(bind=True, rate_limit="20/s", max_retries=None)
def rate_limited(self: Task, user: str, text: str) -> None:
    """Send under Celery's own rate limit: 20 a second, per worker as its documentation says.

    On Redis it soon falls behind: its timer runs when the worker's event loop does, about once a
    second while nothing arrives (celery/celery#5927).
    """
    _send_or_retry(self, user, text)


def _bucket(**waiting: Any) -> Throttled:
    return Throttled(
        key="message.send",
        using=RateLimiterType.TOKEN_BUCKET.value,
        quota="20/s burst 20",
        store=store.RedisStore(server=REDIS),
        **waiting,
    )


BUCKET, WAITING_BUCKET = _bucket(), _bucket(timeout=60)


@app.task(bind=True, max_retries=None)
def token_bucket(self: Task, user: str, text: str) -> None:
    """Take a token of throttled-py's bucket on Redis and send; come back when there is none."""
    result = BUCKET.limit()
    if result.limited:
        raise self.retry(countdown=max(result.state.retry_after, 0.05))
    _send_or_retry(self, user, text)


@app.task(bind=True, max_retries=None)
def fifo(self: Task, user: str, text: str) -> None:
    """Wait for a token and send: with one queue, first in, first out."""
    WAITING_BUCKET.limit()
    _send_or_retry(self, user, text)


def _send_or_retry(task: Task, user: str, text: str) -> None:
    """Send, and try again in two seconds when throttled."""
    try:
        send(user, text)
    except ThrottledByDingTalk as error:
        raise task.retry(exc=error, countdown=2) from None
