"""Roles of people and departments: given, taken, and what becomes of sessions then."""

import re
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update

from dingrelay_producers.client.personal_data import PersonRequest
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.personal_data.service import PersonalDataService
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.sessions.models import ConsoleFormRow, ConsoleSessionRow
from support import rows
from support.consoles import Browser, fill
from support.databases import on_sqlite

KEY = re.compile(r"drk_[a-z0-9]{12}\.[\w-]{43}")


@pytest.fixture
def settings(each_settings: Settings) -> Settings:
    return each_settings


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    """A console with two people: ``boss`` at the top, ``clerk`` in a department below, of a circle."""
    above = {1: None, 2: 1, 3: 2, 8: 9, 9: 8}
    places = {"boss": 1, "clerk": 3, "lost": 8}
    departments = [{"id": at, "parent": up, "name": f"部门{at}"} for at, up in above.items()]
    await rows.put(browser.database, DepartmentRow, *departments)
    people = [{"userid": user, "name": f"张{user}"} for user in places]
    await rows.put(browser.database, UserRow, *people)
    members = [{"userid": user, "department": number} for user, number in places.items()]
    await rows.put(browser.database, MembershipRow, *members)
    return browser


async def test_a_role_of_a_department_is_one_of_everyone_below(browser: Browser) -> None:
    assert await browser.come_in("clerk") is None
    await browser.give("department:2")
    for user, comes_in in (("clerk", True), ("boss", False), ("lost", False), ("none", False)):
        assert (await browser.come_in(user) is not None) == comes_in, user
    await browser.give("department:9")
    assert await browser.come_in("lost")


@on_sqlite
async def test_a_role_that_can_not_be_given_names_its_field(browser: Browser) -> None:
    for subject, role, field in (
        ("missing", "view", "subject"),
        ("department:77", "view", "subject"),
        ("department:x", "view", "subject"),
        ("department:" + "9" * 40, "view", "subject"),
        ("boss", "chief", "role"),
        ("", "view", "subject"),
    ):
        with pytest.raises(ContractError) as refused:
            await browser.give(subject, role)
        assert refused.value.field == field


@on_sqlite
@pytest.mark.parametrize("end", ["taken", "changed", "moved", "left"])
async def test_a_session_ends_when_its_roles_change_or_the_person_leaves(
    browser: Browser, end: str
) -> None:
    await browser.give("department:3", "operate")
    await browser.come_in("clerk")
    assert await browser.status("/jobs") == 200
    # As it was: nothing ends.
    await browser.give("department:3", "operate")
    assert await browser.status("/jobs") == 200
    if end == "taken":
        role = RoleRequest.parse({"subject": "department:3", "role": "operate"})
        await RoleService(browser.database).revoke(role)
    elif end == "changed":
        await browser.give("department:3", "operate", apps=["hr"])
    elif end == "left":
        gone = update(UserRow).where(UserRow.userid == "clerk")
        await browser.write(gone.values(left_at=datetime.now(UTC)))
    else:
        moved = update(MembershipRow).where(MembershipRow.userid == "clerk")
        await browser.write(moved.values(department=1))
    await browser.is_out()
    assert await browser.rows(select(ConsoleSessionRow.digest)) == []


@on_sqlite
async def test_the_navigation_of_people_who_write_names_nothing_of_the_machine(
    browser: Browser, redis: Redis, settings: Settings
) -> None:
    await fill(browser.database, redis, settings)
    people, operation = ["/campaigns", "/people", "/approvals"], ["/", "/jobs", "/dead", "/limits"]
    for role, shown in (
        ("write", people),
        ("approve", people),
        ("view", [*people, *operation, "/webhooks", "/workers"]),
        ("operate", [*people, *operation, "/webhooks", "/workers", "/settings/audit"]),
    ):
        await browser.sign_in("clerk", role)
        page = await browser.text("/campaigns")
        menu = page.partition('<nav class="side"')[2].partition("</nav>")[0]
        assert re.findall(r'href="([^"]+)"', menu) == shown, role
        assert ("Operation" in menu) == (shown != people), role
        # A job of another system has failed a moment ago.
        assert await browser.status("/") == (303 if shown == people else 200)
        if shown == people:
            assert "failed" not in page
            job = await browser.text("/people/u1")
            for word in ("message-send", "normal", ">default<"):
                assert word not in job, (role, word)


