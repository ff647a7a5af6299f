"""Where recipients wait before a campaign exists: each once, in order, however many they are."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple, Self

CACHE_KIB = 12 * 1024
"""For looking up who is there already. Reading them in order needs little."""
READING_CACHE_KIB = 2 * 1024

_OPEN = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -{CACHE_KIB};
CREATE TABLE people (
    position INTEGER PRIMARY KEY,
    userid TEXT NOT NULL UNIQUE,
    result BLOB,
    "values" TEXT
);
BEGIN;
"""
_ADD = 'INSERT OR IGNORE INTO people (userid, result, "values") VALUES (?, ?, ?)'
_REMOVE = "DELETE FROM people WHERE userid = ?"
_READ = 'SELECT NULL, userid, "values" FROM people ORDER BY position'
# Equal results follow each other, at the place of the first of them.
_READ_BY_RESULT = """
SELECT result, userid, "values" FROM (
    SELECT *, min(position) OVER (PARTITION BY result) AS first FROM people
) ORDER BY first, position
"""


class Person(NamedTuple):
    """One row of a source.

    Attributes:
        result: digest of the message that they get; None if all get the same.
        values: of the message's fields, as JSON.
    """

    userid: str
    result: bytes | None = None
    values: str | None = None


class Chunk(NamedTuple):
    """People for one call, and the values of the fields of their message."""

    users: list[str]
    values: tuple[str, ...]


class Staging:
    """A database without a name: its file is gone when the process is, however that ends.

    Args:
        varies: people get different messages, and those who get the same belong together.
    """

    def __init__(self, *, varies: bool = False) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_OPEN)
        self._varies = varies

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, people: Sequence[Person]) -> int:
        """Put people behind those who are there; how many were new."""
        return self._write(_ADD, people)

    def remove(self, userids: Iterable[str]) -> int:
        """Take people out; how many were there."""
        return self._write(_REMOVE, ((userid,) for userid in userids))

    def count(self) -> int:
        """How many people are there."""
        return self._one("SELECT count(*) FROM people")

    def count_chunks(self, size: int) -> int:
        """How many chunks `chunks` hands out."""
        if not self._varies:
            return -(-self.count() // size)
        return self._one(
            "SELECT coalesce(sum((people + ?1 - 1) / ?1), 0)"
            " FROM (SELECT count(*) AS people FROM people GROUP BY result)",
            size,
        )

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Up to `size` people who get the same message, in the order of who came first."""
        self._connection.execute(f"PRAGMA cache_size = -{READING_CACHE_KIB}")
        rows = self._connection.execute(_READ_BY_RESULT if self._varies else _READ)
        for _, same in groupby(rows, key=itemgetter(0)):
            values: tuple[str, ...] = ()
            users: list[str] = []
            for _, userid, told in same:
                if not users:
                    values = tuple(json.loads(told)) if told else ()
                users.append(userid)
                if len(users) == size:
                    yield Chunk(users, values)
                    users = []
            if users:
                yield Chunk(users, values)

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        # All is one transaction: ending one writes pages that change again right away.
        return self._connection.executemany(statement, rows).rowcount

    def _one(self, query: str, *arguments: int) -> int:
        (count,) = self._connection.execute(query, arguments).fetchone()
        return int(count)
