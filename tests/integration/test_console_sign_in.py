"""Signing in to the console with DingTalk, against the sandbox."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import update

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.console import sign_in, ways
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.roles.service import RoleRequest, RoleService
from support import rows
from support.consoles import Browser
from support.sandboxes import sandbox_settings

CONSOLE = "http://console.test"
DONE_PATH = "/sign-in/dingtalk/done"
USER, UNION = "u1", "union-of-u1"


@pytest.fixture
def settings(sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str) -> Settings:
    """Settings of a console with sign-in by DingTalk."""
    places = {"database_url": sqlite_url, "console_url": CONSOLE}
    return sandbox_settings(sandbox.base_url, valkey_url, **places)


async def know(browser: Browser, sandbox: SandboxAdmin, **fields: Any) -> None:
    """Put the person into the directory, with a role."""
    sandbox.put_user(USER, unionid=UNION)
    row = {"userid": USER, "name": "张三", "unionid": UNION, **fields}
    await rows.put(browser.database, UserRow, row)
    if "left_at" not in fields:
        await browser.give(USER)


async def agree(browser: Browser, following: str = "") -> str:
    """Go to DingTalk and agree there; the path back."""
    start = f"{browser.url}/sign-in/dingtalk"
    query = {"next": following} if following else {}
    async with browser.session.get(start, params=query, allow_redirects=False) as answer:
        there = answer.headers["Location"]
    async with browser.session.get(there) as page:
        assert USER in await page.text()
    async with browser.session.get(f"{there}&user={USER}", allow_redirects=False) as answer:
        assert answer.status == 302
        back = answer.headers["Location"]
    assert back.startswith(CONSOLE + DONE_PATH)
    return back.removeprefix(CONSOLE)


async def test_a_person_with_a_role_comes_in_and_to_the_page_that_was_wanted(
    browser: Browser, sandbox: SandboxAdmin
) -> None:
    await know(browser, sandbox)
    assert await browser.status("/jobs?q=state:dead") == 303
    text = await browser.text("/sign-in?next=%2Fjobs%3Fq%3Dstate%3Adead")
    assert "/sign-in/dingtalk?next=/jobs%3Fq%3Dstate%3Adead" in text
    back = await agree(browser, "/jobs?q=state:dead")
    async with browser.session.get(browser.url + back, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/jobs?q=state:dead")
    assert USER in await browser.text("/jobs")
    # The code, the state and the cookie are good once.
    browser.session.cookie_jar.clear()
    assert await browser.status(back) == 403


@pytest.mark.parametrize("why", ["unknown", "left", "no role"])
async def test_a_person_without_a_role_gets_one_clear_page(
    browser: Browser, sandbox: SandboxAdmin, why: str
) -> None:
    if why == "left":
        await know(browser, sandbox, left_at=datetime.now(UTC))
    elif why == "no role":
        await know(browser, sandbox)
        await RoleService(browser.database).revoke(
            RoleRequest.parse({"subject": USER, "role": "view"})
        )
    status, text = await browser.get(await agree(browser))
    assert status == 403
    assert ("has no role here yet" if why == "no role" else "does not have") in text
    assert await browser.status("/jobs") == 303


async def test_a_state_is_good_in_the_browser_that_was_sent_and_for_ten_minutes(
    browser: Browser, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await know(browser, sandbox)
    back = await agree(browser)
    code = parse_qs(urlsplit(back).query)["authCode"][0]
    for wrong in (f"{DONE_PATH}?authCode={code}&state=x", DONE_PATH):
        assert await browser.status(wrong) == 403
    (kept,) = browser.session.cookie_jar
    browser.session.cookie_jar.clear()
    assert await browser.status(back) == 403
    for forged in ("x", "e30=.00", kept.value[:-1] + "-"):
        cookies = {"Cookie": f"{sign_in.STATE_COOKIE}={forged}"}
        assert await browser.status(back, **cookies) == 403
    back = await agree(browser)
    (kept,) = browser.session.cookie_jar
    late = {"Cookie": f"{kept.key}={kept.value}"}
    later = clock.now() + timedelta(seconds=ways.STATE_SECONDS + 1)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        assert await browser.status(back, **late) == 403
    assert await browser.status(back, **late) == 303


async def test_a_failed_sign_in_has_a_page(browser: Browser, sandbox: SandboxAdmin) -> None:
    await know(browser, sandbox)
    for api, kind in (
        ("/v1.0/oauth2/userAccessToken", "throttle"),
        ("/v1.0/oauth2/userAccessToken", "html"),
        ("/v1.0/contact/users/me", "truncated"),
        ("/v1.0/oauth2/userAccessToken", "lost_answer"),
    ):
        browser.session.cookie_jar.clear()
        back = await agree(browser)
        sandbox.add_fault(kind, api=api, count=1)
        status, text = await browser.get(back)
        assert (status, text.count("<h1>")) == (502, 1), kind
        assert await browser.status(await agree(browser)) == 303, kind


async def test_no_other_site_is_led_to_after_a_sign_in(
    browser: Browser, sandbox: SandboxAdmin
) -> None:
    await know(browser, sandbox)
    for evil in (
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "/\t/evil.example/",
    ):
        back = await agree(browser, evil)
        async with browser.session.get(browser.url + back, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/"


async def test_a_left_person_is_out_within_seconds(browser: Browser, sandbox: SandboxAdmin) -> None:
    await know(browser, sandbox)
    await browser.get(await agree(browser))
    assert await browser.status("/jobs") == 200
    gone = update(UserRow).where(UserRow.userid == USER)
    await browser.write(gone.values(left_at=datetime.now(UTC)))
    await browser.is_out()
