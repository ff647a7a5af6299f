"""PostgreSQL behind pgbouncer, which gives each transaction whatever server is free."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from conftest import wait_until
from dingrelay_workers.database.database import Database, async_url
from servers import free_port, program, running

CONFIG = """
[databases]
tests = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_prepared_statements = 0
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    pgbouncer = program("pgbouncer")
    target, port = make_url(postgres_url), free_port()
    host = target.query.get("host") or target.host
    known = {"host": host, "port": target.port, "user": target.username, "dbname": target.database}
    words = " ".join(f"{name}={value}" for name, value in known.items() if value)
    config = tmp_path / "pgbouncer.ini"
    config.write_text(CONFIG.format(target=words, port=port))
    url = f"postgresql://{target.username}@127.0.0.1:{port}/tests"
    command = [pgbouncer, str(config)]
    if os.geteuid() == 0:
        # It refuses to run as root, and the server's socket is in a folder of somebody's own.
        command[1:1] = ["-u", Path(str(host)).owner()]
    with running(command, tmp_path / "log") as process:
        wait_until(lambda: answers(url) or process.poll() is not None, what="pgbouncer answers")
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield url


def answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False


@pytest.mark.parametrize("parameter", ["", "?prepared_statements=off"])
async def test_nothing_is_prepared_on_a_server_that_another_may_have_next(
    pooled_url: str, parameter: str
) -> None:
    database = Database(pooled_url + parameter)

    async def ask(number: int) -> None:
        # The same statement is prepared from its sixth time on; each transaction has any server.
        for turn in range(20):
            async with database.write(f"app{number}") as connection:
                answer = await connection.scalar(text("select :a + :b"), {"a": number, "b": turn})
                assert answer == number + turn

    await asyncio.gather(*(ask(number) for number in range(6)))
    await database.dispose()


async def test_a_server_of_our_own_prepares(postgres_url: str) -> None:
    database = Database(postgres_url)
    async with database.read() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        assert raw.driver_connection.prepare_threshold == 5
    await database.dispose()


def test_a_wrong_word_is_refused() -> None:
    with pytest.raises(ValueError, match="prepared_statements must be auto or off"):
        async_url("postgresql://h/d?prepared_statements=maybe")
