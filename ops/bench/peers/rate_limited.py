"""Celery's own rate limit: 20 a second, per worker as its documentation says.

On Redis it soon falls behind: its timer runs when the worker's event loop does, about once a
second while nothing arrives (celery/celery#5927).
"""

import os

from celery import Celery, Task

from peers.dingtalk import Throttled, send

app = Celery("rate_limited", broker=os.environ["DINGRELAY_REDIS_URL"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)


@app.task(bind=True, rate_limit="20/s", max_retries=None)
def send_text(self: Task, user: str, text: str) -> None:
    """Send, and try again in two seconds when throttled."""
    try:
        send(user, text)
    except Throttled as error:
        raise self.retry(exc=error, countdown=2) from None
