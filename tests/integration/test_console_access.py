"""Permissions in the console, and validity of its forms."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import DECLARED, ConsoleRoute, act, at
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.console.visit import Visit, text_of
from dingrelay_workers.http.api_keys import ANY, SCOPES, Grant
from dingrelay_workers.roles.scopes import ROLES, permitted
from dingrelay_workers.sessions.models import ConsoleFormRow
from dingrelay_workers.sessions.sessions import Session
from support.consoles import Browser

EVERY = list(DECLARED)


def path_of(route: ConsoleRoute) -> str:
    """A path of it, of something that is not there."""
    return route.path.replace("{", "").replace("}", "")


class Counter:
    """A counter that the form of these tests changes."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.fails = False
        self.slow = asyncio.Event()
        self.slow.set()


@pytest.fixture
def counter() -> Iterator[Counter]:
    """One more page of the console, with a form on it."""
    found, known = Counter(), list(DECLARED)

    async def state(_: Visit) -> dict[str, object]:
        return {"value": len(found.values)}

    @at("/counter", scope="jobs:read")
    async def show(visit: Visit) -> Any:
        return visit.confirmation(
            title="Count?",
            button="Count",
            count=12 if visit.query("many") else None,
            state=await state(visit),
            back="/counter",
        )

    @act("/counter", scope="jobs:write", state=state)
    async def count(visit: Visit, form: Any) -> Any:
        await found.slow.wait()
        if found.fails:
            raise RuntimeError
        found.values.append(text_of(form, "value"))
        return visit.redirect("/jobs", en("jobs: {}", len(found.values)))

    yield found
    DECLARED[:] = known


@pytest.fixture
async def counting(counter: Counter, browser: Browser) -> Browser:
    """A person before the console that counts."""
    await browser.sign_in()
    return browser


async def sent_forms(browser: Browser) -> Any:
    ((count,),) = await browser.rows(select(func.count()).select_from(ConsoleFormRow))
    return count


@pytest.mark.parametrize("role", [*ROLES, ""])
async def test_a_page_opens_to_the_roles_that_have_its_scope(browser: Browser, role: str) -> None:
    if role:
        await browser.sign_in(role=role)
    (kept, *_) = [*browser.session.cookie_jar] if role else [None]
    # Forms as the console would make them, were they shown.
    session = Session("admin", kept.value if kept else "", [])
    for route in EVERY:
        grant = permitted([Grant(name="u", scopes=ROLES[role])] if role else [], route.scope)
        if route.method == "GET":
            status, _ = await browser.get(path_of(route))
            expected = {200, 404} if grant else {403 if role else 303}
            if route.path == "/" and role in {"write", "approve"}:
                expected = {303}  # to the first page of their navigation
        else:
            if route.path == "/sign-out":
                continue
            path, before = path_of(route), await sent_forms(browser)
            form = {"form": FormToken(0, {}, "", "/").sealed(session, path)}
            assert await browser.post(path, {"form": "e30=.00"}) == (403 if role else 303)
            status, _ = await browser.send(path, form | {"none": "such"})
            # 303: it leads to where there was nothing to do. What is not there is 404, fields are missing with 400
            # or on the form, which is shown again with 422.
            expected = {200, 303, 400, 404, 409, 422} if grant else {403 if role else 303}
            assert grant or await sent_forms(browser) == before
        assert status in expected, (route, status)
        assert role or "/sign-in?expired=1&next=" in browser.location or route.method == "GET"


async def test_the_pages_of_a_role_are_those_in_its_navigation(browser: Browser) -> None:
    await browser.sign_in(role="view")
    text = await browser.text("/jobs")
    assert ('href="/campaigns"' in text, 'href="/settings' in text) == (True, False)


