"""throttled-py's token bucket on Redis in front of the call; a job that gets no token retries."""

import os

from celery import Celery, Task
from throttled import RateLimiterType, Throttled, store

from peers.dingtalk import Throttled as ThrottledByDingTalk
from peers.dingtalk import send

app = Celery("token_bucket", broker=os.environ["DINGRELAY_REDIS_URL"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)

bucket = Throttled(
    key="message.send",
    using=RateLimiterType.TOKEN_BUCKET.value,
    quota="20/s burst 20",
    store=store.RedisStore(server=os.environ["DINGRELAY_REDIS_URL"]),
)


@app.task(bind=True, max_retries=None)
def send_text(self: Task, user: str, text: str) -> None:
    """Take a token and send; come back when the limiter, or DingTalk, says no."""
    result = bucket.limit()
    if result.limited:
        raise self.retry(countdown=max(result.state.retry_after, 0.05))
    try:
        send(user, text)
    except ThrottledByDingTalk as error:
        raise self.retry(exc=error, countdown=2) from None
