from collections.abc import AsyncIterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.organisation import Department, Member
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.user_sync import (
    DepartmentSync,
    UserSync,
    abandon_department,
    run,
    run_department,
)
from unit.fake_context import FakeContext
from unit.fake_directory import NOTHING, FakeDirectory


@dataclass
class FakeContacts:
    """An organisation: department → (departments below, pages of members)."""

    tree: dict[int, tuple[list[int], list[list[str]]]]
    users: set[str] = field(default_factory=set)
    calls: int = 0
    fails_after: int = 1_000
    fails_at: str = ""

    async def department(self, department: int) -> Department | None:
        self.calls += 1
        return Department(department, {"name": "?"}) if department in self.tree else None

    async def children(self, department: int) -> list[Department] | None:
        self.calls += 1
        if department not in self.tree:
            return None
        return [Department(child, {}) for child in self.tree[department][0]]

    async def members(
        self, department: int, cursor: int = 0
    ) -> AsyncIterator[tuple[list[Member], int | None]]:
        pages = self.tree[department][1]
        for number in range(cursor, len(pages)):
            if self.calls >= self.fails_after:
                raise ConnectionError
            self.calls += 1
            if pages[number] == ["gone"]:
                raise LookupError(department)
            after = number + 1 if number + 1 < len(pages) else None
            yield [Member(userid, {}) for userid in pages[number]], after

    async def user(self, userid: str) -> Member | None:
        self.calls += 1
        if userid == self.fails_at:
            raise ConnectionError
        return Member(userid, {}) if userid in self.users else None


class SyncContext(FakeContext):
    """One job's context; the jobs of a family share contacts, directory and what they spawn."""

    def __init__(self, contacts: FakeContacts, job_id: str = "r") -> None:
        super().__init__(job_id)
        self.contacts = contacts
        self.directory = FakeDirectory()
        self.spawned: dict[str, Contract] = {}
        self.woken: list[str] = []
        self.ended: dict[str, str | None] = {}
        """States of children that are not queued any more, by key."""

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        for key, child in zip(keys, children, strict=True):
            self.spawned.setdefault(key, child)

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        assert kind == DepartmentSync.kind
        queued = dict.fromkeys(self.spawned, "queued")
        return [{**queued, **self.ended}.get(key) for key in keys]

    async def wake(self, job_id: str) -> None:
        self.woken.append(job_id)

    def child(self) -> "SyncContext":
        child = copy(self)
        child.job_id, child.remembered = "child", {}
        return child


def organisation() -> FakeContacts:
    return FakeContacts(
        {
            1: ([2, 3], [["boss"]]),
            2: ([4], [["ann"], ["bob"]]),
            3: ([], [[]]),
            4: ([], [["dee"]]),
        }
    )


async def run_children(ctx: SyncContext) -> None:
    """Run every spawned child, and those that they spawn."""
    done: set[str] = set()
    while ahead := ctx.spawned.keys() - done:
        key = min(ahead)
        done.add(key)
        child = ctx.spawned[key]
        assert isinstance(child, DepartmentSync)
        await run_department(child, ctx.child())


async def test_children_stay_in_the_family_of_their_parent() -> None:
    ctx = SyncContext(organisation())
    with pytest.raises(Wait):
        await run(UserSync(app="shop", lane="normal"), ctx)
    await run_children(ctx)
    assert ctx.spawned["4"] == DepartmentSync(app="shop", lane="normal", run="r", department=4)


async def test_a_waiting_parent_opens_its_run_once() -> None:
    ctx = SyncContext(organisation())
    for _ in range(3):
        with pytest.raises(Wait, match="1 departments pending"):
            await run(UserSync(), ctx)
    assert ctx.contacts.calls == len(ctx.directory.writes) == 1


async def test_a_department_that_was_written_is_not_read_again() -> None:
    ctx = SyncContext(organisation())
    child = ctx.child()
    job = DepartmentSync(run="r", department=2)
    first = await run_department(job, child)
    assert first == await run_department(job, child)
    assert first == {"users": 2, "children": [4], "calls": 3}
    assert ctx.contacts.calls == 3


async def test_a_crash_before_writing_leaves_the_department_pending() -> None:
    ctx = SyncContext(organisation())
    ctx.directory.open = {2}
    ctx.directory.failing = True
    with pytest.raises(ConnectionError):
        await run_department(DepartmentSync(run="r", department=2), ctx.child())
    assert ctx.directory.open == {2}
    assert not ctx.woken
    assert not ctx.spawned


async def test_a_department_without_children_spawns_nothing() -> None:
    ctx = SyncContext(organisation())
    await run_department(DepartmentSync(run="r", department=3), ctx.child())
    assert not ctx.spawned
    assert ctx.directory.writes == [("below", 3, []), ("fill", 3, [], 2)]


async def test_an_answer_that_was_read_before_a_failure_is_not_read_again() -> None:
    ctx = SyncContext(organisation())
    child, job = ctx.child(), DepartmentSync(run="r", department=2)
    for answers in (1, 2):
        ctx.contacts.fails_after = answers
        with pytest.raises(ConnectionError):
            await run_department(job, child)
        assert ctx.spawned.keys() == {"4"}, "those below need not wait for its members"
    ctx.contacts.fails_after = 1_000
    assert await run_department(job, child) == {"users": 2, "children": [4], "calls": 3}
    assert ctx.contacts.calls == 3
    assert ctx.directory.writes == [
        ("below", 2, [4]),
        ("fill", 2, ["ann"], 2),
        ("fill", 2, ["bob"], 3),
    ]


