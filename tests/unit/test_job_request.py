"""What Celery publishes of a message whose job may hold a token."""

from typing import Any

from celery import Celery, Task
from kombu import Message

from dingrelay_workers.celery_worker.job_request import JobRequest


def test_the_representation_of_a_job_holds_no_token() -> None:
    job = {"path": "/x", "query": {"access_token": "stolen"}}
    app = Celery("test", set_as_current=False)
    app.finalize(auto=False)
    app.register_task(type("Call", (Task,), {"name": "dingrelay.api-call", "run": print})())
    headers: dict[str, Any] = {
        "id": "j",
        "task": "dingrelay.api-call",
        "kwargsrepr": repr({"job": job}),
    }
    message = Message(body="", headers=headers, content_type="application/json")
    request = JobRequest(
        message,
        app=app,
        hostname="test",
        headers=headers,
        decoded=True,
        body=([], {"job": job}, {}),
        task=app.tasks["dingrelay.api-call"],
    )
    for text in (request.kwargsrepr, request.info(), request.info(safe=True)):
        assert "stolen" not in repr(text)
        assert "/x" in repr(text)
