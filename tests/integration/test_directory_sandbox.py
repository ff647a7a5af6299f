"""A walk through the sandbox over a real socket, in both generations of the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select

from dingrelay_producers.settings import Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.user_sync import (
    DepartmentSync,
    UserSync,
    abandon_department,
    run,
    run_department,
)
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.apis import TOKEN
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.contacts import ContactsV1, ContactsV2
from dingrelay_workers.dingtalk.errors import Transient
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.directory.models import ChangeRow, DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.directory.store import AppDirectory
from support.databases import on_sqlite
from support.directories import all_users, users_below
from support.rows import all_of

pytestmark = on_sqlite


FEW, MANY = 60, 400
"""People."""
DEPARTMENTS, LARGE = 10, 3
"""Departments of few people, and of many: those have more than one page of people each."""
ATTEMPTS = 3
"""Attempts before a child of these tests is dead."""


class SandboxCalls:
    """`Calls` without limits: the sandbox has none."""

    app = "default"
    agent_id = "1000001"

    def __init__(self, transport: Transport, token: str) -> None:
        self._transport = transport
        self._token = token

    async def send(self, request: Request) -> dict[str, Any]:
        return await self._transport.request(request, self._token)


class FamilyContext:
    """One job of a family: what it spawns goes to the family's list."""

    def __init__(
        self, job_id: str, contacts: ContactsV2, directory: AppDirectory, family: dict[str, Any]
    ) -> None:
        self.job_id = job_id
        self.contacts = contacts
        self.directory = directory
        self.family = family
        self.woken = False
        self.remembered: dict[str, Json] = {}

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        if step not in self.remembered:
            self.remembered[step] = await act()
        return self.remembered[step]

    def now(self) -> datetime:
        return datetime.now(UTC)

    def note_step(self, step: str, result: Json) -> None:
        self.remembered[step] = result

    async def step_result(self, step: str) -> Json | None:
        return self.remembered.get(step)

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        self.family.update(zip(keys, children, strict=True))

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        return ["queued" if key in self.family else None for key in keys]

    async def wake(self, job_id: str) -> None:
        self.woken = True


async def run_body(
    job: UserSync,
    job_id: str,
    contacts: Any,
    directory: AppDirectory,
    *,
    at_once: int = 8,
    after: Callable[[int], None] = lambda _: None,
) -> Json:
    """The parent, all its children, some at once, and the parent again.

    `after` is called with each department that was read.
    """
    family: dict[str, DepartmentSync] = {}
    parent: Any = FamilyContext(job_id, contacts, directory, family)
    slots = asyncio.Semaphore(at_once)

    async def child(key: str) -> None:
        ctx: Any = FamilyContext(f"{job_id}-{key}", contacts, directory, family)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with slots:
                    await run_department(family[key], ctx)
            except Transient:
                if attempt == ATTEMPTS:
                    await abandon_department(family[key], ctx, in_doubt=False)
            else:
                after(family[key].department)
                return

    done: set[str] = set()
    try:
        return await run(job, parent)
    except Wait:
        while ahead := family.keys() - done:
            done |= ahead
            await asyncio.gather(*map(child, ahead))
    while True:
        # A parent that has to ask for some people waits between two lots of them.
        with suppress(Wait):
            return await run(job, parent)