async def test_members_that_were_read_long_ago_are_read_from_the_first_page_on() -> None:
    ctx = SyncContext(organisation())
    child, job = ctx.child(), DepartmentSync(run="r", department=2)
    ctx.contacts.fails_after = 2
    with pytest.raises(ConnectionError):
        await run_department(job, child)
    child.clock += timedelta(minutes=11)
    ctx.contacts.fails_after = 1_000
    await run_department(job, child)
    assert ctx.contacts.calls == 2 + 3


@pytest.mark.parametrize(("pages", "calls"), [(None, 1), ([["ann"], ["gone"]], 3)])
async def test_a_vanished_department_is_settled(pages: list[list[str]] | None, calls: int) -> None:
    ctx = SyncContext(FakeContacts({} if pages is None else {2: ([], pages)}))
    ctx.directory.open = {2}
    result = await run_department(DepartmentSync(run="r", department=2), ctx.child())
    assert ctx.directory.writes[-1] == ("vanish", 2, calls)
    assert result == {"users": 0, "children": [], "calls": calls}
    assert ctx.contacts.calls == calls
    assert ctx.woken == ["r"]


async def test_a_dead_department_does_not_wake_a_parent_that_waits_for_others() -> None:
    ctx = SyncContext(organisation())
    ctx.directory.open = {2, 3}
    await abandon_department(DepartmentSync(run="r", department=2), ctx.child(), in_doubt=False)
    assert not ctx.woken


async def test_many_failures_are_named_in_part() -> None:
    ctx = SyncContext(organisation())
    ctx.remembered["open"] = {}
    ctx.directory.counts = replace(NOTHING, failed=list(range(1, 40)))
    with pytest.raises(
        Refused, match="39 departments were not read: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"
    ):
        await run(UserSync(), ctx)


@pytest.mark.parametrize("state", ["cancelled", "dead", "unknown", "expired"])
async def test_a_department_whose_job_is_over_ends_its_run(state: str) -> None:
    ctx = SyncContext(organisation())
    with pytest.raises(Wait):
        await run(UserSync(), ctx)
    ctx.ended["1"] = state
    with pytest.raises(Refused, match="1 departments were not read: 1"):
        await run(UserSync(), ctx)


async def test_a_department_without_a_job_gets_one_again() -> None:
    """A failover lost it."""
    ctx = SyncContext(organisation())
    with pytest.raises(Wait):
        await run(UserSync(), ctx)
    ctx.spawned.clear()
    with pytest.raises(Wait, match="1 departments pending"):
        await run(UserSync(), ctx)
    assert ctx.spawned.keys() == {"1"}
    await run_children(ctx)
    await run(UserSync(), ctx)
    assert ctx.directory.writes[-1] == ("close", False)


async def test_a_department_that_is_written_while_it_is_looked_for_has_not_failed() -> None:
    ctx = SyncContext(organisation())
    with pytest.raises(Wait):
        await run(UserSync(), ctx)

    async def children(kind: str, keys: Sequence[str]) -> list[str | None]:
        await run_department(DepartmentSync(run="r", department=1), ctx.child())
        return ["done"] * len(keys)

    looking = copy(ctx)
    looking.children = children  # type: ignore[method-assign]
    with pytest.raises(Wait, match="2 departments pending"):
        await run(UserSync(), looking)
    assert not ctx.directory.counts.failed


async def test_reports_from_before_a_failure_are_not_read_again() -> None:
    ctx = SyncContext(organisation())
    ctx.remembered["open"] = {}
    ctx.directory.unmet_users = ["left", "other"]
    ctx.contacts.fails_at = "other"
    with pytest.raises(ConnectionError):
        await run(UserSync(), ctx)
    assert ctx.directory.unmet_users == ["other"]


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({"scope": "department"}, "department"),
        ({"scope": "user"}, "user"),
        ({"department": 5}, "department"),
        ({"scope": "user", "user": "u", "department": 5}, "department"),
        ({"scope": "department", "department": 5, "user": "u"}, "user"),
        ({"scope": "department", "department": "5"}, "department"),
        ({"scope": "department", "department": 0}, "department"),
        ({"scope": "department", "department": 2**63}, "department"),
        ({"scope": "department", "department": -(2**63)}, "department"),
        ({"scope": "department", "department": True}, "department"),
        ({"scope": "user", "user": "a,b"}, "user"),
        ({"scope": "all"}, "scope"),
        ({"confirm_removals": "perhaps"}, "confirm_removals"),
        ({"since": 1}, "since"),
    ],
)
def test_a_wrong_job_names_its_field(job: dict[str, Any], field: str) -> None:
    with pytest.raises(ContractError) as refused:
        UserSync.parse(job)
    assert refused.value.field == field


def test_the_defaults_are_a_walk_of_everything_in_bulk() -> None:
    job = UserSync.parse({"department": None, "user": None})
    assert (job.scope, job.lane, job.confirm_removals) == ("everything", "bulk", False)
    assert job.queue == DepartmentSync(run="r", department=1).queue == "dingrelay.directory"
    assert job.summary() == "user-sync app=default lane=bulk scope=everything"
    child = DepartmentSync(run="r", department=4)
    assert child.summary() == "user-sync-department app=default lane=bulk department=4"
