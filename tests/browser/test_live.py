"""Pages that are left open, used and attacked, in a real browser."""

from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web
from playwright.async_api import Page, Route, expect
from sqlalchemy import delete, func, select

from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.sessions.models import ConsoleSessionRow
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks
from support.jobs import queued
from support.serving import all_to, serving

if TYPE_CHECKING:
    from conftest import Console

pytestmark = pytest.mark.asyncio(loop_scope="session")
# A page may show what was read two seconds before, and then the next renewal shows the rest.
expect.set_options(timeout=20_000)

EVERY = 5_000
"""Milliseconds after which the list of jobs renews itself."""
USES = {
    "nothing": "0",
    "selected": "getSelection().selectAllChildren(document.querySelector('h1'))",
    "focused": "document.querySelector('#q').focus()",
    "typed": "document.querySelector('#q').dispatchEvent(new Event('input', {bubbles: true}))",
    "not seen": "Object.defineProperty(document, 'visibilityState', {value: 'hidden'})",
}
TABS = 50
KEEP, FORGET = "Keep this filter", "Forget this filter"
RELAYED = {"Content-Type", "Location", "Set-Cookie", "ETag", "Content-Security-Policy"}
"""Headers of answers that the proxy of a test passes on."""


async def _left_open(console: "Console", at: str = "") -> Page:
    """The list of jobs; its clock stands still."""
    page = await console.open("/jobs", at=at)
    await page.clock.install()
    await page.reload()
    return page


@pytest.mark.parametrize("use", USES)
async def test_a_page_renews_itself_unless_it_is_in_use(console: "Console", use: str) -> None:
    page = await _left_open(console)
    await page.evaluate(USES[use])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    job = await queued(console.redis)
    await page.clock.run_for(EVERY)
    row = page.locator(f"a[href='/jobs/{job.id}']")
    await expect(row).to_have_count(1 if use == "nothing" else 0)
    assert bool(asked) == (use == "nothing")


async def test_a_page_says_that_it_is_old_and_goes_on_after_a_restart(console: "Console") -> None:
    page = await _left_open(console)
    await console.stop()
    await page.clock.run_for(EVERY)
    await expect(page.locator("#stale")).to_be_visible()
    assert all("ERR_CONNECTION_REFUSED" in each for each in console.troubles)
    console.troubles.clear()
    await console.start()
    job = await queued(console.redis)
    await page.clock.run_for(EVERY)
    await expect(page.locator("#stale")).to_be_hidden()
    await expect(page.locator(f"a[href='/jobs/{job.id}']")).to_have_count(1)


async def test_a_session_that_ends_leads_to_the_sign_in_and_back(console: "Console") -> None:
    page, other = await _left_open(console), await console.open("/webhooks/drw_test")
    await other.clock.install()
    await other.reload()
    async with console.database.write("tests") as connection:
        await connection.execute(delete(ConsoleSessionRow))
    await page.clock.run_for(EVERY)
    await page.wait_for_url("**/sign-in?next=*")
    await other.get_by_role("button", name="Pause").click()
    await other.wait_for_url("**/sign-in*")
    link = await LoginLinks(console.database).create(LoginLinkRequest(user="admin"))
    await page.goto(f"{page.url}&link={link}")
    await page.click("main button")
    await page.wait_for_url("**/jobs")


async def test_the_back_button_shows_what_was_there_and_nothing_after_signing_out(
    console: "Console",
) -> None:
    page = await console.open("/people?q=alert")
    await page.locator("tbody a").first.click()
    await page.wait_for_url("**/people/u*")
    await page.go_back()
    await expect(page.locator("#q")).to_have_value("alert")
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/sign-in*")
    await page.go_back()
    await page.wait_for_url("**/sign-in*")


async def test_the_result_of_a_form_is_shown_once(console: "Console") -> None:
    page = await console.open("/webhooks/drw_test")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".said")).to_have_count(1)
    assert page.url.endswith("/webhooks/drw_test")
    await page.reload()
    await expect(page.locator("h1")).to_have_count(1)
    await expect(page.locator(".said")).to_have_count(0)


async def test_keys_lead_to_the_search_and_show_themselves(console: "Console") -> None:
    page = await console.open("/campaigns")
    # Chromium looks for what has `autofocus` before the first frame, and complains where a key was faster.
    await page.evaluate("new Promise(requestAnimationFrame)")
    focused = "document.activeElement.id"
    shown = "document.getElementById('keys').matches(':popover-open')"
    await page.keyboard.press("/")
    assert await page.evaluate(focused) == "q"
    await page.keyboard.type("a/b?")
    assert await page.input_value("#q") == "a/b?"
    assert not await page.evaluate(shown)
    await page.focus("main .primary")
    await page.keyboard.press("Control+/")
    assert await page.evaluate(focused) != "q"
    for press, is_shown in (("?", True), ("Escape", False), ("?", True), ("Enter", False)):
        await page.keyboard.press(press)
        assert await page.evaluate(shown) == is_shown, press
    await page.click("[popovertarget=keys]")
    assert await page.is_visible("#keys h2")
    assert await page.get_attribute("#q", "aria-keyshortcuts") == "/"
    # A page without a search has no use for the key.
    await page.goto(f"{console.url}/campaigns/new")
    await page.focus("main button")
    await page.keyboard.press("/")
    assert "/campaigns/new" in page.url


