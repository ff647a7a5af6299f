"""A Celery task that makes one POST and nothing else: no limit, no record, no second try."""

import os

from celery import Celery

from peers.dingtalk import send

app = Celery("post", broker=os.environ["DINGRELAY_REDIS_URL"])
app.conf.update(task_ignore_result=True)


@app.task
def send_text(user: str, text: str) -> None:
    """Send."""
    send(user, text)
