"""Reports of messages that were sent in part, and the interplay of two equal ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import ENDS, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import beijing
from dingrelay_workers.limiter import daily_limits
from support import days
from support.days import SEND, Story
from support.jobs import cancel, message
from support.workers import OpenWorker

USERS = [f"u{number}" for number in range(1, 151)]
PROGRESS = "/topapi/message/corpconversation/getsendprogress"
SECOND_CALL = {"userid_list": ",".join(USERS[100:])}


async def send(story: Story, *users: str, **fields: Any) -> str:
    text = {"msgtype": "text", "text": {"content": "order 1"}}
    await story.enqueue({"to": {"users": list(users)}, "message": text, **fields})
    return list(story.jobs)[-1]


async def reaches(story: Story, job: str, *states: State) -> None:
    async def is_there() -> bool:
        return (await story.status(job)).state in states

    await wait_until_async(is_there, what=f"one of {states}")


@pytest.mark.parametrize("end", [State.DEAD, State.CANCELLED, State.EXPIRED])
async def test_any_end_reports_what_left(story: Story, sandbox: SandboxAdmin, end: State) -> None:
    if end == State.DEAD:
        sandbox.add_fault("error", api=SEND, match=SECOND_CALL, code="60011")
    else:
        sandbox.add_fault("throttle", api=SEND, match=SECOND_CALL, code="90018", count=1)
    job = await send(story, *USERS)
    if end != State.DEAD:
        await reaches(story, job, State.SNOOZED, State.RETRYING)
    if end == State.CANCELLED:
        assert await cancel(story.redis, job) == b"cancelled"
    elif end == State.EXPIRED:
        await story.redis.hset(keys.job(job), "expires", "1")
    await reaches(story, job, end)
    sandbox.clear_faults()

    result = (await story.status(job)).result
    assert (result["accepted"], len(result["calls"])) == (100, 1)
    assert sandbox.audit()["delivered"] == 100
    again = await send(story, "u1", "u150")
    await story.ended()
    result = (await story.status(again)).result or {}
    assert (result["duplicate"], result["accepted"]) == (["u1"], 1)
    assert len(sandbox.inbox("u150")["delivered"]) == 1


async def test_expiry_does_not_undo_a_sent_message(story: Story, sandbox: SandboxAdmin) -> None:
    under_way = {"errcode": 0, "progress": {"progress_in_percent": 50, "status": 1}}
    sandbox.add_fault("http", api=PROGRESS, status=200, body=under_way)
    job = await send(story, "u1", confirm=True)
    await reaches(story, job, State.SNOOZED)
    await story.redis.hset(keys.job(job), "expires", "1")
    sandbox.clear_faults()
    await reaches(story, job, *ENDS)
    status = await story.status(job)
    assert (status.state, (status.result or {})["accepted"]) == (State.DONE, 1), status


async def test_equal_messages_send_one(story: Story, sandbox: SandboxAdmin) -> None:
    for _ in range(6):
        await send(story, "u1")
    await story.ended()
    states = [(await story.status(job)).state for job in story.jobs]
    assert sorted(states) == [State.DONE, *[State.DUPLICATE] * 5]
    audit = sandbox.audit()
    assert (audit["delivered"], audit["dropped"]) == (1, {})


async def test_a_job_expires_in_the_queue(open_worker: OpenWorker, sandbox: SandboxAdmin) -> None:
    rules = {"*": {"calls": ""}, "message.send": {"calls": "1/3s"}}
    async with open_worker(rules=rules) as worker:

        async def send(text: str, user: str, **fields: Any) -> str:
            return await worker.send(message(user, text=text, **fields))

        assert await worker.finish(await send("first", "u1")) == State.DONE
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        # Of two that share a call, only the one that has time left is in it.
        jobs = [await send("shared", "u2", expires_at=soon), await send("shared", "u3")]
        ends = await asyncio.gather(*map(worker.finish, jobs))
    assert ends == [State.EXPIRED, State.DONE]
    assert [len(sandbox.inbox(user)["delivered"]) for user in ("u2", "u3")] == [0, 1]


@pytest.mark.parametrize("to", [{"users": ["u1"]}, {"departments": [2]}, {"everyone": True}])
async def test_a_slot_that_comes_after_midnight_is_not_used_for_the_day_before(
    open_worker: OpenWorker,
    sandbox: SandboxAdmin,
    monkeypatch: pytest.MonkeyPatch,
    to: dict[str, Any],
) -> None:
    async with open_worker() as worker:
        job = await worker.send(message(text="late", to=to))
        with monkeypatch.context() as patched:
            # The day for which it is admitted is over by the time at which its call would leave.
            patched.setattr(daily_limits, "ARRIVES_MS", daily_limits.DAY_MS)
            assert await worker.run(job) == State.SNOOZED
        assert sandbox.calls(api=SEND) == []
        assert await worker.finish(job) == State.DONE


async def ms_of(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return seconds * 1000 + micros // 1000


@pytest.mark.parametrize("ends", ["its day", "its time"])
async def test_a_connection_that_stands_too_late_carries_no_call(
    open_worker: OpenWorker,
    redis: Redis,
    sandbox: SandboxAdmin,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    """Nothing left by it, so the job is not unknown."""
    until = 0
    connect = aiohttp.TCPConnector.connect

    async def is_over() -> bool:
        return await ms_of(redis) > until

    async def stand_late(*arguments: Any, **options: Any) -> Any:
        await wait_until_async(is_over, what="the end of its day, or of its time")
        return await connect(*arguments, **options)

    async with open_worker() as worker:
        assert await worker.finish(await worker.send(message("u2", text="first"))) == State.DONE
        job = await worker.send(message(text="late"))
        with monkeypatch.context() as patched:
            patched.setattr(aiohttp.TCPConnector, "connect", stand_late)
            until = await ms_of(redis) + 1_000
            if ends == "its day":
                began = datetime.fromtimestamp(until / 1000, UTC) - timedelta(days=1)
                today = partial(daily_limits._Day, "2026-11-24", int(began.timestamp() * 1000))
                patched.setattr(daily_limits._Day, "of", lambda *_: today(until))
                assert await worker.run(job) == State.SNOOZED
            else:
                await redis.hset(keys.job(job), "expires", str(until))
                assert await worker.run(job) == State.EXPIRED
        assert len(sandbox.calls(api=SEND)) == 1
        assert await redis.hget(keys.job(job), "intent") is None
        if ends == "its day":
            assert await worker.finish(job) == State.DONE


async def test_the_day_of_a_message_is_that_of_dingtalks_clock(
    open_worker: OpenWorker, redis: Redis, sandbox: SandboxAdmin
) -> None:
    noon = datetime.now(beijing.BEIJING).replace(hour=12) + timedelta(days=2)
    sandbox.set_clock((noon - datetime.now(UTC)).total_seconds())
    async with open_worker() as worker:
        for user in (
            "u1",
            "u2",
        ):  # a token that is fetched before the first shows what time it is there
            assert await worker.finish(await worker.send(message(user, text=user))) == State.DONE
        assert await days.received(redis, "default", beijing.day(noon)) == {"u1": 1, "u2": 1}
