"""A console on a socket, a browser without script before it, and one of everything that it shows."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html import unescape
from typing import Any

from aiohttp import ClientSession, CookieJar
from redis.asyncio import Redis
from sqlalchemy import Executable, Select

from conftest import wait_until_async
from dingrelay_producers.client.campaign_documents import TemplateRequest
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import State
from dingrelay_workers.approvals.models import ApprovalRow
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.message_templates import MessageTemplates
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.console.server import listening
from dingrelay_workers.console.sign_in import SESSION_COOKIE
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.documents import KeyRequest
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks, Session, Sessions
from dingrelay_workers.store.records import Records, Usage
from support import campaigns, rows
from support.databases import prepare
from support.jobs import a_draft, claimed, enqueue
from support.webhooks import subscribe


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
        with campaigns.acting(f"issuer-of-{user}"):  # another human for each
            link = await LoginLinks(self.database).create(LoginLinkRequest(user=user, role=role))
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


HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
TEXT = {"msgtype": "text", "text": {"content": HTML}}
NOW = datetime.now(UTC)


async def fill(database: Database, redis: Redis, settings: Settings) -> str:
    """One of everything, with HTML in each text; the id of a job."""
    records = Records(redis, settings)
    failed = a_draft(sender="crm")
    await enqueue(redis, failed)
    error = {"class": "not_found", "code": "60121", "message": HTML, "hint": HTML}
    await records.settle(await claimed(records, failed), State.DEAD, usage=Usage(), error=error)
    unclear = a_draft(sender="crm")
    await enqueue(redis, unclear)
    await records.settle(await claimed(records, unclear), State.UNKNOWN, usage=Usage(), error=error)
    waits = a_draft(text="waits")
    await enqueue(redis, waits)
    sent = a_draft(text="sent", sender="crm")
    await enqueue(redis, sent)
    result = {"accepted": 1, "calls": [{"task_id": 1, "recipients": 1}]}
    claim = await claimed(records, sent)
    await records.settle(claim, State.DONE, usage=Usage(), result=result)
    await KeyService(database).issue(Grant(name=HTML, scopes=frozenset({"jobs:read"})))
    campaign = await campaigns.put(database, name=HTML)
    draft = await campaigns.put(database, name=HTML, state="draft")
    with campaigns.acting(HTML):
        await CampaignService(settings, database).submit(draft)
    done = await campaigns.put(database, people=2, name=HTML, state="done", calls=1)
    taken = ChunkEnding(Release(0, 1), task_id=1, called_at=NOW, accepted=2)
    await campaigns.end(database, done, taken)
    message = {"msgtype": "markdown", "markdown": {"title": HTML, "text": f"{HTML} ![x](@medium)"}}
    content = {"name": HTML, "app": "default", "message": message, "pasted": "u1"}
    await campaigns.Writers(settings, database).create(content, "admin")
    template = TemplateRequest.parse({"name": HTML, "message": message})
    await MessageTemplates(settings, database).keep(template)
    await subscribe(database, name=HTML)
    await subscribe(database, id="drw_paused", name=HTML, state="paused", reason=HTML)
    job = {"job": "11111111-1111-4111-8111-111111111111"}
    summary = f"message-send app=default lane=normal {HTML}"
    ended = {"kind": "message-send", "sender": "crm", "lane": "normal", "state": "done"}
    await rows.put(database, JobRow, {**job, **ended, "ids": [HTML], "summary": summary})
    await rows.put(database, RecipientRow, {**job, "user": "u1", "outcome": "duplicate"})
    texts = ("sender", "template", "originator", "title", "business_id", "link")
    approval = {**dict.fromkeys(texts, HTML), "instance": "i1", "job": failed.id}
    followed = {"state": "running", "source": "event", "created_at": NOW}
    await rows.put(database, ApprovalRow, approval | followed)
    people = [{"userid": user, "name": HTML} for user in ("u1", "u2")]
    await rows.put(database, UserRow, *people)
    notice = Notice(type="job.dead", app="default", at=NOW, data={"id": HTML})
    async with database.write("tests") as connection:
        await outbox.write(connection, [notice])
    role = RoleRequest.parse({"subject": "u1", "role": "view"})
    await RoleService(database).grant(role)
    key = KeyRequest.parse({"name": HTML, "scopes": ["jobs:read"]})
    await KeyService(database).create(key)
    jobs = " ".join(f"/jobs/{each}" for each in (unclear.id, failed.id, waits.id, sent.id))
    return f"{jobs} /jobs/{job['job']} /campaigns/{campaign} /webhooks/drw_test"
