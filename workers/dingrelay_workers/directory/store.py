"""The directory: what user-sync writes and what audiences are read from."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import Department, Member, Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.directory import audience, departments, memberships, people, runs
from dingrelay_workers.directory.database import Database
from dingrelay_workers.directory.models import State
from dingrelay_workers.directory.runs import Run

DEFAULT_REMOVAL_SHARE = 0.1
"""As `Settings.removal_share`."""


class DirectoryStore:
    """The directories of all apps, in one database. Its tables are made by `schema.upgrade`.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://…``.
        removal_share: share of the people that one run may mark as left without confirmation.
    """

    def __init__(self, url: str, *, removal_share: float = DEFAULT_REMOVAL_SHARE) -> None:
        self.database = Database(url)
        self._removal_share = removal_share

    def of(self, app: str) -> "AppDirectory":
        """The directory of one app."""
        return AppDirectory(self.database, app, self._removal_share)

    async def close(self) -> None:
        """Close all connections."""
        await self.database.dispose()


class AppDirectory:
    """`Directory` of one app, with its audiences."""

    def __init__(self, database: Database, app: str, removal_share: float) -> None:
        self._database = database
        self._app = app
        self._removal_share = removal_share

    async def open_run(self, run: str, *, scope: str, root: Department, calls: int) -> None:
        """Start the run with its root department pending; a second call changes nothing."""
        async with self._database.write(self._app) as connection:
            opened = await runs.open_(connection, self._app, run, scope, calls)
            if await runs.state(connection, opened, root.id) is None:
                await departments.put(connection, opened, [root])
                await runs.note(connection, opened, [root.id], parent=None)

    async def fill(
        self,
        run: str,
        department: Department,
        *,
        children: Sequence[Department],
        members: Sequence[Member],
        calls: int,
    ) -> list[int]:
        """Write one department and note its children as pending; the children's ids."""
        async with self._database.write(self._app) as connection:
            found = await runs.find(connection, self._app, run)
            if await runs.state(connection, found, department.id) != State.DONE:
                await departments.put_children(connection, found, department, children)
                told = memberships.in_department(department.id, members)
                changes = await people.meet(connection, found, members)
                await people.record(connection, found, changes, _now())
                moved = await memberships.replace_department(connection, found, department.id, told)
                await people.record(connection, found, moved, _now())
                below = [child.id for child in children]
                await runs.note(connection, found, below, parent=department.id)
                await runs.settle(connection, found, department.id, State.DONE, calls=calls)
            return await runs.children(connection, found, department.id)

    async def vanish(self, run: str, department: int, *, calls: int) -> None:
        """The department no longer exists: it is settled, with nobody in it."""
        async with self._database.write(self._app) as connection:
            found = await runs.find(connection, self._app, run)
            await departments.remove(connection, found, [department], _now())
            await runs.settle(connection, found, department, State.VANISHED, calls=calls)

    async def fail(self, run: str, department: int) -> None:
        """The department could not be read; the run can't remove anybody."""
        async with self._database.write(self._app) as connection:
            found = await runs.find(connection, self._app, run)
            await runs.fail(connection, found, department)

    async def pending(self, run: str) -> int:
        """How many departments are known and not settled yet."""
        async with self._database.read() as connection:
            return await runs.pending(connection, await runs.find(connection, self._app, run))

    async def progress(self, run: str) -> Progress:
        """Counts of the run so far."""
        async with self._database.read() as connection:
            return await runs.progress(connection, await runs.find(connection, self._app, run))

    async def close_run(self, run: str, *, confirm_removals: bool) -> Progress:
        """Mark as left whoever a complete walk of everything did not meet; final counts."""
        async with self._database.write(self._app) as connection:
            found = await runs.find(connection, self._app, run)
            if not found.closed:
                _refuse_incomplete(await runs.progress(connection, found))
                if found.scope == "everything":
                    await self._remove_not_met(connection, found, confirmed=confirm_removals)
                users = await runs.count_users(connection, found)
                await runs.close(connection, found, users=users)
            return await runs.progress(connection, found)

    async def put_user(self, run: str, member: Member, *, calls: int) -> Progress:
        """Write one user as told by DingTalk: a run of its own, at once closed."""
        async with self._database.write(self._app) as connection:
            opened = await runs.open_(connection, self._app, run, "user", calls)
            changes = await people.meet(connection, opened, [member])
            await people.record(connection, opened, changes, _now())
            told = memberships.of_user(member)
            if told is not None:
                places = [Department(membership.department, {}) for membership in told]
                await departments.put(connection, opened, places)
                moved = await memberships.replace_user(connection, opened, member.userid, told)
                await people.record(connection, opened, moved, _now())
            await runs.close(connection, opened, users=1)
            return await runs.progress(connection, opened)

    async def drop_user(self, run: str, userid: str, *, calls: int) -> Progress:
        """Mark one user as left: a run of its own, at once closed."""
        async with self._database.write(self._app) as connection:
            opened = await runs.open_(connection, self._app, run, "user", calls)
            changes = await people.remove(connection, opened, [userid], _now())
            await people.record(connection, opened, changes, _now())
            await runs.close(connection, opened, users=0)
            return await runs.progress(connection, opened)

    def users_below(self, department: int) -> AsyncIterator[list[str]]:
        """The people of a department and all below it, each once, in pages."""
        return audience.below(self._database, self._app, department)

    def everyone(self) -> AsyncIterator[list[str]]:
        """All who have not left, in pages."""
        return audience.everyone(self._database, self._app)

    async def count_below(self, department: int) -> int:
        """How many people a department and all below it hold, each counted once."""
        return await audience.count_below(self._database, self._app, department)

    async def count_everyone(self) -> int:
        """How many people have not left."""
        return await audience.count_everyone(self._database, self._app)

    async def _remove_not_met(
        self, connection: AsyncConnection, run: Run, *, confirmed: bool
    ) -> None:
        gone = await people.not_met(connection, run)
        known = await people.count_known_before(connection, run)
        if len(gone) > self._removal_share * known and not confirmed:
            raise Refused(
                "removal_share",
                f"{len(gone)} of {known} people would be marked as left, more than the share of "
                f"{self._removal_share:g} that needs no confirmation",
                "check that the app may still see the whole organisation; if they did leave, "
                "enqueue the user-sync with confirm_removals",
            )
        now = _now()
        await people.record(connection, run, await people.remove(connection, run, gone, now), now)
        await departments.remove(connection, run, await departments.not_met(connection, run), now)


def _refuse_incomplete(progress: Progress) -> None:
    """Nobody may be marked as left after a walk that has not seen everyone."""
    if progress.pending or progress.failed:
        raise Refused(
            "run_incomplete",
            f"departments: {progress.pending} pending, {len(progress.failed)} failed",
            "enqueue the user-sync again",
        )


def _now() -> datetime:
    return datetime.now(UTC)
