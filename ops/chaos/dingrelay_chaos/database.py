"""The SQL database of a run, what can be wrong with it, and the directory that it holds."""

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

    def unlock(self) -> None:
        """Give the write lock back."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def take_away(self) -> None:
        """Let it be opened by no one, nor written through a connection that is open.

        SQLite refuses writes to a file that was moved. What is moved back is the same file, and no
        other could be made in its place, so nothing that was committed is lost.
        """
        if not self._moved.exists():
            self.path.rename(self._moved)
            self.path.mkdir()

    def bring_back(self) -> None:
        """Let it be there again."""
        if self._moved.exists():
            self.path.rmdir()
            self._moved.rename(self.path)

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.unlock()
        self.bring_back()

    def write(self, statement: str, *values: Any) -> None:
        """Change something behind the system's back."""
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(statement, values)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        read = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)
        with closing(read) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def value(self, query: str) -> int:
        """The one number that a query finds."""
        (row,) = self.rows(query)
        return int(next(iter(row.values())))


class Directory:
    """The people in SQL who have not left.

    Attributes:
        people: userid → name.
        places: userid → departments.
        departments: id → name and parent.
    """

    def __init__(self, database: Database) -> None:
        people = database.rows("select userid, name from users where left_at is null")
        self.people = {row["userid"]: row["name"] for row in people}
        self.places: dict[str, set[int]] = {}
        for row in database.rows("select department, userid from memberships"):
            self.places.setdefault(row["userid"], set()).add(int(row["department"]))
        departments = database.rows(
            "select id, name, parent from departments where left_at is null"
        )
        self.departments = {int(row["id"]): (row["name"], row["parent"]) for row in departments}
