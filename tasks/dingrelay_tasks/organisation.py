"""The organisation as a job's body sees it: at DingTalk, and in SQL."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dingrelay_tasks.addresses import AddressKind


@dataclass(frozen=True, slots=True)
class Department:
    """A department as DingTalk returns it. A field that the answer lacks is absent in `fields`."""

    id: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """A user as DingTalk returns them. A field that the answer lacks is absent in `fields`.

    Names are those of the v2 API (API §3.1), whichever generation was asked.
    """

    userid: str
    fields: Mapping[str, Any]


class Contacts(Protocol):
    """The organisation as the job's app may see it, at DingTalk. None: it does not exist.

    `department`, `by_mobile` and `user` raise `OutOfScope` where the app may not see it.
    """

    async def scope(self) -> tuple[list[int], list[str]]:
        """The app's visible scope: departments with all below them, and people."""
        ...

    async def department(self, department: int) -> Department | None:
        """One department with all its fields."""
        ...

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments."""
        ...

    def members(
        self, department: int, cursor: int = 0
    ) -> AsyncIterator[tuple[list[Member], int | None]]:
        """The direct members, a page of at most 100 at a time.

        Args:
            department: whose members.
            cursor: where to begin; each page comes with the one of the next page, None after the last.

        Raises:
            LookupError: the department does not exist.
        """
        ...

    async def by_mobile(self, number: str) -> str | None:
        """The userid that has a Chinese mobile number."""
        ...

    async def user(self, userid: str) -> Member | None:
        """One user with all fields."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a directory run.

    Attributes:
        pending: departments that are known and not settled yet.
        failed: departments that could not be read.
        departments: departments that were read.
        users: people that were met, each counted once.
        added: people that were not there before, or had left.
        changed: people with a field that has another value than before.
        left: people marked as left.
        calls: calls to DingTalk that were reported to the run.
        outdated: the answer of a person names a department that was deleted after it was read.
        witnesses: people whose answers show whether the app may see the fields that the answer of a
            person left out, and so whether these were cleared.
    """

    pending: int
    failed: list[int]
    departments: int
    users: int
    added: int
    changed: int
    left: int
    calls: int
    outdated: bool = False
    witnesses: Sequence[str] = ()


class Directory(Protocol):
    """The SQL directory of the job's app, and the runs that fill it.

    What is written counts as read after the job was claimed: nothing that was read later is
    overwritten, and it was to be read for what a job is enqueued for. `unmet` and `close_run` raise
    `Refused` where the run is not complete, or more people are gone than the safety share allows and
    `confirm_removals` is not set.

    Attributes:
        read_at: a moment before all was read that is written now, in ms of Redis's clock.
    """

    read_at: int

    async def open_run(
        self, run: str, *, scope: str, roots: Sequence[Department], calls: int
    ) -> None:
        """Start the run with its root departments pending; a second call changes nothing."""

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
        """Write one department, or a part of it, and note its children as pending; the children's ids.

        Once it is complete, a further call in the same run changes nothing.

        Args:
            run: the run that read the department.
            department: its known fields; its parent may have supplied more already.
            children: all its direct sub-departments; None: they are written already.
            members: its direct members, or some of them.
            calls: calls that it took to read all that is written of it.
            since: `read_at` of the first part; None: this is the first.
            complete: whether the last part is written; members that were in no part are in it no longer.

        Raises:
            Refused: there is no such run.
        """
        ...

    async def vanish(self, run: str, department: int, *, calls: int) -> None:
        """The department no longer exists: it is settled. Its members are unmet until they are read."""

    async def fail(self, run: str, department: int) -> None:
        """The department could not be read; the run can't mark people as left."""

    async def pending(self, run: str) -> int:
        """How many departments are known and not settled yet."""
        ...

    async def unread(self, run: str, *, most: int) -> list[int]:
        """Departments that are not settled yet."""
        ...

    async def progress(self, run: str) -> Progress:
        """Counts of the run so far."""
        ...

    async def unmet(
        self, run: str, *, most: int, confirm_removals: bool
    ) -> tuple[list[str], list[int]]:
        """Users and departments that a complete run did not meet and were not asked for yet, up to a limit.

        Departments come only once no users are left.

        Of a part of the organisation these are only the members of departments that are gone.
        """
        ...

    async def note_users(
        self, run: str, *, met: Sequence[Member], hidden: Sequence[str], gone: Sequence[str]
    ) -> None:
        """Write DingTalk's answers to the queries for these people.

        Args:
            run: the run that queried.
            met: they exist, with these fields.
            hidden: the app may not see them: they stay as they are.
            gone: DingTalk does not know them; closing the run marks them as left.
        """

    async def note_departments(
        self, run: str, *, met: Sequence[Department], hidden: Sequence[int], gone: Sequence[int]
    ) -> None:
        """The same for departments; those that are gone are so at once."""

    async def close_run(self, run: str, *, confirm_removals: bool) -> Progress:
        """Mark people who are gone as left; returns final counts. Closing again only returns them."""
        ...

    async def find(self, kind: AddressKind, values: Collection[str]) -> dict[str, list[str]]:
        """The userids of those who have not left and have one of these addresses, by address.

        `values` are as `dingrelay_tasks.addresses` compares them.
        """
        ...

    async def put_user(self, run: str, member: Member, *, calls: int) -> Progress:
        """Write one user as DingTalk returned them.

        A run that is not open yet is this user's own, and at once closed. A known field that the
        answer left out stays until another person's answer shows that the app may see it.
        """
        ...

    async def drop_user(self, run: str, userid: str, *, calls: int) -> Progress:
        """Mark one user as left, in a run as `put_user`."""
        ...

    async def unknown_departments(self, run: str, numbers: Sequence[int]) -> list[int]:
        """The departments that the directory did not know before the run, or knew as gone."""
        ...

    async def leaders(self, department: int) -> Sequence[str]:
        """The heads of a department, as far as they are known."""
        ...
