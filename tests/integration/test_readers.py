"""What each door shows of the fleet and of its people: one document, page by page."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, text, update

from campaigns import put
from cli_runner import Cli
from dingrelay_producers.errors import EndpointNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys as fields
from dingrelay_producers.store.states import State
from dingrelay_workers.campaigns.models import ChunkRow, OutcomeRow
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.limiter import fleet_rules
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks.service import WebhookService
from gateways import GatewayClient
from jobs import claimed, queued
from plans import SCANS, plans_of
from subscriptions import subscribe

NOW = datetime.now(UTC)
ENDPOINT = "drw_aaaaaaaaaaaa"


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="hr people", scopes=frozenset({"directory:read"}), apps=frozenset({"hr"})),
        Grant(name="writer", scopes=frozenset({"jobs:write"}), apps=frozenset({"hr"})),
        Grant(name="report", scopes=frozenset({"campaigns:read"})),
        Grant(
            name="hr",
            scopes=frozenset({"webhooks:read", "limits:read", "jobs:read"}),
            apps=frozenset({"hr"}),
            sender="hr",
        ),
    ]


async def deliver(database: Database, count: int) -> None:
    """Deliveries of as many notices, of which each hundredth is dead, and as many of another endpoint."""
    notices: list[dict[str, Any]] = [
        {
            "number": number,
            "id": f"n{number}",
            "type": "job.done",
            "app": "default",
            "sender": "crm",
            "kind": "message-send",
            "data": {},
            **dict.fromkeys(("at", "recorded_at"), NOW + timedelta(seconds=number)),
        }
        for number in range(1, count + 1)
    ]
    deliveries = [
        {
            "endpoint": endpoint,
            "notice": number,
            "attempts": 1,
            "state": "delivered" if number % 100 else "dead",
            "code": "taken" if number % 100 else "http_503",
            "reason": "",
            "status": 503,
        }
        for endpoint in (ENDPOINT, "drw_bbbbbbbbbbbb")
        for number in range(1, count + 1)
    ]
    await subscribe(database, id=ENDPOINT)
    async with database.write("tests") as connection:
        await connection.execute(insert(NoticeRow), notices)
        await connection.execute(insert(DeliveryRow), deliveries)
    async with database.engine.begin() as connection:
        await connection.execute(text("analyze"))


def filled(settings: Settings, fill: Callable[[Database], Awaitable[None]]) -> None:
    """Put something into the database that a gateway has opened."""

    async def run() -> None:
        database = Database(settings.database)
        await fill(database)
        await database.dispose()

    asyncio.run(run())


async def test_deliveries_are_listed_one_by_one(
    database: Database, redis: Redis, settings: Settings
) -> None:
    await deliver(database, 2_000)
    webhooks = WebhookService(database, redis, settings)
    seen: list[int] = []
    while page := await webhooks.deliveries(ENDPOINT, behind=seen[-1] if seen else None, limit=300):
        seen += [each.number for each in page]
    assert seen == list(range(2_000, 0, -1))
    with plans_of(database, "webhook_deliveries") as plans:
        dead = await webhooks.deliveries(ENDPOINT, state="dead", behind=1_500, limit=5)
        await webhooks.deliveries(ENDPOINT, behind=1_000, limit=5)
    assert [each.number for each in dead] == [1_400, 1_300, 1_200, 1_100, 1_000]
    assert (dead[0].notice, dead[0].code, dead[0].status) == ("n1400", "http_503", 503)
    assert not [line for line in plans if any(each in line for each in SCANS)]
    with pytest.raises(EndpointNotFound):
        await webhooks.deliveries("drw_none", limit=1)


def test_deliveries_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    filled(settings, lambda database: deliver(database, 100))
    path = f"/v1/webhooks/{ENDPOINT}/deliveries"
    first = gateway.ask("GET", f"{path}?limit=60", key=keys["all"]).json
    rest = gateway.ask("GET", f"{path}?limit=60&cursor={first['next']}", key=keys["all"]).json
    assert [each["number"] for each in (*first["deliveries"], *rest["deliveries"])] == list(
        range(100, 0, -1)
    )
    assert rest["next"] is None
    assert gateway.ask("GET", f"{path}?state=odd", key=keys["all"]).status == 422
    assert gateway.ask("GET", path, key=keys["hr"]).status == 404
    shown = cli.json("webhook", "show", ENDPOINT, "--state", "dead")
    assert shown["deliveries"] == [first["deliveries"][0]]
    assert "http_503" in cli("webhook", "show", ENDPOINT).stdout


def changed(settings: Settings, change: Callable[[Redis], Awaitable[None]]) -> None:
    """Put something into Redis."""

    async def run() -> None:
        async with Redis.from_url(settings.redis) as redis:
            await change(redis)

    asyncio.run(run())


def test_the_queue_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    async def wait(redis: Redis) -> None:
        for sender, app in (("crm", "default"), ("crm", "default"), ("hr", "hr"), ("x", "hr")):
            await queued(redis, sender=sender, app=app)

    changed(settings, wait)
    shown = gateway.ask("GET", "/v1/queue", key=keys["all"]).json
    assert shown["exact"]
    lanes = {(each["app"], each["lane"]): each for each in shown["lanes"]}
    assert {name: each["waiting"] for name, each in lanes.items()} == {
        ("default", "normal"): 2,
        ("hr", "normal"): 2,
    }
    assert lanes["hr", "normal"]["held_by"] == "worker"
    senders = {(each["app"], each["sender"]): each["waiting"] for each in shown["groups"]}
    assert senders == {("default", "crm"): 2, ("hr", "hr"): 1, ("hr", "x"): 1}
    own = gateway.ask("GET", "/v1/queue", key=keys["hr"]).json
    assert [(each["app"], each["waiting"]) for each in own["lanes"]] == [("hr", 2)]
    assert [each["sender"] for each in own["groups"]] == ["hr"]
    listed = cli.json("queue")
    assert listed.keys() == shown.keys()
    assert [each["waiting"] for each in listed["lanes"]] == [2, 2]


def test_the_workers_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    async def work(redis: Redis) -> None:
        about = {"version": "1.2.3", "lanes": ["bulk"], "running": 3, "seen_at": NOW.isoformat()}
        rules = Rules.from_settings({}, "default")
        await redis.hset(fields.PRESENCE, mapping={"new": "1 6", "old": "1 6", "odd": "1 6"})
        await redis.pexpire(fields.PRESENCE, 60_000)
        await fleet_rules.publish(redis, "new", rules, about)
        await fleet_rules.publish(redis, "old", rules)
        await fleet_rules.publish(redis, "odd", rules, {"version": 7})
        await redis.set(fields.alive("dingrelay.bulk"), 1, px=60_000)

    assert gateway.ask("GET", "/v1/workers", key=keys["all"]).json["workers"] == []
    changed(settings, work)
    shown = gateway.ask("GET", "/v1/workers", key=keys["all"]).json
    new, odd, old = shown["workers"]
    assert (new["name"], new["version"], new["lanes"], new["running"]) == (
        "new",
        "1.2.3",
        ["bulk"],
        3,
    )
    assert (odd["name"], odd["version"]) == ("odd", "")
    assert (old["name"], old["version"], old["seen_at"]) == ("old", "", None)
    served = {each["name"]: each["served"] for each in shown["lanes"]}
    assert (served["bulk"], served["urgent"]) == (True, False)
    assert "webhooks" in served
    assert cli.json("workers") == shown
    printed = cli("workers")
    assert "1.2.3" in printed.stdout
    assert "urgent" in printed.stderr


def test_dead_jobs_are_counted_by_code_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    async def die(redis: Redis) -> None:
        records = Records(redis, settings)
        for number in range(5):
            app, state = ("default", "hr")[number % 2], (State.DEAD, State.UNKNOWN)[number == 4]
            draft = await queued(redis, sender="hr", app=app)
            error = {"class": "permission", "code": "60011", "message": "no", "hint": "ask"}
            error["code"] = ("60011", "60011", "60011", "90018", "60011")[number]
            claim = await claimed(records, draft)
            await records.settle(claim, state, usage=Usage(), error=error)

    changed(settings, die)
    shown = gateway.ask("GET", "/v1/dead/codes", key=keys["all"]).json
    assert shown["complete"]
    counts = [(each["state"], each["code"], each["jobs"]) for each in shown["codes"]]
    assert counts[0] == ("dead", "60011", 3)
    assert sorted(counts[1:]) == [("dead", "90018", 1), ("unknown", "60011", 1)]
    assert (shown["codes"][0]["message"], shown["codes"][0]["hint"]) == ("no", "ask")
    own = gateway.ask("GET", "/v1/dead/codes", key=keys["hr"]).json["codes"]
    assert {(each["code"], each["jobs"]) for each in own} == {("60011", 1), ("90018", 1)}
    some = gateway.ask("GET", "/v1/dead/codes?app=default&state=dead", key=keys["all"]).json
    assert [each["jobs"] for each in some["codes"]] == [2]
    assert cli.json("job", "list", "--by-code") == shown
    assert "90018" in cli("job", "list", "--by-code", "--app", "hr").stdout

    def change(path: str, key: str, once: str = "") -> Any:
        headers = {"Idempotency_Key": once} if once else {}
        found = gateway.ask("POST", f"/v1/dead/{path}", key=keys[key], **headers)
        return found.json if found.status == 200 else found.status

    assert change("requeue", "hr") == 403
    assert change("requeue?code=60011&since=7d", "writer") == 422
    group = "requeue?code=60011&state=dead"
    assert change(group, "writer") == {"changed": 1, "complete": True}  # of its app
    for _ in range(2):
        assert change(group, "all", once="again") == {"changed": 2, "complete": True}
    assert change(group, "all") == {"changed": 0, "complete": True}
    assert change("discard", "all") == {"changed": 2, "complete": True}
    assert gateway.ask("GET", "/v1/dead", key=keys["all"]).json["jobs"] == []
    noted = gateway.ask("GET", "/v1/audit?kind=job", key=keys["all"]).json["changes"]
    assert sorted(each["action"] for each in noted) == ["discard"] * 2 + ["requeue"] * 3


async def broadcast(database: Database, people: int = 12) -> str:
    """A campaign of chunks of two people: two that failed as a whole, one person that is left out, the rest accepted."""
    campaign = await put(database, people=people)
    ours = ChunkRow.campaign == campaign
    error = {"class": "permission", "code": "60011", "message": "no", "hint": ""}
    async with database.write("tests") as connection:
        settled = update(ChunkRow).where(ours, ChunkRow.number < people // 2 - 1)
        await connection.execute(settled.values(state="settled", task_id=7))
        failed = update(ChunkRow).where(ours, ChunkRow.number.in_([1, 3]))
        await connection.execute(failed.values(error=error, task_id=None))
        row = {
            "campaign": campaign,
            "chunk": 2,
            "userid": "u5",
            "outcome": "duplicate",
            "reason": "",
        }
        await connection.execute(insert(OutcomeRow), row)
        person = {"app": "default", "userid": "u3", "name": "王芳", "fields": {}, "met_in": 1}
        person |= {"mobile": "+86-13800138000", "job_number": "007"}
        person |= dict.fromkeys(("read_at", "detailed_at", "placed_at"), 1)
        await connection.execute(insert(UserRow), person)
    return campaign


WHO = {
    None: [f"u{number}" for number in range(1, 13)],
    "failed": ["u3", "u4", "u7", "u8"],
    "duplicate": ["u5"],
    "accepted": ["u1", "u2", "u6", "u9", "u10"],
    "pending": ["u11", "u12"],
    "kept": [],
}


@pytest.mark.parametrize("outcome", WHO)
async def test_people_of_a_campaign_are_listed_by_outcome(database: Database, outcome: Any) -> None:
    campaign = await broadcast(database)
    report = Report(database)
    seen: list[str] = []
    behind = None
    while True:
        found, behind = await report.people(campaign, outcome, behind=behind, limit=3)
        seen += [each.userid for each in found]
        if behind is None:
            break
    assert seen == WHO[outcome]
    every = [each.userid async for page in report.results(campaign, outcome) for each in page]
    assert every == WHO[outcome]


async def test_people_of_a_large_campaign_are_sought(database: Database) -> None:
    campaign = await put(database, people=4_000)
    async with database.engine.begin() as connection:
        await connection.execute(text("analyze"))
    with plans_of(database, "campaign_chunks") as plans:
        found, last = await Report(database).people(campaign, behind=(1_500, 1), limit=5)
    assert [each.userid for each in found] == [f"u{number}" for number in range(3_002, 3_007)]
    assert last == (1_502, 2)
    assert not [line for line in plans if any(each in line for each in SCANS)]


def test_people_of_a_campaign_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    made: list[str] = []

    async def fill(database: Database) -> None:
        made.append(await broadcast(database))

    filled(settings, fill)
    path = f"/v1/campaigns/{made[0]}/people"
    first = gateway.ask("GET", f"{path}?outcome=failed&limit=3", key=keys["all"]).json
    rest = gateway.ask("GET", f"{path}?outcome=failed&cursor={first['next']}", key=keys["all"]).json
    people = [*first["people"], *rest["people"]]
    assert [each["userid"] for each in people] == WHO["failed"]
    assert rest["next"] is None
    assert (people[0]["name"], people[0]["mobile"]) == ("王芳", "13800138000")
    assert "60011" in people[0]["reason"]
    unnamed = gateway.ask("GET", f"{path}?outcome=failed", key=keys["report"]).json["people"]
    assert (unnamed[0]["name"], unnamed[0]["mobile"]) == ("", "")
    assert gateway.ask("GET", f"{path}?outcome=odd", key=keys["all"]).status == 422
    assert gateway.ask("GET", path, key=keys["hr"]).status == 403

    csv = gateway.ask("GET", f"{path}.csv", key=keys["all"], Accept_Language="zh-CN")
    text = csv.content.decode("utf-8-sig")
    assert text.startswith("userid,姓名,")
    assert len(text.splitlines()) == 13
    assert "13800138000" in text
    csv = gateway.ask("GET", f"{path}.csv?outcome=failed", key=keys["report"])
    assert len(csv.content.splitlines()) == 5
    assert b"13800138000" not in csv.content

    assert cli.json("campaign", "report", made[0], "--outcome", "failed")["people"] == people
    assert "王芳" in cli("campaign", "report", made[0], "--outcome", "failed").stdout
    cli("campaign", "report", made[0], "--outcome", "duplicate", "--csv", "some.csv")
    assert len(Path("some.csv").read_text("utf-8-sig").splitlines()) == 2


def test_people_and_what_they_got_by_every_door(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
) -> None:
    made: list[str] = []

    async def fill(database: Database) -> None:
        made.append(await broadcast(database))
        jobs = [
            {
                "job": f"j{number}",
                "kind": "message-send",
                "app": app,
                "sender": sender,
                "key": "",
                "lane": "normal",
                "state": "done",
                "attempts": 1,
                "throttles": 0,
                "error_class": "",
                "error_code": "",
                "ids": [],
                "summary": "message-send",
                **dict.fromkeys(("created_at", "ended_at"), NOW + timedelta(hours=number + 1)),
            }
            for number, (app, sender) in enumerate([("hr", "hr"), ("hr", "x"), ("default", "hr")])
        ]
        got = [
            {"job": each["job"], "user": "u3", "outcome": "accepted", "at": each["ended_at"]}
            for each in jobs
        ]
        person = {"app": "hr", "name": "王方", "fields": {}, "met_in": 1}
        person |= dict.fromkeys(("read_at", "detailed_at", "placed_at"), 1)
        async with database.write("tests") as connection:
            await connection.execute(insert(JobRow), jobs)
            await connection.execute(insert(RecipientRow), got)
            people = [person | {"userid": f"p{number}"} for number in range(4)]
            await connection.execute(insert(UserRow), people)

    filled(settings, fill)
    found = gateway.ask("GET", "/v1/people?q=%E7%8E%8B&limit=2", key=keys["all"]).json
    assert found["matches"] == 5
    assert [each["name"] for each in found["people"]] == ["王方", "王方"]
    assert cli.json("person", "find", "王", "--limit", "2") == found
    own = gateway.ask("GET", "/v1/people?q=%E7%8E%8B", key=keys["hr people"]).json
    assert (own["matches"], {each["app"] for each in own["people"]}) == (4, {"hr"})
    assert gateway.ask("GET", "/v1/people?q=", key=keys["all"]).status == 422

    shown = gateway.ask("GET", "/v1/people/u3", key=keys["all"]).json
    assert [each["job"] or each["campaign"] for each in shown["messages"]] == [
        "j2",
        "j1",
        "j0",
        made[0],
    ]
    assert shown["messages"][-1]["outcome"] == "failed"
    assert [each["name"] for each in shown["known_as"]] == ["王芳"]
    assert {**cli.json("person", "show", "u3"), "next": None} == shown
    for key, some in (("all", shown["messages"]), ("hr", shown["messages"][2:3])):
        pages, cursor = list[Any](), ""
        while cursor is not None:
            path = f"/v1/people/u3?limit=1{cursor and f'&cursor={cursor}'}"
            page = gateway.ask("GET", path, key=keys[key]).json
            pages += page["messages"]
            cursor = page["next"]
        assert pages == some
    assert gateway.ask("GET", "/v1/people/u3?cursor=x", key=keys["all"]).status == 422
    own = gateway.ask("GET", "/v1/people/u3", key=keys["hr"]).json
    assert ([each["job"] for each in own["messages"]], own["known_as"]) == (["j0"], [])
