"""The jobs that the tests of this folder ask for, and what the sandbox says became of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from celery import Celery
from redis import Redis

from conftest import wait_until
from dingrelay_producers import Client, JobStatus, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend
from dingrelay_tasks.contract import Contract

PEOPLE = 200
"""People of the sandbox that the tests share."""

SEND = "/topapi/message/corpconversation/asyncsend_v2"
CREATE = "/v1.0/workflow/processInstances"


def text(number: int) -> str:
    """The text of a message; each number has its own."""
    return f"第 {number} 号通知"


def message(number: int, *, send_at: datetime | None = None) -> MessageSend:
    """A message of its own text to one person."""
    return MessageSend.parse(
        {
            "to": {"users": [f"u{number % PEOPLE + 1}"]},
            "message": {"msgtype": "text", "text": {"content": text(number)}},
            "send_at": send_at,
        }
    )


def approval(number: int, *, alike: int = 1) -> ApprovalCreate:
    """An approval; `alike` of them in a row have the same originator and the same form."""
    which = number // alike
    return ApprovalCreate.parse(
        {
            "process_code": "PROC-LEAVE",
            "originator": f"u{which % PEOPLE + 1}",
            "form": {"事由": f"出差 {which}", "天数": 3},
        }
    )


def send_all(client: Client, jobs: Iterable[Contract]) -> list[str]:
    """Enqueue the jobs; their ids in order."""
    ids: list[str] = []
    client.send_many(jobs, on_sent=lambda job: ids.append(job.id))
    return ids


def send_bare(
    broker: str, jobs: Iterable[Any], kind: str = "message-send", **options: Any
) -> list[str]:
    """Enqueue jobs as a Celery client that knows the task's name only; their ids in order."""
    options = {"queue": "dingrelay.normal"} | options
    with Celery("bare", broker=broker, set_as_current=False) as celery:
        return [
            str(celery.send_task(f"dingrelay.{kind}", kwargs={"job": job}, **options).id)
            for job in jobs
        ]


def write_rules(directory: Path, **calls: str) -> dict[str, str]:
    """The environment of workers with these rules of calls, such as ``message_send="50/1s"``."""
    path = directory / "dingrelay.toml"
    rules = [
        f'[rules."{api.replace("_", ".")}"]\ncalls = "{limit}"' for api, limit in calls.items()
    ]
    path.write_text("\n".join(rules))
    return {"DINGRELAY_CONFIG": str(path)}


def assert_done(statuses: Sequence[JobStatus]) -> None:
    """Every job ended done."""
    others = [status for status in statuses if status.state != State.DONE]
    assert not others, "\n".join(map(repr, others))


def assert_each_arrived_once(sandbox: SandboxAdmin, numbers: Iterable[int]) -> None:
    """Each of these messages, and no other, is in exactly one inbox, once."""
    contents = sandbox.inboxes()["contents"]
    arrived = Counter(
        {content["message"]["text"]["content"]: content["delivered"] for content in contents}
    )
    assert arrived == Counter(map(text, numbers))


def assert_each_exists_once(
    sandbox: SandboxAdmin, jobs: Sequence[ApprovalCreate], statuses: Sequence[JobStatus]
) -> None:
    """Each approval exists once, and each job names an instance of its own with its form."""
    made = {instance["id"]: instance for instance in sandbox.approvals()}
    named = [(status.result or {}).get("instance_id", "") for status in statuses]
    assert len(made) == len(jobs)
    assert sorted(named) == sorted(made)
    for job, instance_id in zip(jobs, named, strict=True):
        instance = made[instance_id]
        form = [list(pair) for pair in job.form_values]
        assert (instance["originator"], instance["form"]) == (job.originator, form)


def states(redis: Redis, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The state of each job and its fencing number, which differs from run to run."""
    pipe = redis.pipeline(transaction=False)
    for job_id in ids:
        pipe.hmget(keys.job(job_id), "state", "fence")
    return {
        job_id: (state.decode(), (fence or b"").decode())
        for job_id, (state, fence) in zip(ids, pipe.execute(), strict=True)
    }


def done(redis: Redis, ids: Sequence[str]) -> int:
    """How many of the jobs are done."""
    return sum(state == "done" for state, _ in states(redis, ids).values())


def running(redis: Redis, ids: Sequence[str]) -> dict[str, str]:
    """The jobs that a worker owns, each with the fencing number under which it does."""
    now = states(redis, ids)
    return {job_id: fence for job_id, (state, fence) in now.items() if state == "running"}


def taken(broker: Redis) -> int:
    """How many messages of other clients workers have taken and not acknowledged."""
    places = cast("list[bytes]", broker.zrange(keys.TAKEN, 0, -1))
    return sum(
        broker.hlen(place) if broker.type(place) == b"hash" else broker.llen(place)
        for place in places
    )


def wait_for_done(redis: Redis, ids: Sequence[str], count: int, *, timeout: float = 60) -> None:
    """Return once so many of the jobs are done."""
    wait_until(
        lambda: done(redis, ids) >= count,
        timeout=timeout,
        what=f"{count} jobs are done",
        pause=0.05,  # all records are read for each look
    )
