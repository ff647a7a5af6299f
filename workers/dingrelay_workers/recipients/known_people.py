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
        userids, answer = self._questions.get(key) or self._start_query(key)
        userids.update(users)
        return {*users} & await asyncio.shield(answer)

    def _start_query(self, key: Key) -> tuple[set[str], Answer]:
        userids: set[str] = set()
        answer = asyncio.create_task(self._answer(key, userids))
        self._under_way.add(answer)
        answer.add_done_callback(self._forget_query)
        self._questions[key] = userids, answer
        return userids, answer

    def _forget_query(self, answer: Answer) -> None:
        self._under_way.discard(answer)
        if not answer.cancelled():
            answer.exception()  # it is known, whether anybody still waits or not

    async def _answer(self, key: Key, userids: set[str]) -> set[str]:
        app, departments = key
        async with self._asking:
            del self._questions[key]
            members: set[str] = set()
            inside = None if departments is None else await self._tree(key, departments)
            async with self._database.read() as connection:
                for batch in chunks(userids):
                    if inside is None:
                        people = select(UserRow.userid).where(
                            UserRow.app == app, UserRow.userid.in_(batch), UserRow.left_at.is_(None)
                        )
                        members.update(await connection.scalars(people))
                        continue
                    # People who left have no memberships.
                    places = select(MembershipRow.userid, MembershipRow.department).where(
                        MembershipRow.app == app, MembershipRow.userid.in_(batch)
                    )
                    rows = await connection.execute(places)
                    members.update(row.userid for row in rows if row.department in inside)
            return members

    async def _tree(self, key: Key, departments: frozenset[int]) -> frozenset[int]:
        """The departments and all below them."""
        below, until = self._below.get(key, (frozenset[int](), 0.0))
        if time.monotonic() < until:
            return below
        async with self._database.read() as connection:
            below = frozenset(await connection.scalars(tree(key[0], departments)))
        self._below = {
            question: tree_until
            for question, tree_until in self._below.items()
            if question[0] != key[0]
        }
        self._below[key] = below, time.monotonic() + TREE_KEPT
        return below
