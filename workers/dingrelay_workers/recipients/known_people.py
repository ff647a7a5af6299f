"""Finds people and their departments in the directory, by one query at a time a process."""

import asyncio
import time
from collections.abc import Collection

from sqlalchemy import select

from dingrelay_workers.database.database import Database, chunks
from dingrelay_workers.directory.departments import tree
from dingrelay_workers.directory.models import MembershipRow, UserRow

TREE_KEPT = 60.0
"""Seconds for which the departments below others are not read again."""

Key = tuple[str, frozenset[int] | None]


Answer = asyncio.Task[set[str]]


class KnownPeople:
    """The directory, for look-ups of recipients of messages."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking = asyncio.Lock()
        self._questions: dict[Key, tuple[set[str], Answer]] = {}
        self._below: dict[Key, tuple[frozenset[int], float]] = {}
        self._under_way: set[Answer] = set()

    async def close(self) -> None:
        """Cancel queries under way: nothing waits for them."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def find(
        self, app: str, users: Collection[str], departments: frozenset[int] | None
    ) -> set[str]:
        """The users who are in the directory and have not left.

        Args:
            app: whose directory it is.
            users: their userids.
            departments: only those in or below one of these; None: wherever they are.
        """
        key = (app, departments)
        asked, answer = self._questions.get(key) or self._ask(key)
        asked.update(users)
        return {*users} & await asyncio.shield(answer)

    def _ask(self, key: Key) -> tuple[set[str], Answer]:
        asked: set[str] = set()
        answer = asyncio.create_task(self._answer(key, asked))
        self._under_way.add(answer)
        answer.add_done_callback(self._ended)
        self._questions[key] = asked, answer
        return asked, answer

    def _ended(self, answer: Answer) -> None:
        self._under_way.discard(answer)
        if not answer.cancelled():
            answer.exception()  # it is known, whether anybody still waits or not

    async def _answer(self, key: Key, asked: set[str]) -> set[str]:
        app, departments = key
        async with self._asking:
            del self._questions[key]
            found: set[str] = set()
            inside = None if departments is None else await self._tree(key, departments)
            async with self._database.read() as connection:
                for some in chunks(asked):
                    if inside is None:
                        people = select(UserRow.userid).where(
                            UserRow.app == app, UserRow.userid.in_(some), UserRow.left_at.is_(None)
                        )
                        found.update(await connection.scalars(people))
                        continue
                    # People who left have no memberships.
                    places = select(MembershipRow.userid, MembershipRow.department).where(
                        MembershipRow.app == app, MembershipRow.userid.in_(some)
                    )
                    rows = await connection.execute(places)
                    found.update(row.userid for row in rows if row.department in inside)
            return found

    async def _tree(self, key: Key, departments: frozenset[int]) -> frozenset[int]:
        """The departments and all below them."""
        below, until = self._below.get(key, (frozenset[int](), 0.0))
        if time.monotonic() < until:
            return below
        async with self._database.read() as connection:
            below = frozenset(await connection.scalars(tree(key[0], departments)))
        self._below = {known: kept for known, kept in self._below.items() if known[0] != key[0]}
        self._below[key] = below, time.monotonic() + TREE_KEPT
        return below
