"""The audit: each change once, with who made it, through every door."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers import Client
from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import CampaignState as State
from dingrelay_tasks import MessageSend
from dingrelay_workers.audit import personal_data
from dingrelay_workers.audit import service as audit
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.subjects import DataSubject, Erasing, Stores
from support.campaigns import put
from support.command_line import Cli
from support.consoles import HTML, Browser
from support.databases import SCANS, plans_of, rows
from support.gateways import GatewayClient
from support.rows import all_of
from support.rows import put as put_rows

NOW = datetime.now(UTC)
SECRET = "口令 13800138000"


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="hr", scopes=frozenset({"audit:read"}), apps=frozenset({"hr"})),
    ]


def test_a_change_is_written_down_by_each_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, client: Client, cli: Cli
) -> None:
    wanted = {"name": "crm", "scopes": ["messages:write"]}
    made = gateway.ask("POST", "/v1/keys", wanted, key=keys["all"])
    cli("key", "revoke", made.json["id"])
    cli("key", "revoke", made.json["id"])  # changes nothing more
    message = {"msgtype": "text", "text": {"content": SECRET}}
    job = client.send(MessageSend.parse({"to": {"users": ["u1"]}, "message": message})).id
    cancelled = gateway.ask("POST", f"/v1/jobs/{job}/cancel", key=keys["all"])
    assert cancelled.status == 200
    assert gateway.ask("POST", f"/v1/jobs/{job}/discard", key=keys["all"]).status == 409
    cli("job", "requeue", job)
    plan = {"name": "x", "users": ["u1", "u2"], "message": message}
    campaign = gateway.ask("POST", "/v1/campaigns", plan, key=keys["all"]).json["id"]
    assert gateway.ask("POST", f"/v1/campaigns/{campaign}/start", key=keys["all"]).status == 200
    cli("campaign", "cancel", campaign)
    cli("campaign", "delete", campaign, "--yes")

    found = gateway.ask("GET", "/v1/audit?limit=50", key=keys["all"]).json["changes"]
    changes = [(each["door"], each["kind"], each["action"], each["object"]) for each in found]
    assert changes[::-1][2:] == [
        ("http", "key", "create", made.json["id"]),
        ("cli", "key", "revoke", made.json["id"]),
        ("http", "job", "cancel", job),
        ("cli", "job", "requeue", job),
        ("http", "campaign", "create", campaign),
        ("http", "campaign", "start", campaign),
        ("cli", "campaign", "cancel", campaign),
        ("cli", "campaign", "delete", campaign),
    ]
    key_id = keys["all"].partition(".")[0]
    start = found[2]
    assert (start["actor"], start["name"], start["app"]) == (key_id, "all", "default")
    assert (start["before"], start["after"]) == ({"state": "draft"}, {"state": "running"})
    assert start["request"]
    assert "@" in found[0]["actor"]
    kept = str(rows(settings.database, "select * from audit"))
    assert "口令" not in kept
    assert made.json["key"].partition(".")[2] not in kept
    # A key for one app sees nothing of others, and nothing that is of none.
    assert gateway.ask("GET", "/v1/audit", key=keys["hr"]).json == {"changes": [], "next": None}

    listed = cli.json("audit", "list", "--object", campaign)
    assert [each["action"] for each in listed] == ["delete", "cancel", "start", "create"]
    lines = cli("audit", "list", "--csv", "--kind", "job").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("number,at,actor,")
    assert "campaign delete" in cli("audit", "list", "-n", "1", "--kind", "campaign").stdout


async def test_the_row_is_of_the_transaction_of_its_change(database: Database) -> None:
    async def change(connection: AsyncConnection) -> None:
        await audit.record(connection, "start", "campaign", "c1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with database.write("test") as connection:
            await change(connection)
    token = ACTOR.set(Actor("console", "u7", "王芳", "operate", "r1", "重复\0了"))
    async with database.write("test") as connection:
        await audit.record(connection, "cancel", "campaign", "c1", before={"at": NOW})
    ACTOR.reset(token)
    (row,) = await all_of(database, AuditRow)
    assert (row["action"], row["actor"], row["name"]) == ("cancel", "u7", "王芳")
    assert (row["role"], row["door"], row["request"]) == ("operate", "console", "r1")
    assert row["reason"] == "重复了"


async def fill(database: Database, count: int) -> None:
    def row(number: int) -> dict[str, Any]:
        at = NOW - timedelta(minutes=number // 2)  # two of a moment, which a page may part
        app, action = (("default", "start"), ("hr", "pause"))[number % 2]
        of = {
            "actor": f"u{number % 3}",
            "object": f"c{number % 5}",
            "kind": "campaign",
            "door": "cli",
        }
        return {"at": at, "app": app, "action": action, **of}

    await put_rows(database, AuditRow, *(row(number) for number in range(count)))


async def test_filters_and_pages_hold_each_once(
    database: Database, database_url: str, settings: Settings
) -> None:
    await fill(database, 30)
    service = AuditService(settings, database)
    everything = [each.number for each in await service.list(AuditFilter(), limit=100)]
    assert len(everything) == 30
    seen: list[int] = []
    after = None
    while page := await service.list(AuditFilter(), limit=7, after=after):
        seen += [each.number for each in page]
        after = page[-1].at, page[-1].number
    assert seen == everything

    async def count(**chosen: Any) -> int:
        return len(await service.list(AuditFilter(**chosen), limit=100))

    assert await count(actor="u1", action="pause") == 5
    assert await count(object="c1") == 6
    assert await count(since=NOW - timedelta(minutes=4)) == 10
    assert await count(apps=["hr"]) == 15

    assert await audit.delete_before(database, NOW - timedelta(minutes=4)) == 20
    assert await count() == 10


async def test_a_page_is_sought_in_an_index(database: Database, settings: Settings) -> None:
    """However many rows lie before it, a page costs its own rows."""
    await fill(database, 3_000)
    async with database.engine.begin() as connection:
        await connection.execute(text("analyze"))
    place = (NOW - timedelta(minutes=900), 1_800)
    service = AuditService(settings, database)
    filters: tuple[dict[str, Any], ...] = (
        {},
        {"actor": "u1"},
        {"action": "start"},
        {"object": "c1"},
    )
    for chosen in filters:
        with plans_of(database, "audit") as plans:
            found = await service.list(AuditFilter(**chosen), limit=10, after=place)
        assert len(found) == 10, chosen
        assert "ix_audit_" in "".join(plans), chosen
        assert not [line for line in plans if any(each in line for each in SCANS)], chosen


async def test_the_console_shows_changes_and_is_their_door(browser: Browser) -> None:
    campaign = await put(browser.database, app="default", state=State.DRAFT)
    token = ACTOR.set(Actor("console", "u7", HTML, "operate", "r1", HTML))
    async with browser.database.write("test") as connection:
        await audit.record(connection, "start", "campaign", campaign, after={"state": HTML})
        await audit.record(connection, "erase", "person", "gone-1")
        ACTOR.set(Actor("console", "u5"))
        await audit.record(connection, "pause", "webhook", "drw_test")
    ACTOR.reset(token)
    await put_rows(browser.database, UserRow, {"userid": "u5", "name": "李雷"})
    await browser.sign_in("u5", "operate")
    _, page = await browser.get("/settings/audit", **{"Accept-Language": "zh-CN"})
    assert "运维" in page
    assert "李雷</a>" in page
    queries = {"": True, "?kind=campaign&actor=u7&since=1d": True, "?action=cancel": False}
    for query, there in queries.items():
        status, page = await browser.get(f"/settings/audit{query}")
        assert status == 200
        assert (campaign[:12] in page) == there
        assert HTML not in page
    assert 'title="u5">李雷</span>' in (await browser.get("/settings/audit"))[1]
    _, page = await browser.get("/settings/audit.csv?kind=campaign")
    assert page.startswith("\ufeffnumber,at,")
    assert page.count(campaign) == 1
    assert "gone-1" not in page
    _, page = await browser.get("/settings/audit.csv", **{"Accept-Language": "zh-CN"})
    assert page.startswith("\ufeff编号,时间,操作者,")
    for words in ("控制台,运维,,,开始发送,群发,", "u5", "控制台,运维,,,导出,审计,audit,"):
        assert words in page, page
    assert "{" not in page
    await browser.sign_in("u9", "view")
    assert (await browser.get("/settings/audit"))[0] == 403


async def test_a_person_is_handed_out_and_erased(database: Database, redis: Redis) -> None:
    stores = Stores(database, redis)
    changes = (("u7", "campaign", "c1"), ("admin", "role", "u7"), ("admin", "campaign", "c2"))
    for actor, kind, name in changes:
        token = ACTOR.set(Actor("console", actor, "王芳" if actor == "u7" else ""))
        async with database.write("test") as connection:
            after = {"subject": name, "role": "view"}
            await audit.record(connection, "grant", kind, name, after=after)
        ACTOR.reset(token)
    found = await personal_data.export(stores, DataSubject("u7"))
    assert [each["object"] for each in found] == ["u7", "c1"]
    now = datetime.now(UTC)
    erasing = Erasing("u7", since=now, tombstone="gone-1", now=now)
    await personal_data.erase(stores, erasing)
    assert erasing.changed["audit"] == 2
    kept = await all_of(database, AuditRow)
    assert [each in str(kept) for each in ("u7", "王芳")] == [False, False]
    assert (len(kept), str(kept).count("gone-1")) == (3, 3)
