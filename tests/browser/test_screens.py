"""Every screen in a real browser: both languages, light and dark, wide and narrow, behind a prefix."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Page

from dingrelay_workers.console.declared import DECLARED

if TYPE_CHECKING:
    from conftest import Console

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENS = [each.path for each in DECLARED if each.method == "GET"]
AXE = Path(__file__).with_name("axe.min.js").read_text("utf-8")
RUN = """async options => (await axe.run({resultTypes: ["violations"], ...options})).violations
    .map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)}`)"""
LEADS = """() => {
    const links = [...document.querySelectorAll("a[href]")].map(each => each.href);
    for (const form of document.querySelectorAll("form:not([method=post])")) {
        for (const box of form.querySelectorAll("[type=checkbox]")) box.checked = true;
        for (const button of form.querySelectorAll("button")) {
            const fields = new URLSearchParams(new FormData(form, button));
            links.push(`${button.formAction.split("?")[0]}?${fields}`);
        }
    }
    return links;
}"""
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 390, "height": 800}
SEARCHES = ("/people?q=alert", "/people/none", "/jobs?q=state:dead", "/sign-in")
PROBLEMS = {"/nothing": 404, "/jobs/none": 404, "/jobs?q=nonsense": 400}
EXAMPLES = 5
"""Pages of one screen that are looked at."""
CONTRAST = "color-contrast"
"""The rule of axe that takes longest. Colours are the same in both languages, and all that differs in the dark."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("console", ["", "/dingrelay"], indirect=True)
async def test_every_screen_is_accessible_and_does_only_what_it_may(console: "Console") -> None:
    language = "en-US" if console.prefix else "zh-CN"
    page = await console.open(locale=language, viewport=WIDE)
    await page.context.add_init_script(AXE)
    seen: dict[str, set[str]] = {}
    waiting = [path for path in SCREENS if "{" not in path]
    waiting += [*SEARCHES, *PROBLEMS, *console.paths]
    for path in waiting:
        screen = _screen(path)
        if path in seen.setdefault(screen, set()) or len(seen[screen]) >= EXAMPLES:
            continue
        seen[screen].add(path)
        if path.partition("?")[0].endswith(".csv"):
            continue
        answer = await page.goto(console.url + path)
        if answer is None or answer.status != PROBLEMS.get(path, 200):
            console.troubles.append(f"{path}: {answer and answer.status}")
            continue
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        assert await page.get_attribute("html", "lang") == language.removesuffix("-US")
        wrong = await _wrong(page, colours=not console.prefix)
        console.troubles += [f"{path}: {each}" for each in wrong]
        waiting += await _links(page, console.url)
    # What nothing leads to is not found by people either; or the test data have none of it.
    missed = set(SCREENS) - {screen.removesuffix("?") for screen in seen}
    console.troubles += [f"nothing leads to {screen}" for screen in sorted(missed)]


def _screen(path: str) -> str:
    """The route of a path; a search is a screen of its own."""
    bare, _, query = path.partition("?")
    fit = [each for each in SCREENS if re.fullmatch(re.sub(r"{\w+}", "[^/]+", each), bare)]
    # As the router has it: what is written out goes before what fits anything.
    found = min(fit, key=lambda each: (each.count("{"), -each.find("{")), default=path)
    return f"{found}?" if query else found


async def _wrong(page: Page, *, colours: bool) -> list[str]:
    """Faults in the looks of a page."""
    found: list[str] = []
    # What stands in them is looked at, too; neither axe nor the width knows what is closed.
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    all_but_colours = {"rules": {CONTRAST: {"enabled": colours}}}
    dark = {"runOnly": [CONTRAST]} if colours else None
    for scheme, size, rules in (("light", WIDE, all_but_colours), ("dark", NARROW, dark)):
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(size)
        if rules:
            found += [f"{scheme}: {each}" for each in await page.evaluate(RUN, rules)]
        wide = await page.evaluate("document.documentElement.scrollWidth")
        found += [f"{wide} px wide"] if wide > size["width"] else []
    return found


async def _links(page: Page, url: str) -> list[str]:
    """The paths to which a page leads in the console, by links and by forms that only ask."""
    found: list[str] = await page.evaluate(LEADS)
    inside = [each.removeprefix(url) for each in found if each.startswith(f"{url}/")]
    assert len(inside) == len(found), "a link leads elsewhere"
    return [each.partition("#")[0] for each in inside]
