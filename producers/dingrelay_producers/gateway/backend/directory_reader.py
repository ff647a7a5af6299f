"""The organisation as the last user-sync found it, for the HTTP API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person in the directory.

    Attributes:
        departments: those that they are a direct member of; none once they left.
        fields: all that DingTalk ever returned of them, in the names of its v2 API (API §3.5).
        left_at: when they were found to have left; None while they have not.
    """

    userid: str
    name: str | None
    departments: Sequence[int]
    fields: dict[str, Any]
    left_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentEntry:
    """A department of the directory.

    Attributes:
        parent: the one above it; None for the root, and where that is not known.
        fields: all that DingTalk ever returned of it, in the names of its v2 API.
    """

    id: int
    name: str | None
    parent: int | None
    fields: dict[str, Any]


class DirectoryReader(Protocol):
    """What keeps the directory. Every method raises `ServiceUnavailable` where it is away."""

    async def users(
        self, app: str, *, department: int | None, left: bool, after: str | None, limit: int
    ) -> Sequence[Person]:
        """People by userid, after one of them.

        Args:
            app: whose directory it is.
            department: only those in it or below it; None for all people.
            left: people who left, instead of present ones.
            after: the last userid of the page before.
            limit: how many at most.
        """
        ...

    async def departments(
        self, app: str, *, parent: int | None, after: int | None, limit: int
    ) -> Sequence[DepartmentEntry]:
        """Departments that exist by id, after one of them; with `parent`, those directly below it."""
        ...
