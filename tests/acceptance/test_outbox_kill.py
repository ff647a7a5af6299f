"""An application with an outbox and its relays are killed: each committed job is enqueued once and in order, no other one."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from conftest import wait_until
from dingrelay_producers import Settings, outbox
from dingrelay_producers.outbox import OutboxRow, Relay, relay
from dingrelay_tasks.sentence import from_text
from support import processes
from support.examples import either
from support.outboxes import enqueued, mariadb_server, message, ordered, outbox_url

__all__ = ["mariadb_server", "outbox_url"]

SECONDS = either(2, 60)
"""For which applications and relays are killed."""
JOB = """
import sys
from sqlalchemy import create_engine, text
from dingrelay_tasks import MessageSend

def job(sender, number):
    content = {"msgtype": "text", "text": {"content": f"order {number}"}}
    return MessageSend(to={"users": ["u1"]}, message=content, sender=sender)

INSERT = "insert into orders (job, sender) values (:job, :sender)"
"""
BUSINESS = (
    JOB
    + """
import random, time
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from dingrelay_producers import outbox

url, sender = sys.argv[1:]
engine = create_engine(url)
while True:
    time.sleep(0.01)
    try:
        with Session(engine) as session:
            for number in range(random.randint(1, 3)):
                id_ = outbox.send(session, job(sender, number))
                session.execute(text(INSERT), {"job": id_, "sender": sender})
            (session.commit if random.random() < 0.7 else session.rollback)()
    except OperationalError as error:
        assert "locked" in str(error), error
"""
)
"""An application that commits or rolls back, again and again."""
RELAY = """
import logging, os, signal, sys
from sqlalchemy import create_engine, event
from dingrelay_producers.client.connection import ClientConnection
from dingrelay_producers.outbox import Relay, relay

relay.LEASE_MS = 100
url, killed_at = sys.argv[1], int(sys.argv[2])
engine, steps = create_engine(url), 0

def pass_step(*_):
    global steps
    if steps == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1

call = ClientConnection.redis_call

def redis_call(self, use):
    pass_step()
    answer = call(self, use)
    pass_step()
    return answer

ClientConnection.redis_call = redis_call
for moment in ("before_cursor_execute", "after_cursor_execute"):
    event.listen(engine, moment, pass_step)
relaying = Relay(engine, interval=0.01)
if killed_at < 0:
    relaying.run()
else:
    relaying.relay()
"""
"""A relay that is killed before or after a statement or a call of Redis; -1: one that goes on."""


COMMITTING = (
    JOB
    + """
import asyncio, os, signal
from sqlalchemy.orm import Session
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from dingrelay_producers import outbox

url, library, moment = sys.argv[1:]

def die(when):
    if moment == when:
        os.kill(os.getpid(), signal.SIGKILL)

def with_session():
    with Session(create_engine(url)) as session:
        id_ = outbox.send(session, job("", 1))
        session.execute(text(INSERT), {"job": id_, "sender": ""})
        die("before the commit")
        session.commit()
    die("after the commit")

async def with_async_session():
    at = url
    for blocking, driver in ("sqlite:", "sqlite+aiosqlite:"), ("pymysql", "aiomysql"):
        at = at.replace(blocking, driver)
    async with AsyncSession(create_async_engine(at)) as session:
        id_ = outbox.send(session, job("", 1))
        await session.execute(text(INSERT), {"job": id_, "sender": ""})
        die("before the commit")
        await session.commit()
    die("after the commit")

def with_django():
    import django
    from django.conf import settings
    from sqlalchemy import make_url
    at = make_url(url)
    if at.get_backend_name() == "mysql":
        import pymysql
        pymysql.version_info = (2, 2, 7, "final", 0)
        pymysql.install_as_MySQLdb()
    server = {"NAME": at.database, "HOST": at.host or at.query.get("host", ""), "PORT": at.port or "", "USER": at.username or ""}
    settings.configure(
        INSTALLED_APPS=["dingrelay_producers.outbox.django"],
        DATABASES={"default": {"ENGINE": f"django.db.backends.{at.get_backend_name().replace('sqlite', 'sqlite3')}", **server}},
    )
    django.setup()
    from django.db import connection, transaction
    from dingrelay_producers.outbox.django import send
    with transaction.atomic():
        id_ = send(job("", 1))
        with connection.cursor() as cursor:
            cursor.execute("insert into orders (job, sender) values (%s, '')", [id_])
        die("before the commit")
    die("after the commit")