def test_every_scope_is_some_ones_and_apps_of_one_role_are_not_those_of_another() -> None:
    looks = Grant(name="u", scopes=ROLES["view"])
    writes = Grant(name="u", scopes=ROLES["write"], apps=frozenset({"hr"}))
    assert permitted([looks, writes], "jobs:read") == permitted([writes, looks], "jobs:read")
    both = permitted([looks, writes], "campaigns:write")
    assert both is not None
    assert not both.permits_app("it")
    assert both.permits("campaigns:read")
    assert permitted([looks, writes], "keys:write") is None
    urgent = Grant(name="u", scopes=ROLES["write"], lanes=frozenset({"urgent"}))
    assert permitted([urgent], "campaigns:write") is None
    assert permitted([urgent], "campaigns:read")
    assert permitted([], "") is None
    assert ROLES["view"] < set(SCOPES)
    assert {ANY} == ROLES["admin"]


async def test_a_form_that_is_sent_twice_has_one_effect_and_leads_to_one_result(
    counting: Browser, counter: Counter
) -> None:
    form = (await counting.forms("/counter"))["/counter"] | {"value": "a"}
    counter.slow.clear()
    first = asyncio.create_task(counting.post("/counter", form))
    second = asyncio.create_task(counting.post("/counter", form))
    await asyncio.sleep(0)
    counter.slow.set()
    assert [await first, await second] == [303, 303]
    where = counting.location
    assert await counting.post("/counter", form) == 303
    assert counting.location == where
    assert counter.values == ["a"]
    assert "jobs: 1" in await counting.text(where)
    assert 'class="said"' not in await counting.text("/jobs?done=" + "0" * 64)


async def test_a_form_made_for_another_state_says_what_has_changed(
    counting: Browser, counter: Counter
) -> None:
    form = (await counting.forms("/counter"))["/counter"]
    assert await counting.submit("/counter", value="a") == 303
    status, text = await counting.send("/counter", form | {"value": "b"})
    assert (status, 'href="/counter"' in text) == (409, True)
    assert re.findall(r"<td[^>]*>(\d)</td>", text) == ["0", "1"]
    assert counter.values == ["a"]


async def test_a_form_is_good_in_its_session_and_for_its_path_only(
    counting: Browser, counter: Counter
) -> None:
    form = (await counting.forms("/counter"))["/counter"]
    body, _, seal = form["form"].partition(".")
    others = [
        {"form": (await counting.forms("/counter"))["/sign-out"]["form"]},
        {"form": f"{body}.{seal[::-1]}"},
        {"form": f"{body}="},
        {"form": "é.ü"},
        {"form": ""},
        {},
    ]
    for other in others:
        assert await counting.post("/counter", other) == 403
    await counting.sign_in("another")
    assert await counting.post("/counter", form) == 403
    assert counter.values == []


async def test_a_body_that_no_browser_sends_is_refused(counting: Browser) -> None:
    for content, body in (
        ("application/x-www-form-urlencoded", b"\xff=1"),
        ("application/x-www-form-urlencoded; charset=none", b"a=1"),
        ("multipart/form-data", b"a"),
        ("multipart/form-data; boundary=a", b"--a\r\n"),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: x\r\n\r\n\r\n--a--\r\n"),
    ):
        for path in ("/counter", "/language", "/sign-in"):
            assert await counting.post(path, body, Content_Type=content) == 403, (content, path)


async def test_a_number_must_be_typed_as_it_is_asked_for(
    counting: Browser, counter: Counter
) -> None:
    for typed, status in (("", 422), ("1", 422), ("12", 303), ("1,2 ", 303), ("１，２", 303)):
        assert await counting.submit("/counter?many=1", count=typed) == status
    assert counter.values == ["", "", ""]


async def test_a_form_that_failed_may_be_sent_again(counting: Browser, counter: Counter) -> None:
    form = (await counting.forms("/counter"))["/counter"]
    counter.fails = True
    assert await counting.post("/counter", form) == 500
    counter.fails = False
    assert await counting.post("/counter", form) == 303


async def test_two_equal_forms_after_each_other_are_two(
    counting: Browser, counter: Counter
) -> None:
    for _ in range(2):
        assert await counting.submit("/counter", value="a") == 303
    assert counter.values == ["a", "a"]
