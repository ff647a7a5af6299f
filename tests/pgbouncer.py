"""pgbouncer before a PostgreSQL: it gives each transaction whatever server is free."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import make_url

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
default_pool_size = {servers}
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pgbouncer(target_url: str, directory: Path, *, servers: int = 3) -> Generator[str]:
    """The URL of one that runs while the block does, and knows no prepared statements.

    Args:
        target_url: of the database.
        directory: for its files.
        servers: connections to PostgreSQL that all clients share.
    """
    path = program("pgbouncer")
    target, port = make_url(target_url), free_port()
    host = target.query.get("host") or target.host
    known = {"host": host, "port": target.port, "user": target.username, "dbname": target.database}
    words = " ".join(f"{name}={value}" for name, value in known.items() if value)
    config = directory / "pgbouncer.ini"
    config.write_text(CONFIG.format(target=words, port=port, servers=servers))
    url = f"postgresql://{target.username}@127.0.0.1:{port}/tests"
    command = [path, str(config)]
    if os.geteuid() == 0:
        # It refuses to run as root, and the server's socket is in the user's own folder.
        command[1:1] = ["-u", Path(str(host)).owner()]
    with running(command, directory / "pgbouncer.log", lambda: _answers(url)):
        yield url


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False
