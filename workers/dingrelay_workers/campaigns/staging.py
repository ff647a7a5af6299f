"""Where recipients wait before a campaign exists: each once, in order, however many they are."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

from dingrelay_workers.campaigns.template import FilledTemplate

CACHE_KIB = 8 * 1024
"""For looking up who is there already. Reading them in order needs little."""
READING_CACHE_KIB = 2 * 1024

_OPEN = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -{CACHE_KIB};
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    message TEXT NOT NULL
);
CREATE TABLE people (
    position INTEGER PRIMARY KEY,
    userid TEXT NOT NULL UNIQUE,
    result INTEGER
);
BEGIN;
"""
_ADD_RESULT = "INSERT OR IGNORE INTO results (digest, message) VALUES (?, ?)"
_RESULT = "SELECT message FROM results WHERE id = ?"
_ADD = """
INSERT OR IGNORE INTO people (userid, result)
VALUES (?, (SELECT id FROM results WHERE digest = ?))
"""
_REMOVE = "DELETE FROM people WHERE userid = ?"
_READ = "SELECT result, userid FROM people ORDER BY position"
_READ_BY_RESULT = "SELECT result, userid FROM people ORDER BY result, position"


Person = tuple[str, FilledTemplate | None]
"""The userid of one row of a source, and the message that they get; None if all get the same."""
StagedChunk = tuple[list[str], dict[str, Any] | None]
"""People for one call, and the ``msg`` object that they get; None if all get the same."""


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
        results = {filled.digest: filled for _, filled in people if filled}
        self._write(_ADD_RESULT, ((digest, one.json) for digest, one in results.items()))
        rows = ((userid, result and result.digest) for userid, result in people)
        return self._write(_ADD, rows)

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
            "SELECT coalesce(sum((people + ? - 1) / ?), 0)"
            " FROM (SELECT count(*) AS people FROM people GROUP BY result)",
            size,
            size,
        )

    async def pages(self, size: int) -> AsyncIterator[list[str]]:
        """The userids, up to `size` at once."""
        rows = self._connection.execute("SELECT userid FROM people")
        while users := [userid for (userid,) in islice(rows, size)]:
            yield users

    def chunks(self, size: int) -> Iterator[StagedChunk]:
        """Up to `size` people who get the same message, in the order in which these came up."""
        self._connection.execute(f"PRAGMA cache_size = -{READING_CACHE_KIB}")
        rows = self._connection.execute(_READ_BY_RESULT if self._varies else _READ)
        for result, same in groupby(rows, key=itemgetter(0)):
            message = None if result is None else self._message(result)
            while users := [userid for _, userid in islice(same, size)]:
                yield users, message

    def _message(self, result: int) -> dict[str, Any]:
        (message,) = self._connection.execute(_RESULT, (result,)).fetchone()
        found: dict[str, Any] = json.loads(message)
        return found

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        # All is one transaction: ending one writes pages that change again right away.
        return self._connection.executemany(statement, rows).rowcount

    def _one(self, query: str, *arguments: int) -> int:
        (count,) = self._connection.execute(query, arguments).fetchone()
        return int(count)
