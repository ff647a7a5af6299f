"""Costs of a page of the console: statements of SQL and exchanges with Redis, which no busy machine changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pages_data
import pytest
from aiohttp import ClientSession, CookieJar
from pages import Visitor
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from sqlalchemy import event
from sqlalchemy.engine import Engine

from dingrelay_producers.settings import Settings
from dingrelay_workers.console import context
from dingrelay_workers.console.server import listening
from dingrelay_workers.database.database import Database
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks
from support.consoles import browsing
from support.databases import prepare

JOBS, PEOPLE, CAMPAIGN = 5_000, 2_000, 5_000
STATEMENTS, EXCHANGES = 8, 4
"""The most of a page: with the two for its visitor's session and roles."""
MORE_STATEMENTS = {
    "/campaigns": 10,
    "/campaigns/{id}": 20,
    "/campaigns/{id}/choose": 11,
    "/campaigns/{id}/people": 14,
    "/campaigns/{id}/send": 24,
    "/campaigns/{id}/test": 12,
    "/jobs/all/{change}": 9,
    # A person who is the only one that fits is shown at once.
    "/people": 17,
    "/people/{user}": 15,
}
MORE_EXCHANGES = {
    "/": 23,
    # Records are looked at in steps of 500.
    "/jobs": 12,
    "/jobs/all/{change}": 21,
    "/limits": 8,
}
"""Screens that cost more than that, among them such as lead to another page."""
TRIES = 3
"""Requests for a page, one of which is to cost no more than that: what the page before has begun may go on beside it."""


@dataclass
class Costs:
    """Statements so far, and exchanges by their first commands."""

    statements: int = 0
    exchanges: list[str] = field(default_factory=list[str])


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """The costs of this process while the block runs."""
    costs, send = Costs(), AbstractConnection.send_packed_command

    def count(*_: object) -> None:
        costs.statements += 1

    async def count_and_send(connection: Any, command: Any, *arguments: Any, **named: Any) -> None:
        head: bytes = command if isinstance(command, bytes) else b"".join(command)
        name = head.split(b"\r\n", 3)[2].decode()
        # The clock is followed beside the pages.
        if name != "TIME":
            costs.exchanges.append(name)
        await send(connection, command, *arguments, **named)

    event.listen(Engine, "before_cursor_execute", count)
    monkeypatch.setattr(AbstractConnection, "send_packed_command", count_and_send)
    try:
        yield costs
    finally:
        event.remove(Engine, "before_cursor_execute", count)


async def test_a_page_costs_few_statements_and_exchanges(
    settings: Settings, valkey_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page reads by itself what others would share with it.

    PostgreSQL gets the same statements, but for one less where several are to read one moment.
    """
    monkeypatch.setattr(context, "SHARED_FOR", 0)
    # The checks that the first visit begins serve the second one.
    monkeypatch.setattr(context, "CHECKED_FOR", 600)
    prepare(settings.database)
    pages_data.fill_redis(valkey_url)
    pages_data.fill(settings.database, JOBS, PEOPLE, CAMPAIGN)
    database = Database(settings.database)
    link = await LoginLinks(database).create(LoginLinkRequest(user="admin", role="admin"))
    await database.dispose()
    dear: dict[str, Costs] = {}
    async with (
        listening(settings, "127.0.0.1", 0) as url,
        ClientSession(cookie_jar=CookieJar(unsafe=True), auto_decompress=False) as session,
    ):
        visitor = Visitor.before(url, session)
        await visitor.sign_in(f"link={link}")
        screens = await visitor.screens({})
        assert len(screens) > 30
        # Checks that pages have begun go on beside others, whose costs they are not.
        for path in chain(*screens.values()):
            while 'http-equiv="refresh"' in (await visitor.get(path))[1]:
                pass
        for screen, paths in screens.items():
            for path in paths:
                statements = MORE_STATEMENTS.get(screen, STATEMENTS)
                exchanges = MORE_EXCHANGES.get(screen, EXCHANGES)
                for _ in range(TRIES):
                    with counted(monkeypatch) as costs:
                        await visitor.get(path)
                    if costs.statements <= statements and len(costs.exchanges) <= exchanges:
                        break
                else:
                    dear[path] = costs
    assert not dear


async def test_tabs_of_one_person_share_what_was_rendered(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SHARED_FOR", 600)

    async with browsing(settings) as browser:

        async def is_shared(path: str = "/webhooks", **headers: str) -> bool:
            with counted(monkeypatch) as costs:
                answer = await browser.get(path, **{"If-None-Match": '"older"'}, **headers)
            assert answer[0] == 200
            assert answer[1]
            return not costs.statements

        await browser.sign_in("ann")
        assert not await is_shared()
        assert await is_shared()
        assert not await is_shared("/webhooks?more=")
        assert not await is_shared(**{"Accept-Language": "zh"})
        # A file is written to one request.
        for _ in range(2):
            assert not await is_shared("/settings/audit.csv")
        await browser.sign_in("bob")
        await browser.status("/limits")
        assert not await is_shared()
