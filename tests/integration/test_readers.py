"""Each door's view of the fleet and of its people: one document, page by page."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from dingrelay_producers.errors import EndpointNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys as fields
from dingrelay_producers.store.states import State
from dingrelay_workers.campaigns.models import ChunkRow, OutcomeRow
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.limiter import fleet_rules
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks.service import WebhookService
from support.campaigns import put
from support.command_line import Cli
from support.databases import SCANS, plans_of
from support.gateways import GatewayClient, Reply
from support.jobs import claimed, queued
from support.rows import change
from support.rows import put as put_rows
from support.webhooks import subscribe

NOW = datetime.now(UTC)
ENDPOINT = "drw_aaaaaaaaaaaa"


@pytest.fixture
def grants() -> Sequence[Grant]:
    hr, reads = frozenset({"hr"}), frozenset({"webhooks:read", "limits:read", "jobs:read"})
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="hr people", scopes=frozenset({"directory:read"}), apps=hr),
        Grant(name="writer", scopes=frozenset({"jobs:write"}), apps=hr),
        Grant(name="report", scopes=frozenset({"campaigns:read"})),
        Grant(name="hr", scopes=reads, apps=hr, sender="hr"),
    ]


class Doors:
    """The gateway and the command line, and what a test puts before them."""

    def __init__(
        self, gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli
    ) -> None:
        self.gateway = gateway
        self.keys = keys
        self.settings = settings
        self.cli = cli

    def ask(self, path: str, key: str = "all", **headers: str) -> Reply:
        return self.gateway.ask("GET", f"/v1/{path}", key=self.keys[key], **headers)

    def put(self, fill: Callable[[Database, Redis], Awaitable[Any]]) -> Any:
        """Put something into the database and Redis."""

        async def run() -> Any:
            database = Database(self.settings.database)
            async with Redis.from_url(self.settings.redis) as redis:
                made = await fill(database, redis)
            await database.dispose()
            return made

        return asyncio.run(run())


@pytest.fixture
def doors(gateway: GatewayClient, keys: dict[str, str], settings: Settings, cli: Cli) -> Doors:
    return Doors(gateway, keys, settings, cli)


async def deliver(database: Database, many: int) -> None:
    """Deliveries of as many notices, of which each hundredth is dead, and as many of another endpoint."""
    numbers = range(1, many + 1)
    taken, dead = {"state": "delivered", "code": "taken"}, {"state": "dead", "code": "http_503"}
    await subscribe(database, id=ENDPOINT)
    await put_rows(database, NoticeRow, *({"number": n, "id": f"n{n}"} for n in numbers))
    for endpoint in (ENDPOINT, "drw_bbbbbbbbbbbb"):
        to = {"endpoint": endpoint, "attempts": 1, "status": 503}
        rows = [{**to, "notice": number, **(taken if number % 100 else dead)} for number in numbers]
        await put_rows(database, DeliveryRow, *rows)
    await analyze(database)


async def analyze(database: Database) -> None:
    """Let the database plan by what there is."""
    async with database.engine.begin() as connection:
        await connection.execute(text("analyze"))


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


def test_deliveries_by_every_door(doors: Doors) -> None:
    doors.put(lambda database, _: deliver(database, 100))
    path = f"webhooks/{ENDPOINT}/deliveries"
    first = doors.ask(f"{path}?limit=60").json
    rest = doors.ask(f"{path}?limit=60&cursor={first['next']}").json
    numbers = [each["number"] for each in (*first["deliveries"], *rest["deliveries"])]
    assert numbers == list(range(100, 0, -1))
    assert rest["next"] is None
    assert doors.ask(f"{path}?state=odd").status == 422
    assert doors.ask(path, "hr").status == 404
    shown = doors.cli.json("webhook", "list", ENDPOINT, "--state", "dead")
    assert shown["deliveries"] == [first["deliveries"][0]]
    assert "http_503" in doors.cli("webhook", "list", ENDPOINT).stdout


def test_the_queue_by_every_door(doors: Doors) -> None:
    async def wait(_: Database, redis: Redis) -> None:
        for sender, app in (("crm", "default"), ("crm", "default"), ("hr", "hr"), ("x", "hr")):
            await queued(redis, sender=sender, app=app)

    doors.put(wait)
    shown = doors.ask("queue").json
    assert shown["exact"]
    lanes = {(each["app"], each["lane"]): each for each in shown["lanes"]}
    waiting = {name: each["waiting"] for name, each in lanes.items()}
    assert waiting == {("default", "normal"): 2, ("hr", "normal"): 2}
    assert lanes["hr", "normal"]["held_by"] == "worker"
    senders = {(each["app"], each["sender"]): each["waiting"] for each in shown["groups"]}
    assert senders == {("default", "crm"): 2, ("hr", "hr"): 1, ("hr", "x"): 1}
    own = doors.ask("queue", "hr").json
    assert [(each["app"], each["waiting"]) for each in own["lanes"]] == [("hr", 2)]
    assert [each["sender"] for each in own["groups"]] == ["hr"]
    listed = doors.cli.json("queue")
    assert listed.keys() == shown.keys()
    assert [each["waiting"] for each in listed["lanes"]] == [2, 2]


def test_the_workers_by_every_door(doors: Doors) -> None:
    async def work(_: Database, redis: Redis) -> None:
        about = {"version": "1.2.3", "lanes": ["bulk"], "running": 3, "seen_at": NOW.isoformat()}
        rules = Rules.from_settings({}, "default")
        await redis.hset(fields.PRESENCE, mapping={"new": "1 6", "old": "1 6", "odd": "1 6"})
        await redis.pexpire(fields.PRESENCE, 60_000)
        await fleet_rules.publish(redis, "new", rules, about)
        await fleet_rules.publish(redis, "old", rules)
        await fleet_rules.publish(redis, "odd", rules, {"version": 7})
        await redis.set(fields.alive("dingrelay.bulk"), 1, px=60_000)

    assert doors.ask("workers").json["workers"] == []
    doors.put(work)
    shown = doors.ask("workers").json
    new, odd, old = shown["workers"]
    assert (new["name"], new["version"]) == ("new", "1.2.3")
    assert (new["lanes"], new["running"]) == (["bulk"], 3)
    assert (odd["name"], odd["version"]) == ("odd", "")
    assert (old["name"], old["version"], old["seen_at"]) == ("old", "", None)
    served = {each["name"]: each["served"] for each in shown["lanes"]}
    assert (served["bulk"], served["urgent"]) == (True, False)
    assert "webhooks" in served
    assert doors.cli.json("queue", "--by", "worker") == shown
    printed = doors.cli("queue", "--by", "worker")
    assert "1.2.3" in printed.stdout
    assert "urgent" in printed.stderr


def test_dead_jobs_are_counted_by_code_by_every_door(doors: Doors) -> None:
    ends = [("default", "60011"), ("hr", "60011"), ("default", "60011"), ("hr", "90018")]

    async def die(_: Database, redis: Redis) -> None:
        records = Records(redis, doors.settings)
        for number, (app, code) in enumerate([*ends, ("default", "60011")]):
            claim = await claimed(records, await queued(redis, sender="hr", app=app))
            error = {"class": "permission", "code": code, "message": "no", "hint": "ask"}
            state = State.DEAD if number < len(ends) else State.UNKNOWN
            await records.settle(claim, state, usage=Usage(), error=error)

    doors.put(die)
    shown = doors.ask("dead/codes").json
    assert shown["complete"]
    counts = [(each["state"], each["code"], each["jobs"]) for each in shown["codes"]]
    assert counts[0] == ("dead", "60011", 3)
    assert sorted(counts[1:]) == [("dead", "90018", 1), ("unknown", "60011", 1)]
    first = shown["codes"][0]
    assert (first["message"], first["hint"]) == ("no", "ask")
    assert datetime.fromisoformat(first["first_at"]) <= datetime.fromisoformat(first["latest_at"])
    assert first["senders"] == [
        {"app": "default", "sender": "hr", "jobs": 2},
        {"app": "hr", "sender": "hr", "jobs": 1},
    ]
    own = doors.ask("dead/codes", "hr").json["codes"]
    assert {(each["code"], each["jobs"]) for each in own} == {("60011", 1), ("90018", 1)}
    some = doors.ask("dead/codes?app=default&state=dead").json
    assert [each["jobs"] for each in some["codes"]] == [2]
    assert doors.cli.json("job", "list", "--by-code") == shown
    assert "90018" in doors.cli("job", "list", "--by-code", "--app", "hr").stdout

    def change(path: str, key: str, **headers: str) -> Any:
        key = doors.keys[key]
        found = doors.gateway.ask("POST", f"/v1/dead/{path}", key=key, **headers)
        return found.json if found.status == 200 else found.status

    assert change("requeue", "hr") == 403
    assert change("requeue?code=60011&since=7d", "writer") == 422
    group = "requeue?code=60011&state=dead"
    assert change(group, "writer") == {"changed": 1, "complete": True}  # of its app
    for _ in range(2):
        assert change(group, "all", Idempotency_Key="again") == {"changed": 2, "complete": True}
    assert change(group, "all") == {"changed": 0, "complete": True}
    assert change("discard", "all") == {"changed": 2, "complete": True}
    assert doors.ask("dead").json["jobs"] == []
    noted = doors.ask("audit?kind=job").json["changes"]
    assert sorted(each["action"] for each in noted) == ["discard"] * 2 + ["requeue"] * 3


async def broadcast(database: Database, people: int = 12) -> str:
    """A campaign of chunks of two people: two that failed as a whole, one person that is left out, the rest accepted."""
    campaign = await put(database, people=people)
    ours = ChunkRow.campaign == campaign
    error = {"class": "permission", "code": "60011", "message": "no", "hint": ""}
    settled = ChunkRow.number < people // 2 - 1
    await change(database, ChunkRow, ours, settled, state="settled", task_id=7)
    await change(database, ChunkRow, ours, ChunkRow.number.in_([1, 3]), error=error, task_id=None)
    left_out = {"campaign": campaign, "chunk": 2, "userid": "u5", "outcome": "duplicate"}
    await put_rows(database, OutcomeRow, left_out)
    person = {"userid": "u3", "name": "王芳", "mobile": "+86-13800138000", "job_number": "007"}
    await put_rows(database, UserRow, person)
    return campaign


WHO: dict[Any, list[str]] = {
    None: [f"u{number}" for number in range(1, 13)],
    "failed": ["u3", "u4", "u7", "u8"],
    "duplicate": ["u5"],
    "accepted": ["u1", "u2", "u6", "u9", "u10"],
    "pending": ["u11", "u12"],
    "kept": [],
}


async def test_people_of_a_campaign_are_listed_by_outcome(database: Database) -> None:
    campaign, report = await broadcast(database), Report(database)
    for outcome, expected in WHO.items():
        seen: list[str] = []
        behind = None
        while True:
            found, behind = await report.people(campaign, outcome, behind=behind, limit=3)
            seen += [each.userid for each in found]
            if behind is None:
                break
        assert seen == expected, outcome
        every = [each.userid async for page in report.results(campaign, outcome) for each in page]
        assert every == expected, outcome


async def test_people_of_a_large_campaign_are_sought(database: Database) -> None:
    campaign = await put(database, people=4_000)
    await analyze(database)
    with plans_of(database, "campaign_chunks") as plans:
        found, last = await Report(database).people(campaign, behind=(1_500, 1), limit=5)
    assert [each.userid for each in found] == [f"u{number}" for number in range(3_002, 3_007)]
    assert last == (1_502, 2)
    # A table of one row is read without its index.
    of_chunks = [line for line in plans if "Seq Scan on campaigns " not in line]
    assert not [line for line in of_chunks if any(scan in line for scan in SCANS)]


def test_people_of_a_campaign_by_every_door(doors: Doors) -> None:
    campaign = doors.put(lambda database, _: broadcast(database))
    path = f"campaigns/{campaign}/people"
    first = doors.ask(f"{path}?outcome=failed&limit=3").json
    rest = doors.ask(f"{path}?outcome=failed&cursor={first['next']}").json
    people = [*first["people"], *rest["people"]]
    assert [each["userid"] for each in people] == WHO["failed"]
    assert rest["next"] is None
    assert (people[0]["name"], people[0]["mobile"]) == ("王芳", "13800138000")
    assert "60011" in people[0]["reason"]
    unnamed = doors.ask(f"{path}?outcome=failed", "report").json["people"]
    assert (unnamed[0]["name"], unnamed[0]["mobile"]) == ("", "")
    assert doors.ask(f"{path}?outcome=odd").status == 422
    assert doors.ask(path, "hr").status == 403

    csv = doors.ask(f"{path}.csv", Accept_Language="zh-CN")
    text = csv.content.decode("utf-8-sig")
    assert text.startswith("userid,姓名,")
    assert len(text.splitlines()) == 13
    assert "13800138000" in text
    csv = doors.ask(f"{path}.csv?outcome=failed", "report")
    assert len(csv.content.splitlines()) == 5
    assert b"13800138000" not in csv.content

    assert doors.cli.json("campaign", "report", campaign, "--outcome", "failed")["people"] == people
    assert "王芳" in doors.cli("campaign", "report", campaign, "--outcome", "failed").stdout
    doors.cli("campaign", "report", campaign, "--outcome", "duplicate", "--csv", "some.csv")
    assert len(Path("some.csv").read_text("utf-8-sig").splitlines()) == 2


def test_people_and_what_they_got_by_every_door(doors: Doors) -> None:
    async def fill(database: Database, _: Redis) -> str:
        campaign = await broadcast(database)
        for number, (app, sender) in enumerate([("hr", "hr"), ("hr", "x"), ("default", "hr")]):
            moments = dict.fromkeys(("created_at", "ended_at"), NOW + timedelta(hours=number + 1))
            job = {"job": f"j{number}", "kind": "message-send", "app": app, "sender": sender}
            await put_rows(database, JobRow, {**job, **moments, "state": "done"})
            got = {"job": job["job"], "user": "u3", "outcome": "accepted"}
            await put_rows(database, RecipientRow, {**got, "at": moments["ended_at"]})
        people = [{"app": "hr", "userid": f"p{number}", "name": "王方"} for number in range(4)]
        await put_rows(database, UserRow, *people)
        return campaign

    campaign = doors.put(fill)
    found = doors.ask("people?q=%E7%8E%8B&limit=2").json
    assert found["matches"] == 5
    assert [each["name"] for each in found["people"]] == ["王方", "王方"]
    assert doors.cli.json("person", "find", "王", "--limit", "2") == found
    own = doors.ask("people?q=%E7%8E%8B", "hr people").json
    assert (own["matches"], {each["app"] for each in own["people"]}) == (4, {"hr"})
    assert doors.ask("people?q=").status == 422

    shown = doors.ask("people/u3").json
    assert [each["job"] or each["campaign"] for each in shown["messages"]] == [
        *("j2", "j1", "j0"),
        campaign,
    ]
    assert shown["messages"][-1]["outcome"] == "failed"
    assert [each["name"] for each in shown["known_as"]] == ["王芳"]
    assert {**doors.cli.json("person", "show", "u3"), "next": None} == shown
    for key, some in (("all", shown["messages"]), ("hr", shown["messages"][2:3])):
        pages, cursor = list[Any](), ""
        while cursor is not None:
            page = doors.ask(f"people/u3?limit=1{cursor and f'&cursor={cursor}'}", key).json
            pages += page["messages"]
            cursor = page["next"]
        assert pages == some
    for cursor in ("x", paging.encode("0001-01-01T00:00:00+14:00", "j"), paging.encode(NOW, "\0")):
        assert doors.ask(f"people/u3?cursor={cursor}").status == 422
    own = doors.ask("people/u3", "hr").json
    assert ([each["job"] for each in own["messages"]], own["known_as"]) == (["j0"], [])
