"""A walk through the sandbox over a real socket, in both generations of the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
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
from listings import all_users, users_below
from tables import prepare

FEW, MANY = 120, 400
"""People."""
DEPARTMENTS, LARGE = 25, 3
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
                    await abandon_department(family[key], ctx)
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


@pytest.fixture(params=[ContactsV2, ContactsV1])
async def contacts(
    request: pytest.FixtureRequest, sandbox: SandboxAdmin
) -> AsyncIterator[ContactsV2]:
    """Contacts of an organisation of FEW people in DEPARTMENTS departments."""
    async with organised(request.param, sandbox, FEW, DEPARTMENTS) as contacts:
        yield contacts


@pytest.fixture(params=[ContactsV2, ContactsV1])
async def contacts_of_many(
    request: pytest.FixtureRequest, sandbox: SandboxAdmin
) -> AsyncIterator[ContactsV2]:
    """Contacts of an organisation of MANY people in LARGE departments."""
    async with organised(request.param, sandbox, MANY, LARGE) as contacts:
        yield contacts


def organised(
    generation: Callable[[Any], ContactsV2], sandbox: SandboxAdmin, people: int, departments: int
) -> AbstractAsyncContextManager[ContactsV2]:
    sandbox.seed(users=people, departments=departments, seed=7)
    sandbox.set_limits(calls="")
    return opened(generation, sandbox, "sandbox-key")


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


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    prepare(sqlite_url)
    database = Database(sqlite_url)
    yield database
    await database.dispose()


async def is_the_organisation_of(database: Database, sandbox: SandboxAdmin) -> None:
    """Departments, people, their names and who is where: as the sandbox has them."""
    organisation = sandbox.organisation()
    async with database.read() as connection:
        departments = await connection.execute(
            select(DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent).where(
                DepartmentRow.left_at.is_(None)
            )
        )
        assert {tuple(row) for row in departments} == {
            (each["dept_id"], each["name"], each.get("parent_id"))
            for each in organisation["departments"]
        }
        users = await connection.execute(
            select(UserRow.userid, UserRow.name, UserRow.fields).where(UserRow.left_at.is_(None))
        )
        known = {row.userid: row for row in users}
        assert known.keys() == {each["userid"] for each in organisation["users"]}
        for each in organisation["users"]:
            row = known[each["userid"]]
            assert row.name == each["name"]
            fields = {name: each.get(name) for name in row.fields}
            fields["dept_id_list"] = sorted(each["dept_id_list"])
            assert row.fields == fields
            assert {"mobile", "title", "active", "dept_id_list"} <= row.fields.keys()
        memberships = await connection.execute(
            select(MembershipRow.userid, MembershipRow.department)
        )
        assert {tuple(row) for row in memberships} == {
            (each["userid"], number)
            for each in organisation["users"]
            for number in each["dept_id_list"]
        }


def calls_made(sandbox: SandboxAdmin) -> int:
    """Accepted and refused calls to the contacts APIs."""
    verdicts = [
        sum(counts.values())
        for path, counts in sandbox.audit()["calls"].items()
        if "department" in path or "user" in path
    ]
    return sum(verdicts)


async def test_the_directory_becomes_the_organisation(
    contacts_of_many: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    result = await run_body(UserSync(), "r1", contacts_of_many, directory)
    await is_the_organisation_of(database, sandbox)
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
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    again = await run_body(UserSync(), "r2", contacts, directory)
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
    result = await run_body(UserSync(), "r3", contacts, directory)
    assert (result["added"], result["changed"], result["left"]) == (1, 2, 1)
    async with database.read() as connection:
        rows = await connection.execute(
            select(ChangeRow.userid, ChangeRow.event, ChangeRow.fields).where(ChangeRow.number == 3)
        )
    assert {row.userid: (row.event, row.fields) for row in rows} == {
        promoted: ("changed", ["title"]),
        "newcomer": ("added", []),
        leaver: ("left", []),
        mover: ("changed", ["dept_id_list"]),
    }
    await is_the_organisation_of(database, sandbox)


async def test_one_user_and_one_department_are_read_alone(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    sandbox.put_user("u5", title="Chief of everything")
    sandbox.delete_user("u6")
    changed = await run_body(UserSync(scope="user", user="u5"), "r2", contacts, directory)
    assert (changed["changed"], changed["calls"]) == (1, 1)
    left = await run_body(UserSync(scope="user", user="u6"), "r3", contacts, directory)
    assert (left["left"], left["users"]) == (1, 0)
    sandbox.put_department(999, name="Lab", parent_id=3)
    sandbox.put_user("newcomer", name="New", dept_id_list=[999])
    below = UserSync(scope="department", department=3)
    result = await run_body(below, "r4", contacts, directory)
    assert (result["added"], result["changed"], result["left"]) == (1, 0, 0)
    assert 1 < result["departments"] < 26
    assert len(await users_below(directory, 999)) == 1
    sandbox.delete_user("newcomer")
    sandbox.delete_department(999)
    gone = UserSync(scope="department", department=999)
    result = await run_body(gone, "r5", contacts, directory)
    assert (result["departments"], result["left"], result["calls"]) == (0, 0, 1)
    assert len(await users_below(directory, 999)) == 0


async def test_a_department_that_fails_for_a_while_costs_nobody(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    for api, key in (("/topapi/v2/user/list", "dept_id"), ("/user/listbypage", "department_id")):
        sandbox.add_fault("error", api=api, match={key: "3"}, code="-1", count=ATTEMPTS)
    with pytest.raises(Refused) as refused:
        await run_body(UserSync(confirm_removals=True), "r2", contacts, directory)
    assert refused.value.code == "departments_failed"
    assert len(await all_users(directory)) == FEW
    sandbox.clear_faults()
    for api in ("/topapi/v2/user/list", "/user/listbypage"):
        sandbox.add_fault("truncated", api=api, count=ATTEMPTS - 1)
    result = await run_body(UserSync(confirm_removals=True), "r3", contacts, directory)
    assert (result["users"], result["left"], result["changed"]) == (FEW, 0, 0)
    await is_the_organisation_of(database, sandbox)


async def test_people_and_departments_that_move_during_a_walk_do_not_leave(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    sandbox.put_department(998, name="Hall", parent_id=25)
    sandbox.put_department(999, name="Lab", parent_id=998)
    sandbox.put_user("u7", dept_id_list=[999])
    sandbox.put_user("u8", dept_id_list=[25])
    await run_body(UserSync(), "r2", contacts, directory)

    def move(read: int) -> None:
        if read == 2:
            # From where the walk has not been yet to where it has been.
            sandbox.put_user("u8", dept_id_list=[2])
            sandbox.put_department(998, parent_id=2)
            sandbox.delete_user("u9")

    result = await run_body(UserSync(), "r3", contacts, directory, at_once=1, after=move)
    assert result["left"] == ("u9" not in set(await all_users(directory)))  # it may have been met
    assert {"u7", "u8"} <= set(await all_users(directory))
    assert len(await users_below(directory, 998)) == len(await users_below(directory, 999)) == 1
    await run_body(UserSync(), "r4", contacts, directory)
    await is_the_organisation_of(database, sandbox)


async def test_many_who_are_gone_need_a_confirmation_and_few_calls_to_say_so(
    contacts_of_many: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts_of_many, directory)
    for number in range(101, 361):
        sandbox.delete_user(f"u{number}")
    with pytest.raises(Refused) as refused:
        await run_body(UserSync(), "r2", contacts_of_many, directory)
    assert refused.value.code == "removal_share"
    assert len(await all_users(directory)) == MANY
    # The share is 40 people; they are asked for by the hundred.
    assert sum(sandbox.audit()["calls"]["/topapi/v2/user/get"].values()) == 100
    result = await run_body(UserSync(confirm_removals=True), "r3", contacts_of_many, directory)
    assert result["left"] == 260
    await is_the_organisation_of(database, sandbox)


async def test_an_app_that_sees_a_part_syncs_that_part(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    sandbox.put_department(-7, name="家校通讯录", parent_id=1)
    sandbox.put_user("parent", dept_id_list=[-7])
    whole = sandbox.organisation()
    outsider = next(each["userid"] for each in whole["users"] if each["dept_id_list"] == [9])
    app = {"app_key": "part-key", "app_secret": "sandbox-secret", "agent_id": "7"}
    sandbox.add_app(**app, departments=[-7, 2, 3], users=[outsider])
    directory = AppDirectory(database, "default")
    async with opened(type(contacts), sandbox, "part-key") as part:
        result = await run_body(UserSync(), "r1", part, directory)
        met = set(await all_users(directory))
        assert {outsider, "parent"} < met < {each["userid"] for each in whole["users"]}
        assert (result["users"], result["added"]) == (len(met), len(met))
        assert len(await users_below(directory, -7)) == 1
        # What the app may not see any more is not said to have left.
        sandbox.add_app(**app, departments=[-7, 2])
        again = await run_body(UserSync(confirm_removals=True), "r2", part, directory)
        assert again["left"] == 0
        assert set(await all_users(directory)) == met
        sandbox.add_app(**app, departments=[])
        with pytest.raises(Refused) as refused:
            await run_body(UserSync(confirm_removals=True), "r3", part, directory)
        assert refused.value.code == "nothing_visible"


async def test_a_person_who_is_hired_again_is_the_same(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    unionid = next(
        each["unionid"] for each in sandbox.organisation()["users"] if each["userid"] == "u6"
    )
    sandbox.delete_user("u6")
    await run_body(UserSync(), "r2", contacts, directory)
    sandbox.put_user("u6-again", name="New", unionid=unionid, dept_id_list=[3])
    result = await run_body(UserSync(), "r3", contacts, directory)
    assert (result["added"], result["left"]) == (1, 0)
    await is_the_organisation_of(database, sandbox)
    async with database.read() as connection:
        people = select(UserRow.userid).where(UserRow.userid.like("u6%"))
        assert "u6" not in set(await connection.scalars(people))
        events = select(ChangeRow.event).where(ChangeRow.userid == "u6-again")
        assert list(await connection.scalars(events.order_by(ChangeRow.number))) == [
            "added",
            "left",
            "added",
        ]
    # Within one walk, and in an event.
    sandbox.delete_user("u6-again")
    sandbox.put_user("u6-third", name="New", unionid=unionid, dept_id_list=[3])
    single = await run_body(UserSync(scope="user", user="u6-third"), "r4", contacts, directory)
    assert single["added"] == 1
    result = await run_body(UserSync(), "r5", contacts, directory)
    assert "u6-third" in set(await all_users(directory))
    await is_the_organisation_of(database, sandbox)


async def test_addresses_that_were_cleared_or_given_to_another_are_not_kept(
    contacts: ContactsV2, database: Database, sandbox: SandboxAdmin
) -> None:
    directory = AppDirectory(database, "default")
    await run_body(UserSync(), "r1", contacts, directory)
    sandbox.put_user("u7", email="desk@x.cn", job_number="J-1")
    await run_body(UserSync(scope="user", user="u7"), "r2", contacts, directory)
    assert await directory.find("email", ["desk@x.cn"]) == {"desk@x.cn": ["u7"]}
    sandbox.put_user("u7", email=None, job_number=None)
    sandbox.put_user("u8", email="desk@x.cn")
    for run_id, user in (("r3", "u7"), ("r4", "u8")):
        await run_body(UserSync(scope="user", user=user), run_id, contacts, directory)
    assert await directory.find("email", ["desk@x.cn"]) == {"desk@x.cn": ["u8"]}
    assert await directory.find("job_number", ["J-1"]) == {"J-1": []}
