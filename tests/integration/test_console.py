"""The console on a real socket, database and Valkey."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from console_data import HTML, fill
from consoles import Browser, browsing
from dingrelay_producers.settings import Settings
from dingrelay_workers.console import sessions
from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.console.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.console.sessions import Sessions

NOW = datetime.now(UTC)
PAGES = [each.path for each in DECLARED if each.method == "GET"]
LISTS = [path for path in PAGES if "{" not in path and not path.endswith(".csv")]


@pytest.fixture(params=["", "/dingrelay"])
async def browser(request: Any, settings: Settings) -> AsyncIterator[Browser]:
    """A browser before a console at the root, and before one behind a prefix."""
    async with browsing(settings, request.param) as found:
        yield found


@pytest.mark.parametrize("language", ["zh-CN", "en"])
async def test_every_page_shows_what_is_stored_and_runs_none_of_it(
    browser: Browser, redis: Redis, settings: Settings, language: str
) -> None:
    own = (await fill(browser.database, redis, settings)).split()
    await browser.sign_in()
    pages = [
        *LISTS,
        *own,
        "/people?q=script",
        "/people?q=u1",
        "/people/u1",
        "/jobs?q=state:dead+code:60121",
    ]
    for path in pages:
        status, text = await browser.get(path, **{"Accept-Language": language})
        assert status == (303 if path == "/people?q=u1" else 200), path
        assert HTML not in text, path
        assert text.count("<script") <= 1, path
        assert not re.search(r"<[^>]* (style|on\w+)=", text), path
    _, person = await browser.get("/people/u1", **{"Accept-Language": language})
    assert (
        "当天已收到此内容" if language == "zh-CN" else "had this content already that day"
    ) in person
    _, dead = await browser.get("/dead", **{"Accept-Language": language})
    assert "60121" in dead
    _, now = await browser.get("/", **{"Accept-Language": language})
    assert ("没有 worker" if language == "zh-CN" else "No worker runs") in now


async def test_without_a_session_every_page_leads_to_the_sign_in(browser: Browser) -> None:
    for path in PAGES:
        status, text = await browser.get(re.sub(r"[{}]", "", path))
        assert (status, text.count("<main")) == (303, 0), path
    status, text = await browser.get("/sign-in?link=%22%3E%3Cscript%3E")
    assert status == 200
    assert "<script>" not in text


async def test_a_link_signs_in_once(browser: Browser) -> None:
    link = await Sessions(browser.database).link("admin")
    assert await browser.post("/sign-in", {"link": link}) == 303
    assert (await browser.get("/jobs"))[0] == 200
    assert await browser.post("/sign-in", {"link": link}) == 403
    assert await browser.post("/sign-in", {"link": "made-up"}) == 403


@pytest.mark.parametrize(
    ("column", "ago"),
    [
        (ConsoleSessionRow.begun_at, sessions.SESSION_LIVES),
        (ConsoleSessionRow.used_at, sessions.IDLE),
    ],
)
async def test_a_session_ends(browser: Browser, column: Any, ago: timedelta) -> None:
    await browser.sign_in()
    async with browser.database.write("tests") as connection:
        await connection.execute(update(ConsoleSessionRow).values({column: NOW - ago}))
    assert (await browser.get("/jobs"))[0] == 303


async def test_a_link_ends_after_ten_minutes(browser: Browser) -> None:
    link = await Sessions(browser.database).link("admin")
    async with browser.database.write("tests") as connection:
        await connection.execute(update(ConsoleLinkRow).values(ends_at=NOW - timedelta(seconds=1)))
    assert await browser.post("/sign-in", {"link": link}) == 403


async def test_signing_out_ends_the_session_and_needs_its_own_form(browser: Browser) -> None:
    await browser.sign_in()
    assert await browser.post("/sign-out", {"form": "of another"}) == 403
    status, text = await browser.get("/jobs")
    assert status == 200
    (token,) = re.findall(r'name="form" value="([^"]+)"', text)
    assert await browser.post("/sign-out", {"form": token}) == 303
    assert (await browser.get("/jobs"))[0] == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "", "Origin": "https://evil.example"}, 403),
        ({"Sec_Fetch_Site": "", "Origin": "null"}, 403),
        ({"Sec_Fetch_Site": ""}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 303),
    ],
)
async def test_a_form_of_another_site_is_refused(
    browser: Browser, headers: dict[str, str], status: int
) -> None:
    link = await Sessions(browser.database).link("admin")
    assert await browser.post("/sign-in", {"link": link}, **headers) == status


async def test_a_plain_host_is_trusted_by_its_origin(browser: Browser) -> None:
    """Browsers send no Sec-Fetch-Site to plain-HTTP hosts other than loopback."""
    host = "/".join(browser.url.split("/")[:3])
    link = await Sessions(browser.database).link("admin")
    headers = {"Sec_Fetch_Site": "", "Origin": host}
    assert await browser.post("/sign-in", {"link": link}, **headers) == 303


async def test_a_chosen_language_stays_and_leads_to_no_other_site(browser: Browser) -> None:
    async with browser.session.post(
        f"{browser.url}/language",
        data={"language": "zh", "back": "//evil.example/"},
        headers={"Sec-Fetch-Site": "same-origin"},
        allow_redirects=False,
    ) as answer:
        assert "evil" not in answer.headers["Location"]
    _, text = await browser.get("/sign-in", **{"Accept-Language": "en"})
    assert 'lang="zh-CN"' in text


async def test_an_unchanged_page_is_not_sent_again(browser: Browser) -> None:
    await browser.sign_in()
    async with browser.session.get(f"{browser.url}/webhooks") as answer:
        tag = answer.headers["ETag"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    status, text = await browser.get("/webhooks", **{"If-None-Match": tag})
    assert (status, text) == (304, "")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/none", 404),
        ("/campaigns/none", 404),
        ("/webhooks/none", 404),
        ("/nothing", 404),
        ("/jobs?q=nonsense", 400),
        ("/jobs?q=state:none", 400),
        ("/jobs?q=since:x", 400),
        ("/jobs?q=other:x", 400),
        ("/jobs?after=x", 400),
        ("/campaigns?after=x", 400),
        ("/approvals?after=x", 400),
    ],
)
async def test_what_is_not_there_is_said_on_a_page(
    browser: Browser, path: str, status: int
) -> None:
    await browser.sign_in()
    found, text = await browser.get(path)
    assert (found, text.count("<h1>"), text.count("<nav")) == (status, 1, 1)


async def test_a_path_that_is_none_is_said_in_the_readers_language(browser: Browser) -> None:
    chinese = {"Accept-Language": "zh-CN"}
    status, text = await browser.get("/none", **chinese)
    assert (status, "这里没有内容" in text, "<nav" in text) == (404, True, False), text
    await browser.sign_in()
    status, text = await browser.get("/language", **chinese)
    assert (status, "不能这样访问此页面。" in text, "<nav" in text) == (405, True, True)


async def test_tokens_are_stored_as_digests_only(browser: Browser) -> None:
    link = await Sessions(browser.database).link("admin")
    session = await Sessions(browser.database).sign_in(link)
    assert session.token not in repr(session)
    async with browser.database.read() as connection:
        rows = (await connection.execute(ConsoleSessionRow.__table__.select())).all()
    assert link not in str(rows)
    assert session.token not in str(rows)
