"""Departments and users at DingTalk, as a body sees them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


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


@dataclass(frozen=True, slots=True)
class ContactScope:
    """What the app may see: these departments with all below them, and these people."""

    departments: list[int]
    users: list[str]


class Contacts(Protocol):
    """The organisation as the job's app may see it. None: DingTalk says it does not exist."""

    async def scope(self) -> ContactScope:
        """What the app may see."""
        ...

    async def department(self, department: int) -> Department | None:
        """One department with all its fields.

        Raises:
            OutOfScope: the app may not see it.
        """
        ...

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments."""
        ...

    def members(self, department: int) -> AsyncIterator[list[Member]]:
        """The direct members, a page of at most 100 at a time.

        Raises:
            LookupError: the department does not exist.
        """
        ...

    async def by_mobile(self, number: str) -> str | None:
        """The userid that has a Chinese mobile number; None: not in the organisation.

        Raises:
            OutOfScope: the app may not see them.
        """
        ...

    async def user(self, userid: str) -> Member | None:
        """One user with all fields.

        Raises:
            OutOfScope: the app may not see them.
        """
        ...
