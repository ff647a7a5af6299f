"""What DingTalk answered stands, whatever Redis does while it is published to the fleet."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from daily_story import SEND, Story, a_story
from dingrelay_producers.store.states import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.limiter.limiter import Limiter
from tables import prepare

MESSAGE = {
    "to": {"users": ["u1"]},
    "message": {"msgtype": "text", "text": {"content": "once"}},
    "on_unknown": "stop",
}


def refuse_during(
    story: Story, redis: Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> list[str]:
    """Let Redis refuse every script while the limiter notes the end of a probe's call."""
    met: list[str] = []

    def refusing(report: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def refused(grant: Any, *rest: Any, **how: Any) -> Any:
            await redis.execute_command("ACL", "SETUSER", "default", "-@scripting")
            try:
                met.append(name)
                probe = replace(grant, probing=True, sick=True, trial=True)
                return await report(probe, *rest, **how)
            finally:
                await redis.execute_command("ACL", "SETUSER", "default", "+@all")

        return refused

    for executor in story.wakeups.executors:
        limiter: Limiter = executor.resources.limiter
        monkeypatch.setattr(limiter, name, refusing(getattr(limiter, name)))
    return met


async def test_a_message_that_was_taken_is_done(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(sqlite_url)
    async with a_story(1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url) as story:
        met = refuse_during(story, redis, monkeypatch, "answered")
        await story.enqueue(MESSAGE)
        await story.ended()
        (status,) = [await story.status(job) for job in story.jobs]
    assert met
    assert (status.state, status.attempts) == (State.DONE, 1)
    assert sandbox.audit()["delivered"] == 1
    assert sandbox.audit()["dropped"] == {}


async def test_a_refusal_stays_a_refusal(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(sqlite_url)
    async with a_story(1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url) as story:
        sandbox.add_fault("error", api=SEND, count=1, code="60011")
        met = refuse_during(story, redis, monkeypatch, "failed")
        await story.enqueue(MESSAGE)
        await story.ended()
        (status,) = [await story.status(job) for job in story.jobs]
    assert met
    assert status.state == State.DEAD
    assert status.error is not None
    assert status.error.code == "60011"


async def test_an_answer_that_was_lost_is_never_dead(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(sqlite_url)
    async with a_story(1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url) as story:
        sandbox.add_fault("reset_after", api=SEND, count=1)
        met = refuse_during(story, redis, monkeypatch, "failed")
        await story.enqueue(MESSAGE)
        await story.ended()
        (status,) = [await story.status(job) for job in story.jobs]
    assert met
    assert status.state == State.UNKNOWN
    assert sandbox.audit()["delivered"] == 1