class Walker:
    """The directory of an app, and the syncs that read the sandbox into it."""

    def __init__(self, contacts: ContactsV2, database: Database, sandbox: SandboxAdmin) -> None:
        self.contacts = contacts
        self.database = database
        self.sandbox = sandbox
        self.directory = AppDirectory(database, "default")
        self._runs = count(1)

    async def sync(self, contacts: Any = None, *, walk: Any = None, **scope: Any) -> Any:
        """The result of one more sync; of everything, if no scope is given."""
        reads = contacts or self.contacts
        job, run_id = UserSync(**scope), f"r{next(self._runs)}"
        return await run_body(job, run_id, reads, self.directory, **(walk or {}))

    async def refused(self, contacts: Any = None, **scope: Any) -> str:
        """Why the sync is refused."""
        with pytest.raises(Refused) as refused:
            await self.sync(contacts, **scope)
        return refused.value.code

    async def people(self) -> set[str]:
        return set(await all_users(self.directory))

    async def below(self, department: int) -> int:
        """How many people."""
        return len(await users_below(self.directory, department))

    async def events(self, *where: Any) -> dict[str, list[tuple[str, list[str]]]]:
        """Findings of runs about each person, in order."""
        columns = select(ChangeRow.userid, ChangeRow.event, ChangeRow.fields)
        found: dict[str, list[tuple[str, list[str]]]] = {}
        async with self.database.read() as connection:
            for row in await connection.execute(columns.where(*where).order_by(ChangeRow.number)):
                found.setdefault(row.userid, []).append((row.event, row.fields))
        return found

    async def is_the_organisation(self) -> None:
        """Departments, people, their names and who is where: as the sandbox has them."""
        organisation = self.sandbox.organisation()
        departments = await all_of(self.database, DepartmentRow)
        assert {
            (row["id"], row["name"], row["parent"]) for row in departments if not row["left_at"]
        } == {
            (each["dept_id"], each["name"], each.get("parent_id"))
            for each in organisation["departments"]
        }
        people = await all_of(self.database, UserRow)
        known = {row["userid"]: row for row in people if not row["left_at"]}
        assert known.keys() == {each["userid"] for each in organisation["users"]}
        for each in organisation["users"]:
            row = known[each["userid"]]
            assert row["name"] == each["name"]
            fields = {name: each.get(name) for name in row["fields"]}
            fields["dept_id_list"] = sorted(each["dept_id_list"])
            assert row["fields"] == fields
            assert {"mobile", "title", "active", "dept_id_list"} <= row["fields"].keys()
        memberships = await all_of(self.database, MembershipRow)
        assert {(row["userid"], row["department"]) for row in memberships} == {
            (each["userid"], number)
            for each in organisation["users"]
            for number in each["dept_id_list"]
        }


@asynccontextmanager
async def opened(
    generation: Callable[[Any], ContactsV2], sandbox: SandboxAdmin, app_key: str
) -> AsyncIterator[ContactsV2]:
    """Contacts as an app sees them."""
    settings = Settings(
        env="sandbox", DINGTALK_OAPI_URL=sandbox.base_url, DINGTALK_API_URL=sandbox.base_url
    )
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier(), settings)
        credentials = {"appkey": app_key, "appsecret": "sandbox-secret"}
        token = await transport.request(Request(TOKEN, query=credentials))
        yield generation(SandboxCalls(transport, token["access_token"]))


@pytest.fixture(params=[ContactsV2, ContactsV1])
async def contacts(
    request: pytest.FixtureRequest, sandbox: SandboxAdmin, size: tuple[int, int]
) -> AsyncIterator[ContactsV2]:
    people, departments = size
    sandbox.seed(users=people, departments=departments, seed=7)
    sandbox.set_limits(calls="")
    async with opened(request.param, sandbox, "sandbox-key") as contacts:
        yield contacts


@pytest.fixture
def size() -> tuple[int, int]:
    """People and departments of the organisation."""
    return FEW, DEPARTMENTS


large = pytest.mark.parametrize("size", [(MANY, LARGE)], ids=["large"])


@pytest.fixture
def walker(contacts: ContactsV2, database: Database, sandbox: SandboxAdmin) -> Walker:
    return Walker(contacts, database, sandbox)


def calls_made(sandbox: SandboxAdmin) -> int:
    """Accepted and refused calls to the contacts APIs."""
    verdicts = [
        sum(counts.values())
        for path, counts in sandbox.audit()["calls"].items()
        if "department" in path or "user" in path
    ]
    return sum(verdicts)