async def test_a_role_is_given_and_taken_on_its_page_and_audited(browser: Browser) -> None:
    await browser.sign_in("root")
    page = "/settings/people?q=clerk"
    form = (await browser.forms(page))["/settings/people/grant?q=clerk"]
    chosen = {"subject": "default clerk", "role": "write", "lanes": "bulk"}
    assert await browser.post("/settings/people/grant", form | chosen) == 303
    assert "clerk has the role now" in await browser.text(browser.location)
    assert await browser.come_in("clerk")
    assert await browser.status("/campaigns") == 200
    assert await browser.status("/settings/people") == 403
    await browser.sign_in("root")
    form = (await browser.forms("/settings/people"))["/settings/people/revoke"]
    assert await browser.post("/settings/people/revoke", form) == 303
    assert await browser.come_in("clerk") is None
    found = await browser.rows(select(AuditRow.actor, AuditRow.kind, AuditRow.action))
    assert [row[1:] for row in found if row[0] == "root"] == [("role", "grant"), ("role", "revoke")]
    assert [row[1:] for row in found if row[0] != "root"] == [("login-link", "create")] * 2


@on_sqlite
async def test_the_audit_shows_once_what_a_change_leaves(browser: Browser) -> None:
    for lane in ("bulk", "normal"):
        await browser.give("clerk", lanes=[lane])
    await browser.sign_in("root")
    page = await browser.text("/settings/audit")
    assert ("bulk → normal" in page, "→ clerk" in page, "→ View" in page) == (True, False, False)


async def test_a_role_that_can_not_be_given_is_said_beside_its_field(browser: Browser) -> None:
    await browser.sign_in("root")
    path = "/settings/people/grant?q=clerk"
    form = (await browser.forms("/settings/people?q=clerk"))[path]
    chosen = {"subject": "default clerk", "role": "king", "lanes": "bulk"}
    status, text = await browser.send(path, form | chosen)
    assert (status, 'href="#role"' in text, 'id="role-wrong"' in text) == (422, True, True)
    assert 'value="default clerk" required checked' in text
    assert 'name="back" value="/settings/people?q=clerk"' in text, "the language is chosen there"


async def test_what_a_form_has_said_of_a_person_goes_with_them(
    browser: Browser, settings: Settings
) -> None:
    await browser.sign_in("root")
    form = (await browser.forms("/settings/people?q=clerk"))["/settings/people/grant?q=clerk"]
    chosen = {"subject": "default clerk", "role": "write", "lanes": "bulk"}
    assert await browser.post("/settings/people/grant?q=clerk", form | chosen) == 303
    said = select(ConsoleFormRow.said).where(ConsoleFormRow.said != "")
    assert await browser.rows(said) == [("clerk has the role now",)]
    await PersonalDataService(settings).erase(PersonRequest(user="clerk"))
    assert await browser.rows(said) == []


async def test_roles_of_a_person_are_handed_out_and_erased(
    browser: Browser, settings: Settings
) -> None:
    await browser.give("clerk", "operate")
    service = PersonalDataService(settings)
    (found,) = (await service.export(PersonRequest(user="clerk")))["roles"]
    assert found["role"] == "operate"
    await service.erase(PersonRequest(user="clerk"))
    assert [each.subject for each in await RoleService(browser.database).list()] == []


async def test_a_nul_character_reaches_no_database(browser: Browser) -> None:
    await browser.sign_in("root")
    for path in ("/people/%00", "/people?q=%00", "/settings/audit?actor=%00", "/?done=%00"):
        assert await browser.status(path) == 404, path
    form = {"subject": "default cle\0rk", "role": "view", "lanes": "bulk"}
    page = "/settings/people?q=clerk"
    assert await browser.submit(page, "/settings/people/grant?q=clerk", **form) == 303


async def test_departments_are_found_by_their_names(browser: Browser) -> None:
    await browser.sign_in("root")
    text = await browser.text("/settings/people?q=部门2")
    assert re.findall(r'value="default ([^"]+)"', text) == ["department:2"]


