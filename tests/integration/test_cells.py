"""Two cells on two real Valkeys: calls go where their apps are, and one that is lost disturbs no other."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import jobs
from cli_runner import Cli
from conftest import wait_until
from dingrelay_producers import AsyncClient, CellUnavailable, Client, JobRef, Settings
from dingrelay_producers.store import breaker, keys
from dingrelay_producers.stream.listener import StreamMetrics, listen
from dingrelay_tasks import MessageSend
from stream_server import stream_server
from two_cells import TwoCells

QUICK = 1.0
"""Seconds that a call may take which needs no server that is away, on a busy machine."""
FILE = """
env = "sandbox"
[apps.default]
app_key = "sandbox-key"
[apps.shop]
app_key = "shop-key"
[cells.one]
redis_url = "{one}"
database_url = "sqlite:///{folder}/one.db"
apps = ["default"]
default = true
[cells.two]
redis_url = "{two}"
database_url = "sqlite:///{folder}/two.db"
apps = ["shop"]
"""


def message(app: str, text: str = "你好", **fields: object) -> MessageSend:
    return jobs.message(text=text, app=app, **fields)


@pytest.fixture
def client(cells: TwoCells) -> Iterator[Client]:
    with Client(cells.settings()) as client:
        yield client


@pytest.fixture
def cli(cells: TwoCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "cells.toml"
    config.write_text(FILE.format(**cells.urls, folder=tmp_path))
    # What `--cell` sets would stay for the next command.
    return Cli({"DINGRELAY_CONFIG": str(config), "DINGRELAY_CELL": ""})


def apps(cells: TwoCells) -> dict[str, list[bytes | None]]:
    """Apps of the jobs in each cell."""
    found: dict[str, list[bytes | None]] = {}
    for name in cells.urls:
        with cells.redis(name) as redis:
            found[name] = [redis.hget(key, "app") for key in redis.scan_iter(keys.job("*"))]
    return found


def records(cells: TwoCells) -> dict[str, int]:
    return {name: len(found) for name, found in apps(cells).items()}


def test_jobs_and_wakeups_go_to_the_cell_of_their_app(client: Client, cells: TwoCells) -> None:
    client.send(message("default"))
    shop = client.send(message("shop"))
    client.send(message("any"))
    assert records(cells) == {"one": 2, "two": 1}
    with cells.redis("two") as redis:
        assert redis.llen("dingrelay.normal") == 1
    assert shop.status().app == "shop"
    assert client.cancel(shop.id, app="shop")
    with Client(cells.settings(cell="two")) as narrow:
        assert [job.id for job in narrow.recent()] == [shop.id]
        assert narrow.requeue(shop.id)
    with Client(Settings.load(env="test", redis_url=cells.urls["one"])) as before:
        first = before.send(message("default", idempotency_key="order-1"))
    assert client.send(message("default", idempotency_key="order-1")) == first


def test_many_jobs_are_sent_to_their_cells_in_batches(client: Client, cells: TwoCells) -> None:
    refs: list[JobRef] = []
    sent = [message("shop" if n % 3 == 0 else "default", f"text {n}") for n in range(1_100)]
    assert client.send_many(sent, on_sent=refs.append) == 1_100
    assert [ref.app for ref in refs] == [job.app for job in sent]
    assert records(cells) == {"one": 733, "two": 367}
    with cells.redis("one") as one, cells.redis("two") as two:
        assert (one.llen("dingrelay.normal"), two.llen("dingrelay.normal")) == (733, 367)


def test_a_lost_cell_fails_fast_and_others_go_on(client: Client, cells: TwoCells) -> None:
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
    assert kept.status().id == kept.id

    refs: list[JobRef] = []
    sent = [message("shop" if n % 2 else "default", f"many {n}") for n in range(1_002)]
    with pytest.raises(CellUnavailable, match="cell two is away"):
        client.send_many(sent, on_sent=refs.append)
    assert (len(refs), {ref.app for ref in refs}) == (501, {"default"})

    cells.bring_back()

    def is_sent() -> bool:
        with suppress(CellUnavailable):
            return bool(client.send(message("shop", "again")))
        return False

    wait_until(is_sent, timeout=20, pause=breaker.PAUSE / 10)
    assert records(cells)["two"] == 1


async def test_the_calls_of_a_lost_cell_fail_by_its_name_on_a_loop(cells: TwoCells) -> None:
    async with AsyncClient(cells.settings()) as client:
        cells.lose()
        outcomes = await asyncio.gather(
            *(client.send(message("shop", str(n))) for n in range(30)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {CellUnavailable}
        assert (await client.send(message("default"))).id


async def test_events_of_a_stream_go_to_the_cell_of_their_app(cells: TwoCells) -> None:
    stopping = asyncio.Event()
    async with stream_server() as server:
        urls = {"DINGTALK_OAPI_URL": server.url, "DINGTALK_API_URL": server.url}
        settings = cells.settings(**urls)
        listens = listen(settings, ["default", "shop"], StreamMetrics(), stopping)
        listening = asyncio.create_task(listens)
        for number in (1, 2):
            client = await server.client(number)
            assert await client.status(await client.event(f"e{number}")) == "SUCCESS"
        stopping.set()
        await listening
    assert apps(cells) == {"one": [b"default"], "two": [b"shop"]}


def test_a_command_is_for_one_cell(cli: Cli, cells: TwoCells) -> None:
    sent = cli.json("send", "--app", "shop", "--to", "u1", "--text", "x")["id"]
    campaign = ("--app", "shop", "--text", "你好", "--to", "u1")
    made = cli.json("campaign", "create", "spring", *campaign)["id"]
    hook = ("webhook", "create", "https://example.com/hook", "--type", "*")
    endpoint = cli.json(*hook, "--app", "shop")["id"]
    key = cli.json("key", "create", "crm", "--scope", "*")["id"]
    assert [each["id"] for each in cli.json("key", "list")] == [key]
    for command in (
        ["job", "show", sent],
        ["job", "list"],
        ["queue"],
        ["limits"],
        ["campaign", "list"],
        ["campaign", "show", made],
        ["webhook", "list"],
        ["person", "find", "u1"],
        ["person", "export", "u1"],
        ["doctor"],
        ["flower"],
        ["worker"],
        ["--cell", "x", "queue"],
    ):
        result = cli(*command)
        assert result.exit_code == 2 or command == ["doctor"], command
        assert "DINGRELAY_CELL: name one of the cells: one, two" in result.output, command
    assert cli(*hook, "--app", "default,shop").exit_code == 2

    two = ("--cell", "two")
    assert cli.json(*two, "job", "cancel", sent[:9])["state"] == "cancelled"
    assert [each["id"] for each in cli.json(*two, "job", "list")] == [sent]
    assert [each["id"] for each in cli.json("campaign", "list", "--app", "shop")] == [made]
    assert cli.json(*two, "campaign", "start", made)["state"] == "running"
    assert cli.json(*two, "webhook", "list", endpoint)["apps"] == ["shop"]
    assert cli.json("person", "erase", "u1", "--app", "shop", "--yes")["job"]
    assert cli.json(*two, "key", "list") == []
    cells.lose()
    for command in (["job", "list"], ["queue"], ["limits"]):
        result = cli(*two, *command)
        assert (result.exit_code, "cell two is away" in result.stderr) == (3, True), command
    assert cli("job", "list", "--app", "default").exit_code == 0
