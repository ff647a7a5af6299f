"""Roles of people and departments: given, taken, and what becomes of sessions then."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, select, update

from console_data import fill
from consoles import Browser, browsing
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.console.models import ConsoleSessionRow
from dingrelay_workers.console.sessions import Session, Sessions
from dingrelay_workers.console.sign_in import SESSION_COOKIE
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.personal_data.service import PersonalDataService
from dingrelay_workers.roles.service import RoleRequest, RoleService

READ = {"read_at": 1, "detailed_at": 1}


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.load(env="test", redis_url=valkey_url, database_url=database_url)


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[Browser]:
    """A console with two people: ``boss`` at the top, ``clerk`` in a department below, of a circle."""
    async with browsing(settings) as found:
        async with found.database.write("tests") as connection:
            for number, parent in ((1, None), (2, 1), (3, 2), (8, 9), (9, 8)):
                row = {"app": "default", "id": number, "parent": parent, "name": f"部门{number}"}
                await connection.execute(
                    insert(DepartmentRow).values(**row, **READ, fields={}, met_in=1)
                )
            for user, department in (("boss", 1), ("clerk", 3), ("lost", 8)):
                row = {"app": "default", "userid": user, "name": f"张{user}", "placed_at": 1}
                await connection.execute(insert(UserRow).values(**row, **READ, fields={}, met_in=1))
                place = {"app": "default", "userid": user, "department": department}
                await connection.execute(insert(MembershipRow).values(**place, met_in=1, read_at=1))
        yield found


async def come_in(browser: Browser, user: str) -> Session | None:
    """Sign a person in as DingTalk does."""
    session = await Sessions(browser.database).begin("default", user)
    browser.session.cookie_jar.clear()
    if session:
        browser.session.cookie_jar.update_cookies({SESSION_COOKIE: session.token})
    return session


def request(subject: str, role: str = "view", **fields: Any) -> RoleRequest:
    return RoleRequest.parse({"subject": subject, "role": role, **fields})


async def test_a_role_of_a_department_is_one_of_everyone_below(browser: Browser) -> None:
    roles = RoleService(browser.database)
    assert await come_in(browser, "clerk") is None
    await roles.give(request("department:2"))
    for user, comes_in in (("clerk", True), ("boss", False), ("lost", False), ("none", False)):
        assert (await come_in(browser, user) is not None) == comes_in, user
    await roles.give(request("department:9"))
    assert await come_in(browser, "lost")


@pytest.mark.parametrize(
    ("subject", "role", "field"),
    [
        ("missing", "view", "subject"),
        ("department:77", "view", "subject"),
        ("department:x", "view", "subject"),
        ("department:" + "9" * 40, "view", "subject"),
        ("boss", "chief", "role"),
        ("", "view", "subject"),
    ],
)
async def test_a_role_that_can_not_be_given_names_its_field(
    browser: Browser, subject: str, role: str, field: str
) -> None:
    with pytest.raises(ContractError) as refused:
        await RoleService(browser.database).give(request(subject, role))
    assert refused.value.field == field


@pytest.mark.parametrize("end", ["taken", "changed", "moved", "left"])
async def test_a_session_ends_when_its_roles_change_or_the_person_leaves(
    browser: Browser, end: str
) -> None:
    roles = RoleService(browser.database)
    await roles.give(request("department:3", "operate"))
    await come_in(browser, "clerk")
    assert (await browser.get("/jobs"))[0] == 200
    # As it was: nothing ends.
    await roles.give(request("department:3", "operate"))
    assert (await browser.get("/jobs"))[0] == 200
    if end == "taken":
        await roles.take(request("department:3", "operate"))
    elif end == "changed":
        await roles.give(request("department:3", "operate", apps=["hr"]))
    else:
        async with browser.database.write("tests") as connection:
            if end == "left":
                gone = update(UserRow).where(UserRow.userid == "clerk")
                await connection.execute(gone.values(left_at=datetime.now(UTC)))
            else:
                moved = update(MembershipRow).where(MembershipRow.userid == "clerk")
                await connection.execute(moved.values(department=1))
    assert (await browser.get("/jobs"))[0] == 303
    async with browser.database.read() as connection:
        assert (await connection.execute(select(ConsoleSessionRow.digest))).all() == []


async def test_a_role_is_given_and_taken_on_its_page_and_audited(browser: Browser) -> None:
    await browser.sign_in("root")
    page = "/settings/people?q=clerk"
    form = (await browser.forms(page))["/settings/people/grant"]
    chosen = {"subject": "default clerk", "role": "write", "lane": "bulk"}
    assert await browser.post("/settings/people/grant", form | chosen) == 303
    _, text = await browser.get(browser.location, **{"Accept-Language": "en"})
    assert "clerk has the role now" in text
    assert await come_in(browser, "clerk")
    assert (await browser.get("/campaigns"))[0] == 200
    assert (await browser.get("/settings/people"))[0] == 403
    await browser.sign_in("root")
    form = (await browser.forms("/settings/people"))["/settings/people/revoke"]
    assert await browser.post("/settings/people/revoke", form) == 303
    assert await come_in(browser, "clerk") is None
    async with browser.database.read() as connection:
        columns = AuditRow.actor, AuditRow.kind, AuditRow.action
        rows = [tuple(row) for row in await connection.execute(select(*columns))]
    assert [row for row in rows if row[0] == "root"] == [
        ("root", "role", "grant"),
        ("root", "role", "revoke"),
    ]
    assert [row[1:] for row in rows if row[0] != "root"] == [("login-link", "create")] * 2


async def test_roles_of_a_person_are_handed_out_and_erased(
    browser: Browser, settings: Settings
) -> None:
    await RoleService(browser.database).give(request("clerk", "operate"))
    service = PersonalDataService(settings)
    (found,) = (await service.export("clerk", app=None))["directory"]
    assert found["roles"] == ["operate"]
    await service.erase("clerk", app=None, tombstone="erased-1")
    assert [each.subject for each in await RoleService(browser.database).list()] == []


async def test_departments_are_found_by_their_names(browser: Browser) -> None:
    await browser.sign_in("root")
    _, text = await browser.get("/settings/people?q=部门2")
    assert re.findall(r'value="default ([^"]+)"', text) == ["department:2"]


async def test_an_administrator_of_one_app_gives_no_role_for_others(browser: Browser) -> None:
    await RoleService(browser.database).give(request("boss", "admin", apps=["default", "hr"]))
    await come_in(browser, "boss")
    for apps, status in (
        ({}, 303),
        ({"app": "hr"}, 303),
        ({"app": "it"}, 403),
        ({"app": "*"}, 403),
    ):
        form = (await browser.forms("/settings/people?q=clerk"))["/settings/people/grant"]
        chosen = {"subject": "default clerk", "role": "view", "lane": "bulk", **apps}
        assert await browser.post("/settings/people/grant", form | chosen) == status, apps
    (given,) = [
        each for each in await RoleService(browser.database).list() if each.subject == "clerk"
    ]
    assert given.apps == ["hr"]


async def test_a_key_is_made_rotated_and_revoked_on_its_page(browser: Browser) -> None:
    await browser.sign_in("root")
    form = (await browser.forms("/settings/keys"))["/settings/keys"]
    chosen = form | {"name": "crm", "scope": "messages:write", "lane": "normal"}
    status, text = await browser.send("/settings/keys", chosen)
    shown = re.findall(r"drk_[a-z0-9]{12}\.[\w-]{43}", text)
    assert (status, len(shown)) == (200, 1)
    # Sent twice, as a double click does: the same key.
    assert shown[0] in (await browser.send("/settings/keys", chosen))[1]
    key = shown[0].partition(".")[0]
    _, page = await browser.get("/settings/keys")
    assert page.count(f"/settings/keys/{key}/revoke") == 1
    assert shown[0] not in page
    form = (await browser.forms("/settings/keys"))[f"/settings/keys/{key}/rotate"]
    _, text = await browser.send(f"/settings/keys/{key}/rotate", form)
    assert re.findall(r"drk_[a-z0-9]{12}\.[\w-]{43}", text)[0] != shown[0]
    revoke = f"/settings/keys/{key}/revoke"
    assert await browser.submit(revoke, revoke) == 303
    assert revoke not in (await browser.get("/settings/keys"))[1]


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scope": "all"}, {"rate": "fast"}, {"lane": "slow"}, {"expires": "0d"}]
)
async def test_a_key_that_can_not_be_made_says_why(browser: Browser, wrong: dict[str, str]) -> None:
    await browser.sign_in("root")
    form = (await browser.forms("/settings/keys"))["/settings/keys"]
    chosen = {"name": "crm", "scope": "messages:write", "lane": "normal"} | wrong
    status, text = await browser.send("/settings/keys", form | chosen)
    assert status == 400
    assert 'href="/settings/keys"' in text


async def test_a_role_for_another_app_shows_nothing_of_this_one(
    browser: Browser, redis: Redis, settings: Settings
) -> None:
    own = (await fill(browser.database, redis, settings)).split()
    person = {"app": "other", "userid": "elsewhere", "name": "李四", "fields": {}, "met_in": 1}
    async with browser.database.write("tests") as connection:
        await connection.execute(insert(UserRow).values(**person, **READ, placed_at=1))
    role = request("elsewhere", "admin", directory="other", apps=["other"])
    await RoleService(browser.database).give(role)
    session = await Sessions(browser.database).begin("other", "elsewhere")
    assert session
    browser.session.cookie_jar.clear()
    browser.session.cookie_jar.update_cookies({SESSION_COOKIE: session.token})
    lists = [each.path for each in DECLARED if each.method == "GET" and "{" not in each.path]
    searches = ["/people?q=alert", "/settings/people?q=alert", "/people/u1", "/jobs?q=state:dead"]
    shown = {}
    for path in [*lists, *searches]:
        status, text = await browser.get(path)
        if status == 200 and "alert(1)" in text:
            shown[path] = text
    for path in own:
        if (await browser.get(path))[0] != 404:
            shown[path] = ""
    assert list(shown) == []
    acts = [each.path for each in DECLARED if each.method == "POST" and "{id}" in each.path]
    for path in own:
        first, _, name = path[1:].partition("/")
        for act in (each for each in acts if each.startswith(f"/{first}/{{id}}/")):
            target = act.replace("{id}", name)
            form = {"form": FormToken(0, {}, "", "/").sealed(session, target)}
            assert await browser.post(target, form) == 404, target
