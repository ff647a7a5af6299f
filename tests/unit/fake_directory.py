"""The directory of people in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dingrelay_tasks.organisation import Department, Member, Progress

NOTHING = Progress(
    pending=0, failed=[], departments=0, users=0, added=0, changed=0, left=0, calls=0
)


class FakeDirectory:
    """Notes what it gets, and counts pending departments."""

    read_at = 0

    def __init__(self) -> None:
        self.writes: list[tuple[Any, ...]] = []
        self.open: set[int] = set()
        self.counts = NOTHING
        self.failing = False
        self.unmet_users: list[str] = []
        self.known: set[int] = set()
        self.inside: dict[int, list[str]] = {}
        self.heads: dict[int, list[str]] = {}
        self.outdated: dict[str, bool] = {}

    async def open_run(
        self, run: str, *, scope: str, roots: Sequence[Department], calls: int
    ) -> None:
        self.writes.append(("open", run, scope, *((root.id, dict(root.fields)) for root in roots)))
        self.open |= {root.id for root in roots}
        self.counts = replace(self.counts, calls=self.counts.calls + calls)

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
        if self.failing:
            raise ConnectionError
        if children is not None:
            below = [child.id for child in children]
            self.writes.append(("below", department.id, below))
            self.open |= set(below)
            return below
        self.writes.append(("fill", department.id, [member.userid for member in members], calls))
        if complete:
            self._settle(department.id, calls, departments=1)
        return []

    async def vanish(self, run: str, department: int, *, calls: int) -> None:
        self.writes.append(("vanish", department, calls))
        self.unmet_users += self.inside.get(department, [])
        self._settle(department, calls, departments=0)

    async def fail(self, run: str, department: int) -> None:
        self.counts = replace(self.counts, failed=[*self.counts.failed, department])
        self._settle(department, 0, departments=0)

    async def put_user(self, run: str, member: Member, *, calls: int) -> Progress:
        self.writes.append(("put", member.userid))
        return replace(self.counts, outdated=self.outdated.pop(member.userid, False))

    async def drop_user(self, run: str, userid: str, *, calls: int) -> Progress:
        self.writes.append(("drop", userid))
        return self.counts

    async def unknown_departments(self, run: str, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if number not in self.known]

    async def leaders(self, number: int) -> list[str]:
        return self.heads.get(number, [])

    async def note_departments(
        self, run: str, *, met: Sequence[Department], hidden: list[int], gone: list[int]
    ) -> None:
        self.writes.append(("departments", [each.id for each in met], hidden, gone))

    async def note_users(
        self, run: str, *, met: Sequence[Member], hidden: list[str], gone: list[str]
    ) -> None:
        self.writes.append(("users", len(met), hidden, gone))
        found = {*(member.userid for member in met), *hidden, *gone}
        self.unmet_users = [userid for userid in self.unmet_users if userid not in found]

    async def unmet(
        self, run: str, *, most: int, confirm_removals: bool
    ) -> tuple[list[str], list[int]]:
        return self.unmet_users[:most], []

    async def unread(self, run: str, *, most: int) -> list[int]:
        return sorted(self.open)[:most]

    async def pending(self, run: str) -> int:
        return len(self.open)

    async def progress(self, run: str) -> Progress:
        return self.counts

    async def close_run(self, run: str, *, confirm_removals: bool) -> Progress:
        self.writes.append(("close", confirm_removals))
        return self.counts

    def _settle(self, department: int, calls: int, *, departments: int) -> None:
        self.open.discard(department)
        counts = self.counts
        self.counts = replace(
            counts, departments=counts.departments + departments, calls=counts.calls + calls
        )
