"""No window holds more recipients than DingTalk delivers to, by the sandbox's own count."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.limiter.slot import Slot, SlotRequest
from dingrelay_workers.maintenance.leader import WORK, Work
from dingrelay_workers.resources import Resources
from support import campaigns, jobs
from support.days import SEND, OpenStory
from support.workers import OneWorker

WAY = 1.2
"""Seconds that the first calls are on their way: they arrive together with later ones."""


def message(number: int, users: list[str]) -> dict[str, Any]:
    text = {"msgtype": "text", "text": {"content": f"message {number}"}}
    return {"to": {"users": users}, "message": text}


async def test_calls_that_bunch_up_on_their_way_lose_nobody(
    open_story: OpenStory, sandbox: SandboxAdmin
) -> None:
    limits = {"calls": "", "recipients": "300/2s"}
    async with open_story(message_limits=limits, call_timeout=10) as story:
        sandbox.set_limits(calls="", window="sliding")
        ms = WAY * 1000
        sandbox.add_fault("latency", api=SEND, min_ms=ms, max_ms=ms, seconds=WAY)
        for number in range(25):
            await story.enqueue(message(number, [f"u{1 + user}" for user in range(20)]))
        await story.ended()
    audit = sandbox.audit()
    assert (audit["dropped"], audit["delivered"]) == ({}, 25 * 20)


async def test_a_limit_of_less_than_a_call_is_kept_by_smaller_calls(
    open_story: OpenStory, sandbox: SandboxAdmin
) -> None:
    async with open_story(message_limits={"calls": "", "recipients": "40/1s"}) as story:
        sandbox.set_limits(calls="", window="sliding")
        users = [f"u{number}" for number in range(1, 51)]
        await story.enqueue(message(1, users))
        for user in users[:10]:
            await story.enqueue(message(2, [user]))
        await story.ended()
        states = {(await story.status(job)).state for job in story.jobs}
    audit = sandbox.audit()
    assert (states, audit["dropped"], audit["delivered"]) == ({State.DONE}, {}, 60)


def sees_first(resources: Resources, limits: Iterator[int]) -> None:
    """Dispatchers that this worker opens see these limits before the true ones."""
    (duty, *_) = resources.leader._duties
    real: Callable[[Callable[[], datetime]], Awaitable[Work]] = duty._open

    async def open_work(now: Callable[[], datetime]) -> Work:
        dispatcher: Any = await real(now)
        true = dispatcher._users_per_call
        dispatcher._users_per_call = lambda app: next(limits, 0) or true(app)
        work: Work = dispatcher
        return work

    duty._open = open_work


@pytest.mark.parametrize("lowered", ["before the release", "after it"])
async def test_a_chunk_larger_than_a_call_may_be_by_now_is_split(
    open_story: OpenStory, redis: Redis, sandbox: SandboxAdmin, lowered: str
) -> None:
    async with open_story(message_limits={"calls": "", "recipients": "50/1s"}) as story:
        sandbox.set_limits(calls="", window="sliding")
        name = await campaigns.put(story.database, people=60, size=60)
        if lowered == "after it":
            limits = iter([60])
            for executor in story.wakeups.executors:
                sees_first(executor.resources, limits)
        story.campaigns[name] = {}
        await WORK.announce(redis)
        await story.ended()
        rows = await campaigns.chunks(story.database, name)
        row = await campaigns.read(story.database, name)
    audit = sandbox.audit()
    assert (audit["dropped"], audit["delivered"]) == ({}, 60)
    assert max(chunk.size for chunk in rows) == 25
    assert (row.accepted, row.chunks, row.settled, row.calls) == (60, 3, 3, 3)
    assert len({user for chunk in rows for user in chunk.users.split(",")}) == 60


async def test_a_slot_that_passed_while_the_process_was_stopped_is_not_used(
    open_story: OpenStory, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_story(message_limits={"recipients": "5000/60s"}) as story:
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
    worker: OneWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MEMBER_COUNTS", 2)
    counts = keys.member_count("default")

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
