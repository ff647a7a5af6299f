"""The console on a real socket, database and Valkey."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from conftest import wait_until_async
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.clock import RedisClock
from dingrelay_producers.store.scripts import run_async
from dingrelay_workers.backlog import estimate
from dingrelay_workers.backlog.estimate import BacklogGroup, Tally
from dingrelay_workers.console.context import SharedReads
from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.console.server import listening
from dingrelay_workers.http import paging
from dingrelay_workers.limiter.breakers import MICRO, NEEDED, Breakers, Pace, sick
from dingrelay_workers.limiter.buckets import ended
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.sessions import sessions
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks, Sessions
from support.consoles import HTML, Browser, fill
from support.databases import prepare
from support.jobs import server_time

NOW = datetime.now(UTC)
PAGES = [each.path for each in DECLARED if each.method == "GET"]
LISTS = [path for path in PAGES if "{" not in path and not path.endswith(".csv")]


async def test_a_console_that_is_stopped_while_it_reads_the_clock_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(_: RedisClock, redis: Redis) -> None:
        """Loses a cancellation, as redis-py may before Python 3.12."""
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    monkeypatch.setattr(RedisClock, "follow", deaf)
    prepare(settings.database)
    async with asyncio.timeout(10), listening(settings, "127.0.0.1", 0):
        await asyncio.sleep(0)


PREFIXES = pytest.mark.parametrize("prefix", ["", "/dingrelay"])
"""A console at the root, and one behind a prefix."""


@PREFIXES
async def test_every_page_shows_what_is_stored_and_runs_none_of_it(
    browser: Browser, redis: Redis, settings: Settings
) -> None:
    own = (await fill(browser.database, redis, settings)).split()
    await browser.sign_in()
    searches = ["/people?q=script", "/people?q=u1", "/people/u1", "/jobs?q=state:dead+code:60121"]
    for language, says in (
        ("zh-CN", {"/people/u1": "当天已收到此内容", "/": "没有 worker"}),
        ("en", {"/people/u1": "had this content already that day", "/": "No worker runs"}),
    ):
        for path in [*LISTS, *own, *searches]:
            status, text = await browser.get(path, **{"Accept-Language": language})
            assert status == (303 if path == "/people?q=u1" else 200), path
            assert HTML not in text, path
            assert text.count("<script") <= 1, path
            assert not re.search(r"<[^>]* (style|on\w+)=", re.sub(r'="[^"]*"', "=", text)), path
            assert says.get(path, "") in text
            assert path != "/dead" or "60121" in text


async def test_without_a_session_every_page_leads_to_the_sign_in(browser: Browser) -> None:
    for path in PAGES:
        status, text = await browser.get(re.sub(r"[{}]", "", path))
        assert (status, text.count("<main")) == (303, 0), path
    assert "<script>" not in await browser.text("/sign-in?link=%22%3E%3Cscript%3E")


@PREFIXES
async def test_a_link_signs_in_once(browser: Browser) -> None:
    link = await LoginLinks(browser.database).create(LoginLinkRequest(user="admin"))
    assert await browser.post("/sign-in", {"link": link}) == 303
    assert await browser.status("/jobs") == 200
    assert await browser.post("/sign-in", {"link": link}) == 403
    assert await browser.post("/sign-in", {"link": "made-up"}) == 403


@pytest.mark.parametrize(
    ("name", "ago"), [("begun_at", sessions.SESSION_LIVES), ("used_at", sessions.IDLE)]
)
async def test_a_session_ends(browser: Browser, name: str, ago: timedelta) -> None:
    await browser.sign_in()
    await browser.write(update(ConsoleSessionRow).values({name: NOW - ago}))
    assert await browser.status("/jobs") == 303


async def test_a_link_ends_after_ten_minutes(browser: Browser) -> None:
    link = await LoginLinks(browser.database).create(LoginLinkRequest(user="admin"))
    await browser.write(update(ConsoleLinkRow).values(ends_at=NOW - timedelta(seconds=1)))
    assert await browser.post("/sign-in", {"link": link}) == 403


@PREFIXES
async def test_signing_out_ends_the_session_and_needs_its_own_form(browser: Browser) -> None:
    await browser.sign_in()
    assert await browser.post("/sign-out", {"form": "of another"}) == 403
    assert await browser.submit("/jobs", "/sign-out") == 303
    assert await browser.status("/jobs") == 303


async def test_a_form_of_another_site_is_refused(browser: Browser) -> None:
    headers: tuple[tuple[dict[str, str], int], ...] = (
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "", "Origin": "https://evil.example"}, 403),
        ({"Sec_Fetch_Site": "", "Origin": "null"}, 403),
        ({"Sec_Fetch_Site": ""}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 303),
        # Browsers send no Sec-Fetch-Site to plain-HTTP hosts other than loopback.
        ({"Sec_Fetch_Site": "", "Origin": browser.url}, 303),
    )
    for sent, status in headers:
        link = await LoginLinks(browser.database).create(LoginLinkRequest(user="admin"))
        assert await browser.post("/sign-in", {"link": link}, **sent) == status, sent


async def test_a_chosen_language_stays_and_leads_to_no_other_site(browser: Browser) -> None:
    fields = {"language": "zh", "back": "//evil.example/"}
    assert await browser.post("/language", fields) == 303
    assert "evil" not in browser.location
    _, text = await browser.get("/sign-in", **{"Accept-Language": "en"})
    assert 'lang="zh-CN"' in text


async def test_an_unchanged_page_is_not_sent_again(browser: Browser) -> None:
    await browser.sign_in()
    async with browser.session.get(f"{browser.url}/webhooks") as answer:
        tag = answer.headers["ETag"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert await browser.get("/webhooks", **{"If-None-Match": tag}) == (304, "")


async def test_the_first_page_is_not_sent_again_while_its_jobs_only_wait(
    browser: Browser, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(browser.database, redis, settings)
    read, readings = estimate.read, 0

    async def a_minute_later(*given: Any, **options: Any) -> tuple[Tally, list[BacklogGroup]]:
        nonlocal readings
        readings += 1
        tally, lanes = await read(*given, **options)
        return replace(tally, now=tally.now + timedelta(minutes=readings)), lanes

    async def read_now(_reads: SharedReads, _key: object, now: Callable[[], Awaitable[Any]]) -> Any:
        return await now()

    monkeypatch.setattr(estimate, "read", a_minute_later)
    monkeypatch.setattr(SharedReads, "get", read_now)
    await browser.sign_in()
    async with browser.session.get(f"{browser.url}/") as answer:
        tag, text = answer.headers["ETag"], await answer.text()
    assert "Jobs that wait: 1, the oldest since today " in text
    assert await browser.get("/", **{"If-None-Match": tag}) == (304, "")
    assert readings == 2


async def test_a_missing_object_has_a_page(browser: Browser) -> None:
    await browser.sign_in()
    missing = ("/jobs/none", "/campaigns/none", "/webhooks/none", "/nothing")
    wrong = (
        "/jobs?q=other:x",
        f"/jobs?after={paging.encode(2**60, 'x')}",
        "/campaigns?after=x",
        "/approvals?after=x",
    )
    for path in (*missing, *wrong):
        status, text = await browser.get(path)
        expected = 404 if path in missing else 400
        assert (status, text.count("<h1>"), text.count("<nav")) == (expected, 1, 2), path


@PREFIXES
async def test_a_path_that_is_none_is_said_in_the_readers_language(browser: Browser) -> None:
    chinese = {"Accept-Language": "zh-CN"}
    status, text = await browser.get("/none", **chinese)
    assert (status, "这里没有内容" in text, "<nav" in text) == (404, True, False), text
    await browser.sign_in()
    status, text = await browser.get("/language", **chinese)
    assert (status, "不能这样访问此页面。" in text, "<nav" in text) == (405, True, True)


async def test_tokens_are_stored_as_digests_only(browser: Browser) -> None:
    link = await LoginLinks(browser.database).create(LoginLinkRequest(user="admin"))
    session = await Sessions(browser.database).sign_in(link)
    assert session.token not in repr(session)
    stored = str(await browser.rows(ConsoleSessionRow.__table__.select()))
    assert (link in stored, session.token in stored) == (False, False)


async def test_now_tells_of_an_outage_that_is_over(browser: Browser, redis: Redis) -> None:
    await browser.sign_in()
    rules = Rules.from_settings({}, "default")
    circuit = Breakers(redis, rules).circuit("default", "message.send", "oapi")
    now = await server_time(redis) * 1000
    began = now - 40 * 60 * MICRO
    for _ in range(NEEDED):
        report = sick(
            circuit,
            Pace(1, 60, 15),
            "answer",
            needed=NEEDED,
            trial=False,
            reason="HTTP 503",
            now=began,
        )
        await run_async(redis, report)
    assert "that are over" not in await browser.text("/")
    of_api = rules.of("default", "message.send")
    await run_async(redis, ended(of_api, now, circuit=circuit.keys, sane=True, trial=True))

    async def is_told() -> bool:
        text = (await browser.text("/")).partition("that are over")[2]
        return bool(re.search(r"message\.send.*?>40 min<.*?>HTTP 503<", text, re.DOTALL))

    await wait_until_async(is_told)
