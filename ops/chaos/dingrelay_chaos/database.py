"""The SQL database of a run, and what can be wrong with it."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from dingrelay_workers.database.schema import upgrade


class Database:
    """A SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "dingrelay.db"
        self.url = f"sqlite:///{self.path}"
        self._moved = folder / "dingrelay.db.away"
        self._holder: sqlite3.Connection | None = None

    def create(self) -> None:
        """Make its tables."""
        upgrade(self.url)

    def lock(self) -> None:
        """Take the write lock, if it can be had soon. What is away has none."""
        if self._holder is None and not self._moved.exists():
            holder = sqlite3.connect(self.path, isolation_level=None, timeout=1)
            with suppress(sqlite3.OperationalError):
                holder.execute("BEGIN IMMEDIATE")
                self._holder = holder

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.unlock()
        self.bring_back()

    def unlock(self) -> None:
        """Give the write lock back."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def take_away(self) -> None:
        """Let nobody open it, nor write through a connection that is open.

        SQLite refuses writes to a file that was moved. What is moved back is the same file, and
        nobody could make another one meanwhile, so nothing that was committed is lost.
        """
        if not self._moved.exists():
            self.path.rename(self._moved)
            self.path.mkdir()

    def bring_back(self) -> None:
        """Let it be there again."""
        if self._moved.exists():
            self.path.rmdir()
            self._moved.rename(self.path)

    def write(self, statement: str, *values: Any) -> None:
        """Change something, as nobody in the system would."""
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(statement, values)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a query finds."""
        look = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)
        with closing(look) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]