{"Session": with_session, "AsyncSession": lambda: asyncio.run(with_async_session()), "Django": with_django}[library]()
"""
)
"""An application that writes an order and its job, and is killed before or after the commit."""


@pytest.fixture(autouse=True)
def settings(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the test and of its processes."""
    monkeypatch.setenv("DINGRELAY_ENV", "test")
    monkeypatch.setenv("DINGRELAY_REDIS_URL", valkey_url)
    monkeypatch.setattr(relay, "LEASE_MS", 100)
    return Settings.load()


@pytest.fixture
def engine(outbox_url: str) -> Iterator[Engine]:
    engine = create_engine(outbox_url)
    yield engine
    engine.dispose()


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


def relay_all(engine: Engine, settings: Settings) -> None:
    """Relay what waits; what a relay that is dead had claimed is free a moment later."""
    relaying = Relay(engine, settings)
    count = select(func.count()).where(OutboxRow.refused.is_(None))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: relaying.relay() or not connection.scalar(count), what="the lease ends")
        wait_until(
            lambda: not (relaying.relay() or connection.scalar(count)), what="all is relayed"
        )
    relaying.stop()


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
@pytest.mark.parametrize("library", ["Session", "AsyncSession", "Django"])
def test_an_application_is_killed_around_its_commit(
    library: str, moment: str, outbox_url: str, engine: Engine, settings: Settings, redis: Redis
) -> None:
    command = [sys.executable, "-c", COMMITTING, outbox_url, library, moment]
    assert processes.run(command, timeout=60).returncode == -signal.SIGKILL
    # The server notices that its client is gone, and rolls back.
    wait_until(lambda: not locked(engine), what="the transaction ended")
    relay_all(engine, settings)
    assert len(ordered(outbox_url)) == (moment == "after the commit")
    assert enqueued(redis) == ordered(outbox_url)


def locked(engine: Engine) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(text("delete from orders where number = 0"))
    except OperationalError:
        return True
    return False


@pytest.mark.timeout(400)  # some thirty processes
def test_a_relay_is_killed_at_each_step(
    outbox_url: str, engine: Engine, settings: Settings, redis: Redis
) -> None:
    for step in count():
        redis.flushall()
        with Session(engine) as session:
            jobs = [outbox.send(session, message(f"{number} {step}")) for number in range(3)]
            unreadable = OutboxRow(id="unreadable", kind="no-kind", job="{}", written_at=0)
            session.add(unreadable)
            jobs += [outbox.send(session, message(f"last {step}"))]
            session.commit()
        code = processes.run(
            [sys.executable, "-c", RELAY, outbox_url, str(step)], timeout=60
        ).returncode
        assert code in {0, -signal.SIGKILL}
        relay_all(engine, settings)
        assert enqueued(redis) == jobs, step
        with Session(engine) as session:
            (row,) = session.scalars(select(OutboxRow))
            assert from_text(str(row.refused)) == "kind: this release has no kind no-kind"
            session.delete(row)
            session.commit()
        if code == 0:
            break
    # Before and after each: three statements and one for what is refused, and three calls of Redis.
    assert step == 14


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


@pytest.mark.timeout(400)
def test_applications_and_relays_are_killed_again_and_again(
    outbox_url: str, engine: Engine, settings: Settings, redis: Redis
) -> None:
    drawn = random.Random(17)
    senders = ("a", "b")
    commands = [[sys.executable, "-c", BUSINESS, outbox_url, sender] for sender in senders]
    commands += [[sys.executable, "-c", RELAY, outbox_url, "-1"]] * 2
    deadline = time.monotonic() + SECONDS
    running = [processes.Popen(command) for command in commands]
    try:
        while time.monotonic() < deadline:
            time.sleep(drawn.uniform(0.1, 0.4))
            place = drawn.randrange(len(commands))
            end(running[place])
            running[place] = processes.Popen(commands[place])
        wait_until(lambda: len(enqueued(redis)) > 20, timeout=120, what="something was relayed")
    finally:
        for process in running:
            end(process)
    wait_until(lambda: not locked(engine), what="all transactions ended")
    relay_all(engine, settings)
    jobs = enqueued(redis)
    assert sorted(jobs) == sorted(ordered(outbox_url))
    for sender in senders:
        own = ordered(outbox_url, sender)
        written = set(own)
        assert [job for job in jobs if job in written] == list(own)
