"""`AsyncClient` against a real Valkey: it is `Client`, on an event loop."""

import inspect
import itertools
import threading
from collections.abc import AsyncIterator

import pytest

from dingrelay_producers import (
    AsyncCampaignPlan,
    AsyncCampaignRef,
    AsyncClient,
    AsyncJobRef,
    CampaignPlan,
    CampaignRef,
    Client,
    JobRef,
    Settings,
    State,
    WaitTimeout,
)
from support.jobs import message

PAIRS = [
    (Client, AsyncClient),
    (JobRef, AsyncJobRef),
    (CampaignPlan, AsyncCampaignPlan),
    (CampaignRef, AsyncCampaignRef),
]


@pytest.fixture
async def client(valkey_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(Settings.load(env="test", redis_url=valkey_url)) as client:
        yield client


@pytest.mark.parametrize(("blocking", "asynchronous"), PAIRS)
def test_every_method_is_there_with_the_same_arguments(blocking: type, asynchronous: type) -> None:
    methods = {
        name: method
        for name, method in inspect.getmembers(blocking, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods
    for name, method in methods.items():
        twin = getattr(asynchronous, "aclose" if name == "close" else name)
        arguments = [inspect.signature(each).parameters for each in (method, twin)]
        signatures = [
            [(each.name, each.kind, each.default) for each in found.values()] for found in arguments
        ]
        assert signatures[0] == signatures[1], name


async def test_a_job_is_sent_found_and_cancelled(client: AsyncClient) -> None:
    job = await client.send(message())
    assert (await job.status()).state == State.QUEUED
    assert await client.status(job.id) == await job.status()
    assert [each.id for each in await client.recent(limit=1)] == [job.id]
    with pytest.raises(WaitTimeout):
        await job.wait(0.1)
    assert await job.cancel()
    assert client.job(job.id) == job
    for timeout in (5, 0):
        assert (await client.job(job.id).wait(timeout)).state == State.CANCELLED
    assert await client.requeue(job.id)
    assert (await job.status()).state == State.QUEUED
    assert await client.cancel(job.id)


async def test_on_sent_is_called_on_the_loop_for_each_accepted_job(client: AsyncClient) -> None:
    calls: list[tuple[AsyncJobRef, int]] = []
    jobs = (message(text=f"text {number}") for number in range(300))
    sent = await client.send_many(
        jobs, on_sent=lambda ref: calls.append((ref, threading.get_ident()))
    )
    assert sent == len(calls) == len({ref for ref, _ in calls}) == 300
    assert {thread for _, thread in calls} == {threading.get_ident()}
    assert await client.send_many([message(text="quietly")]) == 1


async def test_an_error_of_on_sent_ends_the_sending(client: AsyncClient) -> None:
    def refuse(ref: AsyncJobRef) -> None:
        raise LookupError(ref.id)

    jobs = (message(text=f"text {number}") for number in itertools.count())
    with pytest.raises(LookupError):
        await client.send_many(jobs, on_sent=refuse)
    assert await client.recent()
