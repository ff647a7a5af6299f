"""A bare Celery task that does nothing, on the same transport: what Celery itself costs."""

import os

from celery import Celery

app = Celery("noop", broker=os.environ["DINGRELAY_REDIS_URL"])
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=True)


@app.task
def noop(user: str, text: str) -> None:
    """Nothing."""
