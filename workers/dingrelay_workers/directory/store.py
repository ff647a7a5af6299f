"""The directory: what user-sync writes and what audiences are read from."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.addresses import AddressKind
from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import (
    addresses,
    audience,
    departments,
    memberships,
    omissions,
    people,
    runs,
)
from dingrelay_workers.directory.models import (
    Change,
    ChangeEvent,
    DepartmentRow,
    DepartmentState,
    UserRow,
)
from dingrelay_workers.directory.runs import Run

REMOVAL_SHARE = 0.1
"""Share of the people that one sync may mark as left without confirmation: DingTalk has answered with half a tree."""


class AppDirectory:
    """The directory of one app, for writing answers read at a given moment. Its tables are made by `schema.upgrade`.

    Args:
        database: with the directories of all apps.
        app: whose directory it is.
        read_at: that moment (ms; `order.py`).
        on_complete: called with the app once all of its directory was read.
    """

    def __init__(
        self,
        database: Database,
        app: str,
        *,
        read_at: int = 0,
        on_complete: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._app = app
        self.read_at = read_at
        self._on_complete = on_complete

    async def open_run(
        self, run: str, *, scope: str, roots: Sequence[Department], calls: int
    ) -> None:
        """Start the run with its root departments pending; a second call changes nothing."""
        async with self._opened(run, scope, calls) as opened:
            for root in roots:
                if await runs.state(opened, root.id) is None:
                    await departments.put(opened, [root])
                    await runs.note(opened, [root.id], parent=None)

    async def fill(
        self,
        run: str,
        department: Department,
        *,
        children: Sequence[Department] | None,
        members: Sequence[Member],
        calls: int,
        since: int | None = None,
        complete: bool = True,
    ) -> list[int]:
        """Write one department, or a part of it, and note its children as pending; the children's ids."""
        async with self._writing(run) as open_run:
            if await runs.state(open_run, department.id) != DepartmentState.DONE:
                now = _now()
                if children is not None:
                    await departments.put_children(open_run, department, children)
                    below = [child.id for child in children]
                    await runs.note(open_run, below, parent=department.id)
                places = memberships.in_department(department.id, members)
                changes, _ = await people.meet(open_run, members, now, listed=True)
                await people.record(open_run, changes, now)
                moved = await memberships.put_members(open_run, department.id, places)
                await people.record(open_run, moved, now)
                if complete:
                    oldest_read = self.read_at if since is None else since
                    await memberships.drop_others(open_run, department.id, since=oldest_read)
                    await runs.settle(open_run, department.id, DepartmentState.DONE, calls=calls)
            return await runs.children(open_run, department.id)

    async def vanish(self, run: str, department: int, *, calls: int) -> None:
        """The department no longer exists: it is settled."""
        async with self._writing(run) as open_run:
            await departments.remove(open_run, [department], _now())
            await runs.settle(open_run, department, DepartmentState.VANISHED, calls=calls)

    async def fail(self, run: str, department: int) -> None:
        """The department could not be read; the run can't remove anybody."""
        async with self._writing(run) as open_run:
            await runs.fail(open_run, department)

    async def pending(self, run: str) -> int:
        """How many departments are known and not settled yet."""
        async with self._reading(run) as open_run:
            return await runs.pending(open_run)

    async def unread(self, run: str, *, most: int) -> list[int]:
        """Departments that are not settled yet."""
        async with self._reading(run) as open_run:
            return await runs.in_state(open_run, DepartmentState.PENDING, most)

    async def progress(self, run: str) -> Progress:
        """Counts of the run so far."""
        async with self._reading(run) as open_run:
            return await runs.progress(open_run)

    async def unmet(
        self, run: str, *, most: int, confirm_removals: bool
    ) -> tuple[list[str], list[int]]:
        """People and departments that a complete run did not meet, and that were not queried yet.

        Of a part of the organisation these are only the members of departments that are gone.
        """
        async with self._reading(run) as open_run:
            if open_run.closed:
                return [], []
            _refuse_incomplete(await runs.progress(open_run))
            if stranded := await memberships.stranded(open_run, most):
                return list(stranded), []
            if open_run.scope != "everything":
                return [], []
            await self._gone(open_run, confirmed=confirm_removals)
            users = await runs.not_met(open_run, UserRow.userid, most)
            if users:
                return users, []
            return [], await runs.not_met(open_run, DepartmentRow.id, most)

    async def note_users(
        self, run: str, *, met: Sequence[Member], hidden: Sequence[str], gone: Sequence[str]
    ) -> None:
        """Write DingTalk's answers to a request for each of these people."""
        async with self._writing(run) as open_run:
            for member in met:
                await _put_user(open_run, member)
            await runs.keep(open_run, UserRow.userid, hidden)
            unplaced = [member.userid for member in met if memberships.of_user(member) is None]
            await memberships.leave_removed(open_run, [*hidden, *unplaced])
            changes = {userid: Change(ChangeEvent.GONE) for userid in gone}
            await people.record(open_run, changes, _now())
            await runs.add_calls(open_run, len(met) + len(hidden) + len(gone))

    async def note_departments(
        self, run: str, *, met: Sequence[Department], hidden: Sequence[int], gone: Sequence[int]
    ) -> None:
        """The same for departments; those that are gone are so at once."""
        async with self._writing(run) as open_run:
            await departments.put(open_run, met)
            await runs.keep(open_run, DepartmentRow.id, hidden)
            await departments.remove(open_run, gone, _now())
            for number in gone:
                await runs.settle(open_run, number, DepartmentState.VANISHED, calls=0)
            await runs.add_calls(open_run, len(met) + len(hidden) + len(gone))

    async def close_run(self, run: str, *, confirm_removals: bool) -> Progress:
        """Mark people who are gone as left; returns final counts, also when closed again."""
        async with self._writing(run) as open_run:
            if not open_run.closed:
                _refuse_incomplete(await runs.progress(open_run))
                userids = await self._gone(open_run, confirmed=confirm_removals)
                now = _now()
                departures = await people.remove(open_run, userids, now)
                await people.record(open_run, departures, now)
                users = await runs.count_users(open_run)
                await runs.close(open_run, users=users)
            progress = await runs.progress(open_run)
        if open_run.scope == "everything" and self._on_complete is not None:
            await self._on_complete(self._app)
        return progress

    async def find(self, kind: AddressKind, values: Collection[str]) -> dict[str, list[str]]:
        """The userids of those who have not left and have one of these addresses, by address."""
        return await addresses.find(self._database, self._app, kind, values)

    async def put_user(self, run: str, member: Member, *, calls: int) -> Progress:
        """Write DingTalk's answer for one user, in an open run or one of its own, closed at once."""
        async with self._opened(run, "user", calls) as opened:
            left_out = await _put_user(opened, member)
            outdated = await memberships.is_outdated(opened, member)
            witnesses = await omissions.witnesses(opened, member.userid, left_out)
            written = await _closed(opened, users=1)
            return replace(written, outdated=outdated, witnesses=witnesses)

    async def drop_user(self, run: str, userid: str, *, calls: int) -> Progress:
        """Mark one user as left, in a run as `put_user`."""
        async with self._opened(run, "user", calls) as opened:
            changes = await people.remove(opened, [userid], _now())
            await people.record(opened, changes, _now())
            return await _closed(opened, users=0)

    async def unknown_departments(self, run: str, numbers: Sequence[int]) -> list[int]:
        """The departments that the directory did not know before the run."""
        async with self._database.read() as connection:
            return await departments.unknown_departments(connection, self._app, run, numbers)

    async def leaders(self, department: int) -> Sequence[str]:
        """The heads of a department, as far as they are known."""
        async with self._database.read() as connection:
            return await memberships.leaders(connection, self._app, department)

    def everyone(self) -> AsyncIterator[list[str]]:
        """All who have not left, in pages."""
        return audience.everyone(self._database, self._app)

    @asynccontextmanager
    async def _opened(self, run: str, scope: str, calls: int) -> AsyncGenerator[Run]:
        """The run of that id, for a transaction; a new one if there is none."""
        async with self._database.write(self._app) as connection:
            yield await runs.open_(
                connection, self._app, run, scope, calls=calls, read_at=self.read_at
            )

    @asynccontextmanager
    async def _writing(self, run: str) -> AsyncGenerator[Run]:
        async with self._database.write(self._app) as connection:
            yield await runs.find(connection, self._app, run, read_at=self.read_at)

    @asynccontextmanager
    async def _reading(self, run: str) -> AsyncGenerator[Run]:
        async with self._database.read() as connection:
            yield await runs.find(connection, self._app, run, read_at=self.read_at)

    async def _gone(self, run: Run, *, confirmed: bool) -> list[str]:
        """The people that leave with this run, if they are not too many.

        Raises:
            Refused: they are more than the safety share, and it was not confirmed.
        """
        userids = await people.gone(run)
        before = await people.count_known_before(run)
        if len(userids) > REMOVAL_SHARE * before and not confirmed:
            raise Refused(
                "removal_share",
                en(
                    "at least {} of {} people would be marked as left, more than the share of "
                    "{:g} that needs no confirmation",
                    len(userids),
                    before,
                    REMOVAL_SHARE,
                ),
                "check that the app may still see the whole organisation; if they did leave, "
                "enqueue the user-sync with confirm_removals",
            )
        return userids