async def test_a_filter_is_kept_until_it_is_forgotten(console: "Console") -> None:
    page = await console.open("/jobs?q=state:dead+code:60121")
    row = page.locator("[data-filters]")
    await row.locator("button", has_text=KEEP).click()
    await page.goto(console.url + "/jobs")
    await row.locator("a", has_text="state:dead code:60121").click()
    await expect(page.locator("#q")).to_have_value("state:dead code:60121")
    await expect(row.locator("a")).to_have_attribute("aria-current", "true")
    await row.locator("button", has_text=FORGET).click()
    await expect(row.locator("a")).to_have_count(0)
    await page.goto(console.url + "/jobs")
    await expect(row).to_be_hidden()


async def test_a_double_click_sends_a_form_once(console: "Console") -> None:
    async def drafts() -> int:
        async with console.database.read() as connection:
            return await connection.scalar(select(func.count()).select_from(CampaignRow)) or 0

    before = await drafts()
    campaign = next(path for path in console.paths if path.startswith("/campaigns/"))
    page = await console.open(campaign)
    await page.get_by_role("button", name="Copy it with its people").dblclick()
    await page.wait_for_url("**/campaigns/*/write")
    assert await drafts() == before + 1


async def test_a_text_outlives_the_session_in_which_it_was_written(console: "Console") -> None:
    page = await console.open("/campaigns/new")
    await page.fill("#name", "in time")
    await page.get_by_role("main").get_by_role("button").first.click()
    await page.wait_for_url("**/write")
    await page.context.clear_cookies()
    await page.fill("#name", "written too late")
    await expect(page.locator("#saved")).to_contain_text("not signed in any more", timeout=20_000)
    link = await LoginLinks(console.database).create(LoginLinkRequest(user="admin"))
    beside = await page.context.new_page()
    await beside.goto(f"{console.url}/sign-in?link={link}")
    await beside.click("main button")
    await expect(page.locator("#saved")).to_contain_text("Saved", timeout=20_000)
    await page.reload()
    await expect(page.locator("#name")).to_have_value("written too late")


MANY = "\n".join(f"1380000{number:04}" for number in range(5_000))
"""Pasted numbers: more bytes than a request may have that outlives its page."""
PASTE = """(box, text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", {bubbles: true}));
}"""


async def _new_draft(console: "Console", step: str) -> Page:
    page = await console.open("/campaigns/new")
    await page.fill("#name", "party")
    await page.get_by_role("main").get_by_role("button").first.click()
    await page.wait_for_url("**/write")
    await page.goto(page.url.replace("/write", f"/{step}"))
    return page


async def test_thousands_of_pasted_numbers_are_saved_by_themselves(console: "Console") -> None:
    page = await _new_draft(console, "choose")
    async with page.expect_response(lambda answer: answer.request.method == "POST"):
        await page.eval_on_selector("#pasted", PASTE, MANY)
    await expect(page.locator("#pasted-people")).to_contain_text("Its first 500 entries")
    await expect(page.locator("#saved")).to_contain_text("Saved")
    await page.reload()
    assert await page.input_value("#pasted") == MANY
    # A form that was not saved yet is sent as a whole.
    await page.fill("#pasted", "u1")
    await page.get_by_role("button", name="Next: check").click()
    await page.wait_for_url("**/check")
    await page.go_back()
    await expect(page.locator("#pasted")).to_have_value("u1")


async def test_another_form_waits_once_for_a_save_that_fails(console: "Console") -> None:
    page = await _new_draft(console, "write")
    await page.fill("[name='text.content']", "come!")
    await page.get_by_role("button", name="Next: choose people").click()
    await page.wait_for_url("**/choose")
    await page.go_back()
    await page.reload()
    sent: list[str] = []

    async def refuse(route: Route) -> None:
        sent.append(route.request.url)
        if route.request.method == "POST" and route.request.url.endswith("/write"):
            await route.abort()
        else:
            await route.continue_()

    await page.route(lambda url: True, refuse)
    await page.get_by_text("Keep this message as a template").click()
    await page.fill("[name='text.content']", "come soon!")
    button = page.get_by_role("button", name="Keep it")
    await button.click()
    await expect(page.locator("#saved")).to_contain_text("Press again")
    assert not [url for url in sent if url.endswith("/template")]
    await button.click()
    await expect(page.get_by_text("It is kept as the template")).to_be_visible()
    assert len([url for url in sent if url.endswith("/template")]) == 1
    assert all("ERR_FAILED" in each for each in console.troubles)
    console.troubles.clear()


