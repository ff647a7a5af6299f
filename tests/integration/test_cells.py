"""Cells on two real Valkeys: jobs go where their apps are, and one that is lost disturbs no other."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from dingrelay_producers import (
    AsyncClient,
    CellUnavailable,
    Client,
    JobNotFound,
    JobRef,
    Settings,
    State,
)
from dingrelay_producers.celery_config import QUEUES
from dingrelay_producers.cells import breaker
from dingrelay_producers.client import connection
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys
from dingrelay_producers.stream.metrics import StreamMetrics
from dingrelay_producers.stream.process import listen
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.cells.claims import CellClaims
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.connections import open_redis
from dingrelay_workers.store.wakeup import ReceivedWakeup
from stream_server import stream_server
from two_cells import TwoCells, two_cells

QUICK = 1.0
"""Seconds that a call may take which needs no server that is away, on a busy machine."""


def message(app: str, text: str = "你好", **fields: object) -> MessageSend:
    content = {"msgtype": "text", "text": {"content": text}}
    return MessageSend.parse({"app": app, "to": {"users": ["u1"]}, "message": content} | fields)


@pytest.fixture
def cells(valkey_url: str, tmp_path: Path) -> Iterator[TwoCells]:
    with two_cells(valkey_url, tmp_path) as cells:
        yield cells


@pytest.fixture
def client(cells: TwoCells) -> Iterator[Client]:
    with Client(cells.settings()) as client:
        yield client


def records(cells: TwoCells) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in cells.urls:
        with cells.redis(name) as redis:
            found[name] = len(list(redis.scan_iter(f"{keys.job('')}*")))
    return found


def test_each_job_and_its_wake_up_go_to_the_cell_of_its_app(
    client: Client, cells: TwoCells
) -> None:
    client.send(message("default"))
    shop = client.send(message("shop"))
    client.send(message("whoever"))
    assert records(cells) == {"one": 2, "two": 1}
    with cells.redis("two") as redis:
        assert redis.llen("dingrelay.normal") == 1
    assert shop.status().app == "shop"
    alone = {"two": cells.cells["two"]}
    with Client(cells.settings(cells=alone)) as narrow, pytest.raises(ContractError, match="app"):
        narrow.send(message("default"))


def test_the_same_key_is_the_same_job_with_cells_and_without(
    client: Client, cells: TwoCells
) -> None:
    with Client(Settings.load(env="test", redis_url=cells.urls["one"])) as before:
        first = before.send(message("default", idempotency_key="order-1"))
    assert client.send(message("default", idempotency_key="order-1")) == first


def test_a_job_is_found_by_its_id_whatever_cell_has_it(client: Client, cells: TwoCells) -> None:
    refs = [client.send(message(app)) for app in ("default", "shop")]
    with Client(cells.settings()) as other:
        for ref, app in zip(refs, ("default", "shop"), strict=True):
            assert other.status(ref.id).app == app
            assert other.details(ref.id).status.app == app
            assert other.whole_id(ref.id[:9]) == ref.id
            assert other.cancel(ref.id)
            assert other.status(ref.id, app=app).state == State.CANCELLED
            assert other.requeue(ref.id)
        for ask in (other.status, other.cancel, other.requeue, other.details):
            with pytest.raises(JobNotFound):
                ask(str(uuid.uuid4()))
        assert other.discard(str(uuid.uuid4())) is False


def test_lists_are_merged_the_newest_first(client: Client) -> None:
    sent: list[str] = []
    for number in range(6):
        sent.append(client.send(message("shop" if number % 2 else "default", str(number))).id)
        time.sleep(0.002)  # a list has no order within one millisecond
    assert [job.id for job in client.recent()] == sent[::-1]
    assert [job.id for job in client.jobs(history=False, limit=4)] == sent[:1:-1]
    assert [job.id for job in client.jobs(history=False, app="shop")] == sent[5:0:-2]


def test_many_jobs_are_sent_to_their_cells_in_batches(client: Client, cells: TwoCells) -> None:
    refs: list[JobRef] = []
    jobs = [message("shop" if n % 3 == 0 else "default", f"text {n}") for n in range(1_100)]
    assert client.send_many(jobs, on_sent=refs.append) == 1_100
    assert [ref.app for ref in refs] == [job.app for job in jobs]
    assert records(cells) == {"one": 733, "two": 367}
    with cells.redis("one") as one, cells.redis("two") as two:
        assert (one.llen("dingrelay.normal"), two.llen("dingrelay.normal")) == (733, 367)


def test_a_lost_cell_fails_fast_and_by_its_name_and_the_other_goes_on(
    client: Client, cells: TwoCells
) -> None:
    lost = client.send(message("shop"))
    kept = client.send(message("default"))
    cells.lose()
    with pytest.raises(CellUnavailable, match=r"^cell two is away: Redis at 127") as caught:
        client.send(message("shop", "later"))
    assert list(caught.value.cells) == ["two"]
    began = time.monotonic()
    for number in range(50):
        with pytest.raises(CellUnavailable):
            client.send(message("shop", str(number)))
        client.send(message("default", str(number)))
    assert time.monotonic() - began < 50 * QUICK
    assert client.status(kept.id).id == kept.id
    with Client(cells.settings()) as other:
        # It may be in the cell that can't be asked.
        with pytest.raises(CellUnavailable, match="two"):
            other.status(lost.id)
        assert other.status(kept.id).id == kept.id

    errors: list[CellUnavailable] = []
    assert len(client.jobs(history=False, limit=99, on_away=errors.append)) == 51
    assert [list(error.cells) for error in errors] == [["two"]]
    with pytest.raises(CellUnavailable):
        client.recent()

    refs: list[JobRef] = []
    jobs = [message("shop" if n % 2 else "default", f"many {n}") for n in range(1_002)]
    with pytest.raises(CellUnavailable, match="501 of its jobs were not accepted, 501 of") as many:
        client.send_many(jobs, on_sent=refs.append)
    assert (many.value.accepted, many.value.refused) == (501, 501)
    assert {ref.app for ref in refs} == {"default"}

    cells.bring_back()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(CellUnavailable):
            client.send(message("shop", "again"))
            break
        time.sleep(breaker.PAUSE / 10)
    assert records(cells)["two"] == 1


async def test_the_calls_of_a_silent_cell_hold_up_no_others_of_a_loop(
    cells: TwoCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CELL_TIMEOUT", 60)
    async with AsyncClient(cells.settings()) as client:
        with cells.redis("two") as redis:
            redis.client_pause(60_000, all=False)
            # More than the loop's own threads.
            lost = [asyncio.create_task(client.send(message("shop", str(n)))) for n in range(60)]
            for number in range(20):
                await client.send(message("default", str(number)))
            assert not any(task.done() for task in lost)
            redis.client_unpause()
            refs = await asyncio.gather(*lost)
    assert len({ref.id for ref in refs}) == 60


async def test_the_calls_of_a_lost_cell_fail_by_its_name_on_a_loop(cells: TwoCells) -> None:
    async with AsyncClient(cells.settings()) as client:
        cells.lose()
        outcomes = await asyncio.gather(
            *(client.send(message("shop", str(n))) for n in range(30)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {CellUnavailable}
        assert (await client.send(message("default"))).id


@pytest.fixture
async def workers(cells: TwoCells) -> AsyncIterator[dict[str, Executor]]:
    """A worker of each cell."""
    cells.prepare()
    async with AsyncExitStack() as stack:
        found: dict[str, Executor] = {}
        for name in cells.urls:
            settings = cells.settings(cell=name, max_age=3_600)
            resources = Resources(settings, Publisher(settings), queues=QUEUES)
            await stack.enter_async_context(resources)
            found[name] = await stack.enter_async_context(Executor(resources))
        yield found


async def run(executor: Executor, job: JobRef) -> None:
    woken = ReceivedWakeup(
        id=job.id,
        kind=KINDS["message-send"],
        job={},
        queue="dingrelay.normal",
        woken=int(time.time() * 1000) + 60_000,
        nonce=uuid.uuid4().hex,
    )
    await executor.execute(woken)


async def test_a_worker_holds_the_jobs_of_another_cells_app_and_says_whose_it_is(
    cells: TwoCells, workers: dict[str, Executor]
) -> None:
    # A client whose settings are old.
    with Client(Settings.load(env="test", redis_url=cells.urls["one"])) as old:
        job = await asyncio.to_thread(old.send, message("shop"))
        await run(workers["one"], job)
        status = await asyncio.to_thread(job.status)
    assert (status.state, status.attempts) == (State.SNOOZED, 0)
    assert status.error
    assert status.error.message == "shop is in two, and this worker serves one"


async def test_events_of_a_stream_go_to_the_cell_of_their_app(cells: TwoCells) -> None:
    stopping = asyncio.Event()
    async with stream_server() as server:
        urls = {"DINGTALK_OAPI_URL": server.url, "DINGTALK_API_URL": server.url}
        settings = cells.settings(**urls)
        apps = ["default", "shop"]
        listening = asyncio.create_task(listen(settings, apps, StreamMetrics(), stopping))
        for number in (1, 2):
            client = await server.client(number)
            assert await client.status(await client.event(f"e{number}")) == "SUCCESS"
        stopping.set()
        await listening
    found: dict[str, list[bytes | None]] = {}
    for name in cells.urls:
        with cells.redis(name) as redis:
            jobs = redis.scan_iter(f"{keys.job('')}*")
            found[name] = [redis.hget(job, "app") for job in jobs]
    assert found == {"one": [b"default"], "two": [b"shop"]}


async def test_the_apps_of_a_cell_stay_its_own_while_its_redis_is_away(cells: TwoCells) -> None:
    settings = cells.settings(cell="two")
    async with AsyncExitStack() as stack:
        redis = open_redis(settings)
        stack.push_async_callback(redis.aclose)
        claims = CellClaims(redis, settings)
        stack.push_async_callback(claims.close)
        cells.lose()
        await claims.begin()
        with cells.redis("one") as home:
            assert [owner.split()[0] for owner in home.hvals(keys.CELLS_APPS)] == [b"two"]
        claims.check("shop", "message-send")


async def test_two_cells_never_serve_one_app_at_a_time(cells: TwoCells) -> None:
    moved = {
        "one": {**cells.cells["one"], "apps": ["default", "shop"]},
        "two": {**cells.cells["two"], "apps": ["nothing"]},
    }
    before, after = cells.settings(cell="two"), cells.settings(cell="one", cells=moved)
    async with AsyncExitStack() as stack:
        claims: dict[str, CellClaims] = {}
        for name, settings in (("before", before), ("after", after)):
            redis = open_redis(settings)
            stack.push_async_callback(redis.aclose)
            claims[name] = CellClaims(redis, settings)
            stack.push_async_callback(claims[name].close)
        await claims["before"].claim_apps()
        claims["before"].check("shop", "message-send")
        await claims["after"].claim_apps()
        with pytest.raises(Exception, match="shop moves to one: workers of two serve it still"):
            claims["after"].check("shop", "message-send")
        claims["after"].check("default", "message-send")
        # The workers of before say it no more, and their time is over.
        with cells.redis("one") as home:
            assert 0 < home.pttl(keys.CELLS_APPS) <= keys.CELL_TTL_MS
            app = next(
                name for name, owner in home.hgetall(keys.CELLS_APPS).items() if b"two" in owner
            )
            home.hset(keys.CELLS_APPS, app, "two 1")
        await claims["after"].claim_apps()
        claims["after"].check("shop", "message-send")
        await claims["before"].claim_apps()
        with pytest.raises(Exception, match="workers of one serve it still"):
            claims["before"].check("shop", "message-send")


async def test_a_worker_serves_nothing_from_a_redis_that_is_another_cells(cells: TwoCells) -> None:
    # By another name of its machine: settings can't tell.
    alias = cells.urls["one"].replace("127.0.0.1", "localhost")
    mixed = {**cells.cells, "two": {**cells.cells["two"], "redis_url": alias}}
    one, two = cells.settings(cell="one"), cells.settings(cell="two", cells=mixed)
    async with AsyncExitStack() as stack:
        made: list[CellClaims] = []
        for settings in (one, two):
            redis = open_redis(settings)
            stack.push_async_callback(redis.aclose)
            made.append(CellClaims(redis, settings))
            stack.push_async_callback(made[-1].close)
        for claims in made:
            await claims.claim_redis()
        made[0].check("default", "message-send")
        with pytest.raises(Exception, match="this Redis is the one of the cell one, not of two"):
            made[1].check("shop", "message-send")