@on_sqlite
async def test_an_administrator_of_one_app_gives_no_role_for_others(browser: Browser) -> None:
    await browser.give("boss", "admin", apps=["default", "hr"])
    await browser.come_in("boss")
    for apps, status in (
        ({}, 303),
        ({"apps": "hr"}, 303),
        ({"apps": "it"}, 403),
        ({"apps": "*"}, 403),
    ):
        form = (await browser.forms("/settings/people?q=clerk"))["/settings/people/grant?q=clerk"]
        chosen = {"subject": "default clerk", "role": "view", "lanes": "bulk", **apps}
        assert await browser.post("/settings/people/grant", form | chosen) == status, apps
    await browser.give("clerk", "write", apps=["*"])  # which would be replaced by less
    less = form | chosen | {"role": "write", "apps": "hr"}
    assert await browser.post("/settings/people/grant", less) == 403
    found = await RoleService(browser.database).list()
    assert [each.apps for each in found if each.subject == "clerk"] == [["*"], ["hr"]]


@on_sqlite
async def test_a_key_is_made_rotated_and_revoked_on_its_page(browser: Browser) -> None:
    await browser.sign_in("root")
    form = (await browser.forms("/settings/keys"))["/settings/keys"]
    chosen = form | {"name": "crm", "scopes": "messages:write", "lanes": "normal"}
    status, text = await browser.send("/settings/keys", chosen)
    shown = KEY.findall(text)
    assert (status, len(shown)) == (200, 1)
    # Sent twice, as a double click does: the same key.
    assert shown[0] in (await browser.send("/settings/keys", chosen))[1]
    key = shown[0].partition(".")[0]
    page = await browser.text("/settings/keys")
    assert (page.count(f"/settings/keys/{key}/revoke"), shown[0] in page) == (1, False)
    form = (await browser.forms("/settings/keys"))[f"/settings/keys/{key}/rotate"]
    _, text = await browser.send(f"/settings/keys/{key}/rotate", form | {"owner": "cho"})
    assert KEY.findall(text)[0] != shown[0]
    assert "of cho" in await browser.text("/settings/keys")
    revoke = f"/settings/keys/{key}/revoke"
    assert await browser.submit(revoke) == 303
    assert revoke not in await browser.text("/settings/keys")


@on_sqlite
async def test_a_key_that_can_not_be_made_says_why(browser: Browser) -> None:
    await browser.sign_in("root")
    typed = {"name": "crm", "scopes": "messages:write", "lanes": "normal", "expires": "0d"}
    form = (await browser.forms("/settings/keys"))["/settings/keys"]
    status, text = await browser.send("/settings/keys", form | typed)
    assert (status, 'href="#expires"' in text, 'id="expires-wrong"' in text) == (422, True, True)
    # What was typed is there still.
    assert ('value="crm"' in text, 'name="lanes" value="bulk" checked' in text) == (True, False)


@on_sqlite
async def test_a_role_for_another_app_shows_nothing_of_this_one(
    browser: Browser, redis: Redis, settings: Settings
) -> None:
    own = (await fill(browser.database, redis, settings)).split()
    person = {"app": "other", "userid": "elsewhere", "name": "李四"}
    await rows.put(browser.database, UserRow, person)
    await browser.give("elsewhere", "admin", directory="other", apps=["other"])
    session = await browser.come_in("elsewhere", "other")
    assert session
    lists = [each.path for each in DECLARED if each.method == "GET" and "{" not in each.path]
    searches = ["/people?q=alert", "/settings/people?q=alert", "/people/u1", "/jobs?q=state:dead"]
    pages = [await browser.get(path) for path in [*lists, *searches]]
    assert [text for status, text in pages if status == 200 and "alert(1)" in text] == []
    assert {await browser.status(path) for path in own} == {404}
    acts = [each.path for each in DECLARED if each.method == "POST" and "{id}" in each.path]
    for path in own:
        first, _, name = path[1:].partition("/")
        for act in (each for each in acts if each.startswith(f"/{first}/{{id}}/")):
            target = act.replace("{id}", name)
            form = {"form": FormToken(0, {}, "", "/").sealed(session, target)}
            assert await browser.post(target, form) == 404, target
