"""Threads of databases, a PostgreSQL that says nothing, and the version of the tables."""

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import dingrelay_tasks
from conftest import wait_until
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS, schemas
from dingrelay_workers.database import schema
from dingrelay_workers.database.database import Database

LONG = text(
    "with recursive c(n) as (select 1 union all select n + 1 from c where n < 2000000)"
    " select max(n) from c"
)
"""Half a second, and a busy machine takes it longer."""


async def test_a_cancelled_questions_thread_ends_before_the_loop(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")
    started = asyncio.Event()

    async def ask() -> None:
        async with database.read() as connection:
            await connection.scalar(text("select 1"))
            started.set()
            await connection.scalar(LONG)

    asking = asyncio.create_task(ask())
    await started.wait()
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await database.dispose()
    assert not _others(before)


async def test_an_abandoned_connections_thread_ends(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")

    async def ask() -> None:
        async with database.read():
            """Cancelled before it is open."""

    asking = asyncio.create_task(ask())
    while not _others(before):  # noqa: ASYNC110 - no event says that a thread ends
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await database.dispose()
    assert not _others(before)
    # Since Python 3.13 a file that is still open would warn here.
    gc.collect()


def _others(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads of SQLite's connections that have come since."""
    since = set(threading.enumerate()) - before
    return [thread for thread in since if "_connection_worker_thread" in thread.name]


@pytest.fixture
def silent() -> Iterator[str]:
    """Its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://stranger@127.0.0.1:{server.getsockname()[1]}/none"


@pytest.mark.parametrize("query", ["", "?connect_timeout=2"])
def test_its_wait_is_bounded(silent: str, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 600 if query else 2)
    refused: list[OperationalError] = []

    def ask() -> None:
        try:
            schema.upgrade(silent + query)
        except OperationalError as error:
            refused.append(error)

    threading.Thread(target=ask, daemon=True).start()
    wait_until(lambda: refused, what="it is given up")


WANTED = dict(schemas())


def test_every_public_kind_has_a_schema_for_itself_and_its_result() -> None:
    public = [kind.name for kind in KINDS.values() if kind.is_public]
    assert set(WANTED) == {f"{name}{part}.json" for name in public for part in ("", ".result")}


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ([], False),
        ({}, False),
        ({"": "x"}, False),
        ([{"name": "a", "value": "b"}] * 151, False),
        ({str(number): "x" for number in range(151)}, False),
        ([{"name": "a", "value": "b"}], True),
        ({"a": ["b"]}, True),
    ],
)
def test_schema_and_contract_agree_on_a_form(form: object, fits: bool) -> None:
    job = {"process_code": "P", "originator": "u1", "form": form}
    assert Draft202012Validator(WANTED["approval-create.json"]).is_valid(job) is fits
    with nullcontext() if fits else pytest.raises(ContractError):
        ApprovalCreate.parse(job)


def test_the_public_surface_is_what_it_says() -> None:
    assert sorted(dingrelay_tasks.__all__) == dingrelay_tasks.__all__
    assert {"ApprovalCreate", "ContractError", "MessageSend", "UserSync"} <= set(
        dingrelay_tasks.__all__
    )
    for name in dingrelay_tasks.__all__:
        assert hasattr(dingrelay_tasks, name)
