"""Sessions of the console are seen and ended, and a link is as good as its person's place in the organisation."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from dingrelay_producers.actor import ACTOR
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.sessions import NOUN, sessions
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.sessions.service import SessionRequest, SessionService, SessionsRequest
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks, Sessions
from integration.test_role_verbs import PERSON
from support import rows
from support.command_line import Cli
from support.consoles import HTML, Browser

PAGE = "/settings/sessions"


async def link(browser: Browser, user: str, role: str = "view") -> str:
    return await LoginLinks(browser.database).create(LoginLinkRequest(user=user, role=role))


async def test_a_link_waits_for_a_database_that_is_busy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command makes it, for which no page waits."""
    monkeypatch.setattr(sessions, "TIMEOUT", 0.01)
    async with database.write(sessions.WRITER):
        request = LoginLinkRequest(user="boss", role="view")
        making = asyncio.create_task(LoginLinks(database).create(request))
        done, _ = await asyncio.wait([making], timeout=0.2)
    assert not done
    assert await making


async def users(browser: Browser) -> list[str]:
    query = select(ConsoleSessionRow.user).order_by(ConsoleSessionRow.begun_at)
    return [user for (user,) in await browser.rows(query)]


async def test_sessions_are_listed_and_ended(browser: Browser) -> None:
    await rows.put(browser.database, UserRow, {"userid": "u1", "name": HTML})
    await browser.sign_in("boss")
    async with browser.another("u1", "view") as phone, browser.another("u1", "write") as desk:
        page = await browser.text(PAGE)
        assert (page.count("this session"), HTML in page) == (1, False)
        assert page.count("<small>u1</small>") == 2
        sessions = await SessionService(browser.database).list()
        (one, _) = [session for session in sessions if session.user == "u1"]
        assert await browser.submit(PAGE, f"{PAGE}/end", id=one.id) == 303
        assert "The session has ended." in await browser.text(browser.location)
        await link(browser, "u1")
        assert await browser.submit(PAGE, f"{PAGE}/end_all", user="u1") == 303
        assert await users(browser) == ["boss"]
        assert await browser.rows(select(ConsoleLinkRow.user)) == []
        for gone in (phone, desk):
            await gone.is_out()
        assert await browser.submit(PAGE, f"{PAGE}/end_all", user="u1") == 400
    query = select(AuditRow.actor, AuditRow.action, AuditRow.object).where(
        AuditRow.kind == "session"
    )
    assert await browser.rows(query) == [("boss", "end", "u1"), ("boss", "end_all", "u1")]
    async with browser.another("eve", "operate") as eve:
        assert await eve.status(PAGE) == 403


async def test_who_has_left_is_out_though_a_link_let_them_in(browser: Browser) -> None:
    await rows.put(browser.database, UserRow, {"userid": "u1", "name": "王芳"})
    assert await browser.post("/sign-in", {"link": await link(browser, "u1")}) == 303
    late = await link(browser, "王芳")
    assert await browser.status("/jobs") == 200
    now = datetime.now(UTC)
    await rows.change(browser.database, UserRow, UserRow.userid == "u1", left_at=now)
    await browser.is_out()
    assert await users(browser) == []
    assert await browser.post("/sign-in", {"link": late}) == 403
    for name in ("u1", "王芳"):
        with pytest.raises(ContractError, match=f"user: {name} has left"):
            await link(browser, name)


async def test_a_link_names_one_person(browser: Browser) -> None:
    people = [{"userid": f"u{number}", "name": "王芳"} for number in (1, 2)]
    await rows.put(browser.database, UserRow, *people)
    with pytest.raises(ContractError, match="several people are called 王芳"):
        await link(browser, "王芳")
    await rows.change(browser.database, UserRow, UserRow.userid == "u2", left_at=datetime.now(UTC))
    session = await Sessions(browser.database).sign_in(await link(browser, "王芳"))
    assert session
    assert (session.user, session.directory) == ("u1", "default")
    session = await Sessions(browser.database).sign_in(await link(browser, "another name"))
    assert session
    assert (session.user, session.directory) == ("another name", "")


async def test_sessions_that_may_do_more_are_not_there(browser: Browser) -> None:
    await browser.sign_in("boss")
    (boss,) = await (service := SessionService(browser.database)).list()
    ACTOR.set(PERSON)
    assert await service.list() == []
    with pytest.raises(ContractError, match="no such session"):
        await service.end(SessionRequest(id=boss.id))
    with pytest.raises(ContractError, match="boss is not signed in"):
        await service.end_all(SessionsRequest(user="boss"))
    assert await users(browser) == ["boss"]


async def test_what_is_over_is_deleted_though_nobody_signs_in(
    browser: Browser, settings: Settings
) -> None:
    await link(browser, "u1")
    await browser.sign_in("ops", "operate")
    assert await cleaned(browser, settings, timedelta()) == (1, 1)
    assert await cleaned(browser, settings, timedelta(minutes=11)) == (0, 1)
    assert await cleaned(browser, settings, timedelta(minutes=121)) == (0, 0)


async def cleaned(browser: Browser, settings: Settings, ahead: timedelta) -> tuple[int, int]:
    """Links and sessions that a clean-up leaves so much later."""
    parts: Any = SimpleNamespace(database=lambda: browser.database, settings=settings)
    for part in NOUN.clean_up:
        await NOUN.load(part)(CleanUp(parts, lambda: datetime.now(UTC) + ahead))
    links = await browser.rows(select(ConsoleLinkRow.user))
    return len(links), len(await users(browser))


def test_commands_list_and_end_sessions(cli: Cli) -> None:
    assert cli.json("console", "sessions", "list") == []
    assert cli("console", "login-link", "u1").exit_code == 0
    ended = cli("console", "sessions", "end-all", "u1")
    assert (ended.exit_code, "have ended" in ended.stdout + ended.stderr) == (0, True)
    unknown = cli("console", "sessions", "end", "0123456789ab")
    assert (unknown.exit_code, "no such session" in unknown.stderr) == (2, True)
    assert cli("console", "sessions", "end-all", "u1").exit_code == 2


async def test_a_list_of_sessions_reads_all_permissions_at_once(browser: Browser) -> None:
    people = [{"userid": f"u{number}", "name": "n"} for number in range(5)]
    await rows.put(browser.database, UserRow, *people)
    for person in people:
        await browser.give(person["userid"])
        assert await Sessions(browser.database).begin("default", person["userid"])
    queries: list[str] = []

    def note(*arguments: Any) -> None:
        queries.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        sessions = await SessionService(browser.database).list()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert [session.roles for session in sessions] == [["view"]] * 5
    assert sum(query.startswith(("SELECT", "WITH")) for query in queries) == 2