async def test_a_text_stays_when_another_type_is_chosen(console: "Console") -> None:
    page = await _new_draft(console, "write")
    await page.fill("[name='text.content']", "in words")
    await page.get_by_label("Card with buttons").check()
    await page.fill("[name='action_card.markdown']", "on a card")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#saved")).to_contain_text("Saved")
    await page.reload()
    await expect(page.locator("[name='action_card.markdown']")).to_have_value("on a card")
    await page.get_by_label("Plain text").check()
    await expect(page.locator("[name='text.content']")).to_have_value("in words")


async def test_a_form_of_another_port_of_the_host_changes_nothing(console: "Console") -> None:
    """Cookies know no ports: the browser sends the session along, and says whose form it is."""
    page = await console.open("/jobs")
    form = f"<form method=post action='{console.url}/sign-out'><button>x</button></form>"

    async def attack(_: web.Request) -> web.Response:
        return web.Response(text=form, content_type="text/html")

    async with serving(all_to(attack)) as evil:
        await page.goto(evil)
        async with page.expect_navigation() as answer:
            await page.click("button")
        assert (await answer.value).status == 403
    await page.goto(f"{console.url}/jobs")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


@pytest.mark.parametrize("console", ["/dingrelay"], indirect=True)
async def test_a_proxy_that_keeps_answers_back_changes_nothing(console: "Console") -> None:
    """It passes on a path of its own only, answers once it has everything, and drops most headers."""

    async def relay(request: web.Request) -> web.Response:
        if not request.path.startswith("/dingrelay"):
            raise web.HTTPNotFound
        async with (
            ClientSession() as client,
            client.request(
                request.method,
                f"http://127.0.0.1:{console.port}{request.path_qs}",
                headers=request.headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer,
        ):
            kept = [each for each in answer.headers.items() if each[0] in RELAYED]
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async with serving(all_to(relay)) as proxy:
        page = await _left_open(console, at=f"{proxy}/dingrelay")
        job = await queued(console.redis)
        await page.clock.run_for(EVERY)
        await expect(page.locator(f"a[href='/dingrelay/jobs/{job.id}']")).to_have_count(1)
        await page.get_by_role("button", name="中文").click()
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


async def test_fifty_tabs_that_ask_at_once_are_answered(console: "Console") -> None:
    page = await console.open()
    ask = f"Promise.all(Array.from({{length: {TABS}}}, () => fetch('/').then(one => one.status)))"
    assert set(await page.evaluate(ask)) == {200}


@pytest.mark.parametrize("language", ["zh-CN", "en-US"])
async def test_without_script_a_person_is_found(console: "Console", language: str) -> None:
    page = await console.open("/people", java_script_enabled=False, locale=language)
    await page.fill("#q", "u1")
    await page.click("main button")
    await page.wait_for_url("**/people/u1")
    await page.locator("header form button").first.click()
    await expect(page.locator("html")).not_to_have_attribute("lang", language[:2])
    await page.locator("header form button").last.click()
    await page.wait_for_url("**/sign-in*")


async def test_buttons_write_markdown_that_can_be_undone(console: "Console") -> None:
    page = await _new_draft(console, "write")
    await page.check("input[value=markdown]", force=True)
    text, saved = page.locator("[name='markdown.text']"), page.locator("#saved")
    await text.click()
    await page.keyboard.type("one\ntwo")
    tools = page.get_by_role("toolbar").filter(visible=True)
    await tools.get_by_role("button", name="List").click()
    await expect(text).to_have_value("one\n- two")
    await page.keyboard.press("Control+b")
    await page.keyboard.type("loud")
    await expect(text).to_have_value("one\n- two**loud**")
    for _ in range(2):
        await page.keyboard.press("Control+z")
    await expect(text).not_to_have_value("one\n- two**loud**")
    await expect(saved).to_contain_text("Saved")


async def test_the_steps_follow_what_was_saved_by_itself(console: "Console") -> None:
    page = await _new_draft(console, "write")
    await expect(page.locator(".steps .done")).to_have_count(0)
    await page.fill("[name='text.content']", "come!")
    await expect(page.locator(".steps .done")).to_have_text("Write")


async def test_what_was_mended_is_no_more_called_wrong(console: "Console") -> None:
    """And what is refused is not called saved."""
    page = await _new_draft(console, "write")
    await page.get_by_role("button", name="Next").click()
    wrong = page.locator("[id='text.content-wrong']")
    await expect(wrong).to_be_visible()
    await page.fill("[name='text.content']", "come!")
    await expect(wrong).to_have_count(0)
    await expect(page.locator("#problems > *")).to_have_count(0)
    await page.locator("#name").evaluate("each => { each.removeAttribute('maxlength') }")
    await page.fill("#name", "n" * 201)
    await expect(page.locator("#saved")).to_contain_text("Not saved")
    await expect(page.locator("#problems a")).to_have_count(1)
