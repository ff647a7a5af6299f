"""Celery with one queue, and a token bucket that each job waits for: first in, first out."""

import os

from celery import Celery, Task
from throttled import RateLimiterType, Throttled, store

from peers.dingtalk import Throttled as ThrottledByDingTalk
from peers.dingtalk import send

app = Celery("fifo", broker=os.environ["DINGRELAY_REDIS_URL"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)

bucket = Throttled(
    key="message.send",
    using=RateLimiterType.TOKEN_BUCKET.value,
    quota="20/s burst 20",
    store=store.RedisStore(server=os.environ["DINGRELAY_REDIS_URL"]),
    timeout=60,
)


@app.task(bind=True, max_retries=None)
def send_text(self: Task, user: str, text: str) -> None:
    """Wait for a token and send; come back when DingTalk says no."""
    bucket.limit()
    try:
        send(user, text)
    except ThrottledByDingTalk as error:
        raise self.retry(exc=error, countdown=2) from None