async def _put_user(run: Run, member: Member) -> set[str]:
    """Write all fields in the answer for one user, and their memberships.

    Returns:
        The known fields that no answer had left out before.
    """
    now = _now()
    changes, left_out = await people.meet(run, [member], now, listed=False)
    await people.record(run, changes, now)
    places = memberships.of_user(member)
    if places is not None:
        ids = [place["department"] for place in places]
        await departments.mention(run, ids)
        moved = await memberships.replace_user(run, member.userid, places)
        await people.record(run, moved, now)
    return left_out.get(member.userid, set())


async def _closed(run: Run, *, users: int) -> Progress:
    """The counts of a run; one about single people ends with them."""
    if run.scope == "user":
        await runs.close(run, users=users)
    progress = await runs.progress(run)
    if run.scope == "user":
        await runs.drop_if_nothing_new(run)
    return progress


def _refuse_incomplete(progress: Progress) -> None:
    """Refuse to mark people as left after a walk that has not seen everyone."""
    if progress.pending or progress.failed:
        raise Refused(
            "run_incomplete",
            en("departments: {} pending, {} failed", progress.pending, len(progress.failed)),
            "enqueue the user-sync again",
        )


def _now() -> datetime:
    return clock.now()


def for_jobs(database: Database, _: Redis, __: Settings) -> partial[AppDirectory]:
    """Opens the directories of apps, for the jobs of a worker."""
    return partial(AppDirectory, database)
