"""A console on a socket, and a browser without script before it."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

from aiohttp import ClientSession, CookieJar
from sqlalchemy import Executable, Select

from conftest import wait_until_async
from dingrelay_producers.settings import Settings
from dingrelay_workers.console.server import listening
from dingrelay_workers.console.sessions import Session, Sessions
from dingrelay_workers.console.sign_in import SESSION_COOKIE
from dingrelay_workers.database.database import Database
from dingrelay_workers.roles.service import RoleRequest, RoleService
from tables import prepare


class Browser:
    """Asks for pages, with cookies, and follows no redirect unless asked to."""

    def __init__(self, session: ClientSession, url: str, database: Database) -> None:
        self.session = session
        self.url = url
        self.database = database
        self.location = ""
        """Target of the last form."""

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """A page; one that renews itself, as it stands once it does so no more."""
        while True:
            async with self.session.get(
                self.url + path, headers=headers, allow_redirects=False
            ) as answer:
                status, text = answer.status, await answer.text()
            if 'http-equiv="refresh"' not in text:
                return status, text

    async def status(self, path: str, **headers: str) -> int:
        """How a page is answered."""
        return (await self.get(path, **headers))[0]

    async def text(self, path: str) -> str:
        """A page that is shown."""
        status, text = await self.get(path)
        assert status == 200, (path, status)
        return text

    async def pages(self, path: str) -> list[str]:
        """A list, page after page."""
        texts: list[str] = []
        following = path
        while following:
            texts.append(await self.text(following))
            more = re.search(r'rel="next" href="([^"]+)"', texts[-1])
            following = unescape(more[1]) if more else ""
            if following.startswith("?"):
                following = path + following
        return texts

    async def post(self, path: str, fields: Any, **headers: str) -> int:
        return (await self.send(path, fields, **headers))[0]

    async def send(self, path: str, fields: Any, **headers: str) -> tuple[int, str]:
        """Send fields, and the text that comes back."""
        sent = {"Sec-Fetch-Site": "same-origin"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.session.post(
            self.url + path, data=fields, headers=sent, allow_redirects=False
        ) as answer:
            self.location = answer.headers.get("Location", "")
            return answer.status, await answer.text()

    async def is_out(self) -> None:
        """Wait until the session has ended."""

        async def leads_to_sign_in() -> bool:
            return (await self.get("/jobs"))[0] == 303

        await wait_until_async(leads_to_sign_in, timeout=5)

    async def forms(self, page: str) -> dict[str, dict[str, str]]:
        """The forms of a page that change something: path → hidden fields."""
        _, text = await self.get(page)
        prefix = "/" + "/".join(self.url.split("/")[3:])
        found = re.findall(r'<form method="post" action="([^"]+)".*?>(.*?)</form>', text, re.DOTALL)
        hidden = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
        return {
            unescape(action).removeprefix(prefix.rstrip("/")): {
                name: unescape(value) for name, value in hidden.findall(inside)
            }
            for action, inside in found
        }

    async def submit(self, page: str, path: str = "", **fields: str) -> int:
        """Fill in the form to this path on a page, or to its own, and send it."""
        path = path or page
        return await self.post(path, (await self.forms(page))[path] | fields)

    async def sign_in(self, user: str = "admin", role: str = "admin") -> None:
        link = await Sessions(self.database).link(user, role)
        assert await self.post("/sign-in", {"link": link}) == 303

    async def come_in(self, user: str, app: str = "default") -> Session | None:
        """Sign a person of the directory in as DingTalk does, or none that has no role."""
        session = await Sessions(self.database).begin(app, user)
        self.session.cookie_jar.clear()
        if session:
            self.session.cookie_jar.update_cookies({SESSION_COOKIE: session.token})
        return session

    @asynccontextmanager
    async def another(self, user: str, role: str) -> "AsyncGenerator[Browser]":
        """Another person, before the same console."""
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
            found = Browser(session, self.url, self.database)
            await found.sign_in(user, role)
            yield found

    async def give(self, subject: str, role: str = "view", **fields: Any) -> None:
        """Give a role to a person or a department."""
        asked = RoleRequest.parse({"subject": subject, "role": role, **fields})
        await RoleService(self.database).grant(asked)

    async def write(self, *changes: Executable) -> None:
        """Change what is stored."""
        async with self.database.write("tests") as connection:
            for change in changes:
                await connection.execute(change)

    async def rows(self, query: Select[Any]) -> list[tuple[Any, ...]]:
        """The stored rows."""
        async with self.database.read() as connection:
            return [tuple(row) for row in await connection.execute(query)]


@asynccontextmanager
async def browsing(settings: Settings, prefix: str = "") -> AsyncGenerator[Browser]:
    """A browser before a console."""
    prepare(settings.database)
    async with listening(settings, "127.0.0.1", 0, prefix) as url:
        database = Database(settings.database)
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
            yield Browser(session, url, database)
        await database.dispose()
