"""The database of a business application with an outbox: SQLite, PostgreSQL, MariaDB; and what Redis got of it."""

import getpass
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from dingrelay_producers.outbox import metadata
from dingrelay_tasks import MessageSend
from support import servers

KINDS = ("sqlite", "postgresql", "mysql")
ORDERS = {
    "sqlite": "create table orders (number integer primary key, job text, sender text)",
    "postgresql": "create table orders (number bigserial primary key, job text, sender text)",
    "mysql": "create table orders (number bigint primary key auto_increment, job text, sender text)",
}
"""The application's own table: each order has the id of the job that is sent with it."""
SMALL = (
    *("--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-log-file-size=8M"),
    *("--innodb-buffer-pool-size=32M", "--innodb-undo-tablespaces=0"),
)
"""Options of a MariaDB that need not outlive the machine: its files are made in a second."""


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[URL]:
    """The URL of a MariaDB of Debian's; tests are skipped where it is not installed."""
    program, install = servers.program("mariadbd"), servers.program("mariadb-install-db")
    folder = Path(tempfile.mkdtemp(prefix="dingrelay-maria-"))
    socket, port = folder / "socket", servers.free_port()
    common = ["--no-defaults", f"--datadir={folder}/data", f"--user={getpass.getuser()}", *SMALL]
    # A server that starts removes the temporary tables of all others in the same folder.
    common += [f"--tmpdir={folder}"]
    made = [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
    url = URL.create("mysql+pymysql", "root", host="127.0.0.1", port=port)
    try:
        subprocess.run(made, check=True, capture_output=True)
        command = [program, *common, f"--socket={socket}", f"--port={port}"]
        command += ["--bind-address=127.0.0.1", "--innodb-fast-shutdown=2"]
        with servers.running(command, folder / "log", lambda: _answers(url)):
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: URL) -> bool:
    engine = create_engine(url)
    with suppress(OperationalError), engine.connect():
        return True
    return False


@pytest.fixture(params=KINDS)
def outbox_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an application's database, with the outbox's table and its own."""
    kind: str = request.param
    if kind == "sqlite":
        url = make_url(f"sqlite:///{tmp_path / 'business.db'}")
    elif kind == "postgresql":
        postgres = make_url(request.getfixturevalue("postgres_url"))
        url = postgres.set(drivername="postgresql+psycopg")
    else:
        server: URL = request.getfixturevalue("mariadb_server")
        with create_engine(server).begin() as connection:
            connection.execute(text("drop database if exists business"))
            connection.execute(text("create database business"))
        url = server.set(database="business")
    engine = create_engine(url)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(ORDERS[kind]))
    engine.dispose()
    return url.render_as_string(hide_password=False)


def enqueued(redis: Redis) -> Sequence[str]:
    """The ids of all jobs that were accepted, in order, one for each time: no worker takes their wake-ups."""
    messages = map(json.loads, reversed(redis.lrange("dingrelay.normal", 0, -1)))  # type: ignore[arg-type]
    return [message["headers"]["id"] for message in messages]


def ordered(url: str, sender: str | None = None) -> Sequence[str]:
    """The ids of the jobs of all orders that were committed, in order."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text("select job, sender from orders order by number")).all()
    engine.dispose()
    return [row.job for row in rows if sender in {None, row.sender}]


def message(text: str, **fields: object) -> MessageSend:
    """A message to one person."""
    content = {"msgtype": "text", "text": {"content": text}}
    return MessageSend.parse({"to": {"users": ["u1"]}, "message": content, **fields})
