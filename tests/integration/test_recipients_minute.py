"""No window holds more recipients than DingTalk delivers to, by the sandbox's own count."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import jobs
from daily_story import SEND, a_story
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.limiter.slot import Slot, SlotRequest
from one_worker import one_worker
from tables import prepare

WAY = 1.2
"""Seconds that the first calls are on their way: they arrive together with later ones."""


def message(number: int, users: list[str]) -> dict[str, Any]:
    return {
        "to": {"users": users},
        "message": {"msgtype": "text", "text": {"content": f"message {number}"}},
    }


async def test_calls_that_bunch_up_on_their_way_lose_nobody(
    redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str
) -> None:
    prepare(sqlite_url)
    limits = {"calls": "", "recipients": "300/2s"}
    async with a_story(
        1,
        redis,
        sandbox,
        valkey_url=valkey_url,
        database_url=sqlite_url,
        message_limits=limits,
        call_timeout=10,
    ) as story:
        sandbox.set_limits(calls="", window="sliding")
        ms = WAY * 1000
        sandbox.add_fault("latency", api=SEND, min_ms=ms, max_ms=ms, seconds=WAY)
        for number in range(25):
            await story.enqueue(message(number, [f"u{1 + user}" for user in range(20)]))
        await story.ended()
    assert sandbox.audit()["dropped"] == {}
    assert sandbox.audit()["delivered"] == 25 * 20


async def test_a_limit_of_less_than_a_call_is_kept_by_smaller_calls(
    redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str
) -> None:
    prepare(sqlite_url)
    limits = {"calls": "", "recipients": "40/1s"}
    async with a_story(
        1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url, message_limits=limits
    ) as story:
        sandbox.set_limits(calls="", window="sliding")
        users = [f"u{number}" for number in range(1, 51)]
        await story.enqueue(message(1, users))
        for user in users[:10]:
            await story.enqueue(message(2, [user]))
        await story.ended()
        states = {(await story.status(job)).state for job in story.jobs}
    assert states == {State.DONE}
    assert sandbox.audit()["dropped"] == {}
    assert sandbox.audit()["delivered"] == 60


async def test_a_slot_that_passed_while_the_process_was_stopped_is_not_used(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(sqlite_url)
    limits = {"recipients": "5000/60s"}
    async with a_story(
        1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url, message_limits=limits
    ) as story:
        left: list[Slot] = []
        for executor in story.wakeups.executors:
            limiter = executor.resources.limiter

            async def stopped(request: SlotRequest, acquire: Any = limiter.acquire) -> Slot:
                slot: Slot = await acquire(request)
                left.append(slot)
                slot.at -= 20 if len(left) == 1 else 0
                return slot

            monkeypatch.setattr(limiter, "acquire", stopped)
        await story.enqueue(message(1, ["u1"]))
        await story.ended()
    assert len(left) == 2
    assert sandbox.audit()["delivered"] == 1


async def test_sizes_of_departments_are_kept_for_an_hour_and_so_many_only(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "MEMBER_COUNTS", 2)
    counts = keys.member_count("default")
    async with one_worker(sandbox, valkey_url, redis, tmp_path) as worker:

        async def sent_to(department: int) -> None:
            job = jobs.message(text=f"to {department}", to={"departments": [department]})
            assert await worker.finish(await worker.send(job)) == State.DONE

        await sent_to(2)
        assert await redis.pttl(counts) > 3_590_000
        await redis.pexpire(counts, 60_000)  # 59 minutes pass
        await sent_to(3)
        await sent_to(4)
        assert await redis.pttl(counts) <= 60_000
    assert sorted(await redis.hkeys(counts)) == [b"2", b"3"]
