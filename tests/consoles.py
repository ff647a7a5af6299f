"""A console on a socket, and a browser without script before it."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

from aiohttp import ClientSession, CookieJar

from dingrelay_producers.settings import Settings
from dingrelay_workers.console.server import listening
from dingrelay_workers.console.sessions import Sessions
from dingrelay_workers.database.database import Database
from tables import prepare


class Browser:
    """Asks for pages, with cookies, and follows no redirect unless asked to."""

    def __init__(self, session: ClientSession, url: str, database: Database) -> None:
        self.session = session
        self.url = url
        self.database = database
        self.location = ""
        """Where the last form led."""

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get(
            self.url + path, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text()

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

    async def submit(self, page: str, path: str, **fields: str) -> int:
        """Fill in the form to this path on a page, and send it."""
        return await self.post(path, (await self.forms(page))[path] | fields)

    async def sign_in(self, user: str = "admin", role: str = "admin") -> None:
        link = await Sessions(self.database).link(user, role)
        assert await self.post("/sign-in", {"link": link}) == 303


@asynccontextmanager
async def browsing(settings: Settings, prefix: str = "") -> AsyncGenerator[Browser]:
    """A browser before a console."""
    prepare(settings.database)
    async with listening(settings, "127.0.0.1", 0, prefix) as url:
        database = Database(settings.database)
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
            yield Browser(session, url, database)
        await database.dispose()