@large
async def test_the_directory_becomes_the_organisation(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    result = await walker.sync()
    await walker.is_the_organisation()
    assert (result["departments"], result["users"], result["added"]) == (LARGE, MANY, MANY)
    assert (result["changed"], result["left"]) == (0, 0)
    assert result["calls"] == calls_made(sandbox)
    users_there = sandbox.organisation()["users"]
    sizes = [
        sum(number in each["dept_id_list"] for each in users_there)
        for number in {number for each in users_there for number in each["dept_id_list"]}
    ]
    pages = sum(-(-size // 100) for size in sizes) + LARGE - len(sizes)
    assert pages > LARGE
    assert result["calls"] <= pages + LARGE + 1


async def test_a_second_walk_finds_exactly_what_changed(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    again = await walker.sync()
    assert (again["added"], again["changed"], again["left"]) == (0, 0, 0)
    # Another leader would follow one who goes, and that is a change, too.
    promoted, leaver, mover = [
        each["userid"]
        for each in sandbox.organisation()["users"]
        if not any(place["leader"] for place in each["leader_in_dept"])
    ][:3]
    sandbox.put_user(promoted, title="Chief of everything")
    sandbox.put_user("newcomer", name="New", dept_id_list=[1, 3])
    sandbox.delete_user(leaver)
    sandbox.put_department(999, name="Lab", parent_id=3)
    sandbox.put_user(mover, dept_id_list=[999])
    result = await walker.sync()
    assert (result["added"], result["changed"], result["left"]) == (1, 2, 1)
    assert await walker.events(ChangeRow.number == 3) == {
        promoted: [("changed", ["title"])],
        "newcomer": [("added", [])],
        leaver: [("left", [])],
        mover: [("changed", ["dept_id_list"])],
    }
    await walker.is_the_organisation()


async def test_one_user_and_one_department_are_read_alone(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    sandbox.put_user("u5", title="Chief of everything")
    sandbox.delete_user("u6")
    changed = await walker.sync(scope="user", user="u5")
    assert (changed["changed"], changed["calls"]) == (1, 1)
    left = await walker.sync(scope="user", user="u6")
    assert (left["left"], left["users"]) == (1, 0)
    sandbox.put_department(999, name="Lab", parent_id=3)
    sandbox.put_user("newcomer", name="New", dept_id_list=[999])
    result = await walker.sync(scope="department", department=3)
    assert (result["added"], result["changed"], result["left"]) == (1, 0, 0)
    assert 1 < result["departments"] < DEPARTMENTS
    assert await walker.below(999) == 1
    sandbox.delete_user("newcomer")
    sandbox.delete_department(999)
    result = await walker.sync(scope="department", department=999)
    assert (result["departments"], result["left"], result["calls"]) == (0, 0, 1)
    assert await walker.below(999) == 0


async def test_a_department_that_fails_for_a_while_costs_nobody(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    for api, key in (("/topapi/v2/user/list", "dept_id"), ("/user/listbypage", "department_id")):
        sandbox.add_fault("error", api=api, match={key: "3"}, code="-1", count=ATTEMPTS)
    assert await walker.refused(confirm_removals=True) == "departments_failed"
    assert len(await walker.people()) == FEW
    sandbox.clear_faults()
    for api in ("/topapi/v2/user/list", "/user/listbypage"):
        sandbox.add_fault("truncated", api=api, count=ATTEMPTS - 1)
    result = await walker.sync(confirm_removals=True)
    assert (result["users"], result["left"], result["changed"]) == (FEW, 0, 0)
    await walker.is_the_organisation()


async def test_people_and_departments_that_move_during_a_walk_do_not_leave(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    sandbox.put_department(998, name="Hall", parent_id=DEPARTMENTS)
    sandbox.put_department(999, name="Lab", parent_id=998)
    sandbox.put_user("u7", dept_id_list=[999])
    sandbox.put_user("u8", dept_id_list=[DEPARTMENTS])
    await walker.sync()

    def move(read: int) -> None:
        if read == 2:
            # From where the walk has not been yet to where it has been.
            sandbox.put_user("u8", dept_id_list=[2])
            sandbox.put_department(998, parent_id=2)
            sandbox.delete_user("u9")

    result = await walker.sync(walk={"at_once": 1, "after": move})
    assert result["left"] == ("u9" not in await walker.people())  # it may have been met
    assert {"u7", "u8"} <= await walker.people()
    assert await walker.below(998) == await walker.below(999) == 1
    await walker.sync()
    await walker.is_the_organisation()


@large
async def test_many_who_are_gone_need_a_confirmation_and_few_calls_to_say_so(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    for number in range(101, 361):
        sandbox.delete_user(f"u{number}")
    assert await walker.refused() == "removal_share"
    assert len(await walker.people()) == MANY
    # The share is 40 people; they are asked for by the hundred.
    assert sum(sandbox.audit()["calls"]["/topapi/v2/user/get"].values()) == 100
    result = await walker.sync(confirm_removals=True)
    assert result["left"] == 260
    await walker.is_the_organisation()


async def test_an_app_that_sees_a_part_syncs_that_part(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    sandbox.put_department(-7, name="家校通讯录", parent_id=1)
    sandbox.put_user("parent", dept_id_list=[-7])
    whole = sandbox.organisation()
    outsider = next(each["userid"] for each in whole["users"] if each["dept_id_list"] == [9])
    app = {"app_key": "part-key", "app_secret": "sandbox-secret", "agent_id": "7"}
    sandbox.add_app(**app, departments=[-7, 2, 3], users=[outsider])
    async with opened(type(walker.contacts), sandbox, "part-key") as part:
        result = await walker.sync(part)
        met = await walker.people()
        assert {outsider, "parent"} < met < {each["userid"] for each in whole["users"]}
        assert (result["users"], result["added"]) == (len(met), len(met))
        assert await walker.below(-7) == 1
        # What the app may not see any more is not said to have left.
        sandbox.add_app(**app, departments=[-7, 2])
        again = await walker.sync(part, confirm_removals=True)
        assert again["left"] == 0
        assert await walker.people() == met
        sandbox.add_app(**app, departments=[])
        assert await walker.refused(part, confirm_removals=True) == "nothing_visible"


async def test_a_person_who_is_hired_again_is_the_same(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    unionid = next(
        each["unionid"] for each in sandbox.organisation()["users"] if each["userid"] == "u6"
    )
    sandbox.delete_user("u6")
    await walker.sync()
    sandbox.put_user("u6-again", name="New", unionid=unionid, dept_id_list=[3])
    result = await walker.sync()
    assert (result["added"], result["left"]) == (1, 0)
    await walker.is_the_organisation()
    assert "u6" not in {row["userid"] for row in await all_of(walker.database, UserRow)}
    events = (await walker.events(ChangeRow.userid == "u6-again"))["u6-again"]
    assert [event for event, _ in events] == ["added", "left", "added"]
    # Within one walk, and in an event.
    sandbox.delete_user("u6-again")
    sandbox.put_user("u6-third", name="New", unionid=unionid, dept_id_list=[3])
    single = await walker.sync(scope="user", user="u6-third")
    assert single["added"] == 1
    result = await walker.sync()
    assert "u6-third" in await walker.people()
    await walker.is_the_organisation()


async def test_addresses_that_were_cleared_or_given_to_another_are_not_kept(
    walker: Walker, sandbox: SandboxAdmin
) -> None:
    await walker.sync()
    sandbox.put_user("u7", email="desk@x.cn", job_number="J-1")
    await walker.sync(scope="user", user="u7")
    assert await walker.directory.find("email", ["desk@x.cn"]) == {"desk@x.cn": ["u7"]}
    sandbox.put_user("u7", email=None, job_number=None)
    sandbox.put_user("u8", email="desk@x.cn")
    for user in ("u7", "u8"):
        await walker.sync(scope="user", user=user)
    assert await walker.directory.find("email", ["desk@x.cn"]) == {"desk@x.cn": ["u8"]}
    assert await walker.directory.find("job_number", ["J-1"]) == {"J-1": []}
