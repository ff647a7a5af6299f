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
RUN = """async rules => (await axe.run(rules ? {runOnly: rules} : {})).violations
    .map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)}`)"""
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 390, "height": 800}
SEARCHES = ("/people?q=alert", "/people/none", "/jobs?q=state:dead", "/sign-in")
PROBLEMS = {"/nothing": 404, "/jobs/none": 404, "/jobs?q=nonsense": 400}
EXAMPLES = 2
"""Pages of one screen that are looked at."""


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
        assert answer
        assert answer.status == PROBLEMS.get(path, 200), path
        assert await page.get_attribute("html", "lang") == language[:5].replace("en-US", "en")
        await _check(page, path)
        waiting += await _links(page, console.url)
    # One that nothing leads to is not found by people either; or the test data have none of it.
    assert set(SCREENS) <= set(seen)
    await page.context.close()


def _screen(path: str) -> str:
    """The route of a path; a search is a screen of its own."""
    bare, _, query = path.partition("?")
    found = next(
        (each for each in SCREENS if re.fullmatch(re.sub(r"{\w+}", "[^/]+", each), bare)), path
    )
    return f"{found}?" if query else found


async def _check(page: Page, path: str) -> None:
    # Colours are all that differs between light and dark.
    for scheme, size, rules in (("light", WIDE, None), ("dark", NARROW, ["color-contrast"])):
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(size)
        assert await page.evaluate(RUN, rules) == [], f"{path}, {scheme}"
        assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"], path


async def _links(page: Page, url: str) -> list[str]:
    """The paths to which a page leads in the console."""
    found = await page.eval_on_selector_all("a[href]", "all => all.map(each => each.href)")
    inside = [each.removeprefix(url) for each in found if each.startswith(f"{url}/")]
    assert len(inside) == len(found), "a link leads elsewhere"
    return [each.partition("#")[0] for each in inside]
