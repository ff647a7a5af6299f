"""Lanes that are paused, and senders in them: nothing of theirs begins, nothing is lost, and the rest goes on."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dingrelay_producers import Client
from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.lanes import LaneName
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys as redis_keys
from dingrelay_producers.store import record
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import WaitsFor
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.backlog.estimate import tally
from dingrelay_workers.backlog.personal_data import erase, export
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.subjects import DataSubject, Erasing, Stores
from support.command_line import Cli
from support.consoles import Browser
from support.databases import prepare, rows
from support.gateways import GatewayClient
from support.jobs import a_wakeup, claimed, enqueue, message, queued, running
from support.rows import put


@pytest.fixture
def grants() -> Sequence[Grant]:
    scopes = frozenset({"limits:read", "limits:write", "audit:read", "jobs:read"})
    return [
        Grant(name="all", scopes=scopes),
        Grant(name="hr", scopes=scopes, apps=frozenset({"hr"})),
        Grant(name="it", scopes=scopes, apps=frozenset({"it"})),
        Grant(name="payroll", scopes=scopes, apps=frozenset({"hr"}), sender="payroll"),
    ]


async def woken(schedule: Schedule) -> list[str]:
    """The jobs that the scheduler wakes by now, whose wake-ups are published."""
    batch = await schedule.take_due("w", lease=60, most=100)
    assert batch is not None
    await schedule.take_due("w", lease=60, most=0, published=batch.batch)
    return [wakeup.id for wakeup in batch.wakeups]


async def held_job(redis: AsyncRedis, records: Records, client: Client) -> record.Draft:
    """A job that is held, since its lane is paused."""
    await asyncio.to_thread(client.pause_lane, "default:normal")
    job = await queued(redis)
    assert await verdict(records, job) == "held"
    return job


async def verdict(records: Records, draft: record.Draft) -> str:
    return (await records.claim(a_wakeup(draft))).verdict


@pytest.mark.parametrize(
    ("name", "is_held"),
    [
        ("hr:bulk", True),
        ("hr:all", True),
        ("hr:bulk:payroll", True),
        ("hr:all:payroll", True),
        ("hr:normal", False),
        ("it:bulk", False),
        ("hr:all:shop", False),
        ("hr:bulk:pay", False),
    ],
)
async def test_a_job_of_a_paused_lane_does_not_begin(
    name: str, is_held: bool, redis: AsyncRedis, records: Records, client: Client
) -> None:
    await asyncio.to_thread(client.pause_lane, name)
    job = await queued(redis, app="hr", lane="bulk", sender="payroll")
    assert await verdict(records, job) == ("held" if is_held else "claimed")


def test_a_lane_of_an_app_that_no_worker_serves_is_not_paused(
    valkey_url: str, client: Client, gateway: GatewayClient, keys: dict[str, str]
) -> None:
    """A mistyped app would look as if nothing left."""
    with Redis.from_url(valkey_url) as redis:
        redis.hset(redis_keys.SERVED, mapping={"app:hr": 1, "app:it": 1})
        redis.pexpire(redis_keys.SERVED, redis_keys.SERVED_TTL_MS)
    with pytest.raises(ContractError, match=r"id: no worker serves hrr; did you mean hr\?"):
        client.pause_lane("hrr:bulk")
    refused = gateway.ask("POST", "/v1/lanes/hrr:bulk/pause", key=keys["all"])
    assert (refused.status, "no worker serves hrr" in refused.content.decode()) == (422, True)
    assert client.paused_lanes() == []
    for name in ("hr:bulk", "robots:normal"):
        client.pause_lane(name)


async def test_a_paused_job_says_so_and_begins_once_it_is_resumed(
    redis: AsyncRedis, records: Records, schedule: Schedule, client: Client
) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    pause = await asyncio.to_thread(client.pause_lane, "hr:bulk", until=until)
    assert (pause.id, pause.until, pause.sender) == ("hr:bulk", until, "")
    jobs = [await queued(redis, app="hr", lane="bulk", text=str(n)) for n in range(3)]
    other = await queued(redis, app="it", lane="bulk")
    for job in jobs:
        assert await verdict(records, job) == "held"
    assert await claimed(records, other)

    status = await asyncio.to_thread(client.status, jobs[0].id)
    assert (status.state, status.due_at) == ("snoozed", until)
    assert status.waits_for == WaitsFor(what="pause", name="hr:bulk")
    counted = {group.app: group for group in (await tally(redis)).groups}
    assert (counted["hr"].paused, counted["hr"].waiting, counted["hr"].calls) == (3, 3, 0)
    assert await woken(schedule) == []

    assert await asyncio.to_thread(client.resume_lane, "hr:bulk")
    assert sorted(await woken(schedule)) == sorted(job.id for job in jobs)
    for job in jobs:
        assert await claimed(records, job)
    assert not await asyncio.to_thread(client.resume_lane, "hr:bulk")
    assert not await redis.exists(redis_keys.HELD, redis_keys.held_jobs("hr:bulk"))


async def test_a_pause_ends_by_itself(
    redis: AsyncRedis, records: Records, schedule: Schedule, client: Client
) -> None:
    job = await held_job(redis, records, client)
    # Its time is over, and what it was written as is read by the server's clock.
    await redis.hset(redis_keys.PAUSES, "default:normal", "1000 900 u1")
    assert await woken(schedule) == [job.id]
    assert await asyncio.to_thread(client.paused_lanes) == []
    assert await claimed(records, job)


async def test_another_pause_holds_what_one_lets_go(
    redis: AsyncRedis, records: Records, schedule: Schedule, client: Client
) -> None:
    for name in ("default:normal", "default:all:payroll"):
        await asyncio.to_thread(client.pause_lane, name)
    job = await queued(redis, sender="payroll")
    assert await verdict(records, job) == "held"
    held_by = (await asyncio.to_thread(client.status, job.id)).waits_for
    assert held_by
    await asyncio.to_thread(client.resume_lane, held_by.name)
    assert await woken(schedule) == [job.id]
    assert await verdict(records, job) == "held"


async def test_what_has_begun_is_finished_and_what_expires_ends(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    begun, claim = await running(redis, records)
    await records.write_intent(claim, {"step": "call:1"}, Usage())
    usage = Usage(steps={"call:1": {"task": "1"}}, answered=True)
    await records.park(claim, State.RETRYING, delay=0, usage=usage)
    late = record.draft(
        message(text="b", expires_at=(datetime.now(UTC) + timedelta(minutes=5)).isoformat())
    )
    await enqueue(redis, late)
    await asyncio.to_thread(client.pause_lane, "default:normal")
    assert await claimed(records, begun)
    assert await verdict(records, late) == "held"
    due = (await asyncio.to_thread(client.status, late.id)).due_at
    assert due
    assert due < datetime.now(UTC) + timedelta(minutes=5, seconds=1)
    await redis.hset(redis_keys.job(late.id), mapping={"expires": 1000, "due": 1000})
    assert (await claimed(records, late)).expired


@pytest.mark.parametrize("refused", [False, True])
async def test_a_job_that_has_sent_nothing_has_not_begun(
    refused: bool, redis: AsyncRedis, records: Records, client: Client
) -> None:
    job, claim = await running(redis, records)
    usage = Usage(steps={"addresses": {"users": ["u1"]}}, answered=True)
    if refused:
        await records.write_intent(claim, {"step": "call:1"}, usage)
        usage = Usage(answered=True)
    await records.park(claim, State.RETRYING, delay=0, usage=usage)
    await asyncio.to_thread(client.pause_lane, "default:normal")
    assert await verdict(records, job) == "held"


async def test_a_job_of_a_lost_worker_is_held_with_its_lane(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    job, claim = await running(redis, records)
    await redis.hset(redis_keys.job(job.id), "lease", 1)
    await asyncio.to_thread(client.pause_lane, "default:normal")
    assert await verdict(records, job) == "held"
    assert await records.park(claim, State.RETRYING, delay=0, usage=Usage()) is None
    assert await redis.zscore(redis_keys.RUNNING, job.id) is None


async def test_a_call_takes_no_paused_job_along(
    redis: AsyncRedis, records: Records, schedule: Schedule, client: Client
) -> None:
    await asyncio.to_thread(client.pause_lane, "default:all:payroll")
    held = await queued(redis, sender="payroll", text="same")
    free = await queued(redis, sender="shop", text="same")
    waiting = record.batch_key(message(text="same"))
    assert await redis.zcard(waiting) == 2
    claims, _ = await records.claim_batch(waiting, nonce="n", room=100, lane="normal")
    assert [claim.id for claim in claims] == [free.id]
    assert (await asyncio.to_thread(client.status, held.id)).waits_for
    # Resumed, it can be taken along again.
    await asyncio.to_thread(client.resume_lane, "default:all:payroll")
    assert await woken(schedule) == [held.id]
    claims, _ = await records.claim_batch(waiting, nonce="m", room=100, lane="normal")
    assert [claim.id for claim in claims] == [held.id]


async def test_a_paused_job_can_be_cancelled_and_stays_so(
    redis: AsyncRedis, records: Records, schedule: Schedule, client: Client
) -> None:
    job = await held_job(redis, records, client)
    assert await asyncio.to_thread(client.cancel, job.id)
    await asyncio.to_thread(client.resume_lane, "default:normal")
    assert await woken(schedule) == []
    assert (await asyncio.to_thread(client.status, job.id)).state == "cancelled"


@pytest.mark.parametrize("name", ["hr", "hr:slow", "hr:bulk:", ":bulk", "hr:bulk:a:b", "hr :bulk"])
def test_what_is_no_lane_is_refused(name: str, client: Client) -> None:
    with pytest.raises(ContractError, match="id: must be APP:LANE or APP:LANE:SENDER"):
        client.pause_lane(name)


def test_a_pause_ends_within_a_week(client: Client) -> None:
    now = datetime.now(UTC)
    for until, problem in (
        (now - timedelta(minutes=1), "future"),
        (now + timedelta(days=8), "week"),
    ):
        with pytest.raises(ContractError, match=f"until: must be .*{problem}"):
            client.pause_lane("hr:bulk", until=until)
    assert client.paused_lanes() == []
    assert str(LaneName.parse("hr:all:payroll")) == "hr:all:payroll"


def test_a_pause_is_in_the_audit_with_app_and_lane(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, client: Client, store: Redis
) -> None:
    assert client.pause_lane("hr:bulk")
    answer = gateway.ask("POST", "/v1/lanes/hr:all:payroll/pause", {}, key=keys["hr"])
    assert (answer.status, answer.json["by"], answer.json["sender"]) == (200, "hr", "payroll")
    assert [pause.id for pause in client.paused_lanes()] == ["hr:all:payroll", "hr:bulk"]
    found = gateway.ask("GET", "/v1/queue", key=keys["hr"]).json["pauses"]
    assert [pause["id"] for pause in found] == ["hr:all:payroll", "hr:bulk"]
    assert gateway.ask("GET", "/v1/queue", key=keys["it"]).json["pauses"] == []
    assert client.resume_lane("hr:bulk")
    assert gateway.ask("POST", "/v1/lanes/hr:all:payroll/resume", key=keys["payroll"]).status == 204
    assert gateway.ask("POST", "/v1/lanes/hr:all:payroll/resume", key=keys["hr"]).status == 409
    found = rows(
        settings.database, "select door, action, object, app, lane from audit where kind = 'lane'"
    )
    assert [tuple(row.values()) for row in found] == [
        ("python", "pause", "hr:bulk", "hr", "bulk"),
        ("http", "pause", "hr:all:payroll", "hr", ""),
        ("python", "resume", "hr:bulk", "hr", "bulk"),
        ("http", "resume", "hr:all:payroll", "hr", ""),
        ("http", "resume", "hr:all:payroll", "hr", ""),
    ]
    assert store.ttl(redis_keys.PAUSES) != -1


def test_a_pause_has_a_reason(settings: Settings, client: Client, cli: Cli) -> None:
    prepare(settings.database)
    assert client.pause_lane("hr:bulk", reason="盘点").reason == "盘点"
    # Its end is changed, and nothing said of why.
    assert client.pause_lane("hr:bulk").reason == "盘点"
    assert cli("lane", "pause", "hr:normal", "--yes", "--reason", "a wrong text").exit_code == 0
    assert "a wrong text" in cli("lane", "list").output
    assert client.pause_lane("it:bulk").reason == ""
    reasons = {pause.id: pause.reason for pause in client.paused_lanes()}
    assert reasons == {"hr:bulk": "盘点", "hr:normal": "a wrong text", "it:bulk": ""}
    query = "select reason from audit where kind = 'lane' order by number"
    found = [row["reason"] for row in rows(settings.database, query)]
    assert found == ["盘点", "", "a wrong text", ""]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_key_pauses_what_is_all_its_own(
    verb: str, gateway: GatewayClient, keys: dict[str, str], client: Client
) -> None:
    client.pause_lane("hr:bulk")
    for key in ("it", "payroll"):
        assert gateway.ask("POST", f"/v1/lanes/hr:bulk/{verb}", key=keys[key]).status == 403
    assert len(client.paused_lanes()) == 1


async def test_producers_are_not_refused_and_a_bare_message_is_held(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    await asyncio.to_thread(client.pause_lane, "default:normal")
    job = await asyncio.to_thread(client.send, message())
    assert (await asyncio.to_thread(client.status, job.id)).state == "queued"
    bare = record.draft(message(text="bare"))
    assert (await records.claim(a_wakeup(bare, woken=0))).verdict == "held"
    assert await run_async(redis, record.read(bare.id))


async def test_a_person_leaves_the_pauses_that_they_began(
    redis: AsyncRedis, database: Database, client: Client
) -> None:
    for name, person in (("hr:bulk", "u1"), ("hr:normal", "u2")):
        token = ACTOR.set(Actor("console", person))
        await asyncio.to_thread(client.pause_lane, name, reason="why")
        ACTOR.reset(token)
    stores = Stores(database, redis)
    assert [row["id"] for row in await export(stores, DataSubject("u1"))] == ["hr:bulk"]
    moment = datetime.now(UTC) + timedelta(seconds=1)
    await erase(stores, Erasing("u1", since=moment, tombstone="gone", now=moment))
    pauses = await asyncio.to_thread(client.paused_lanes)
    by = {pause.id: (pause.by, pause.reason) for pause in pauses}
    assert by == {"hr:bulk": ("gone", "why"), "hr:normal": ("u2", "why")}


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    await browser.sign_in("ops", "operate")
    return browser


async def test_an_operator_pauses_and_resumes_in_the_console(
    browser: Browser, redis: AsyncRedis, records: Records, client: Client
) -> None:
    job = await queued(redis, app="hr", lane="bulk", sender="payroll")
    page = await browser.text("/")
    for path in ("/lanes/hr:bulk/pause", "/lanes/hr:all:payroll/pause"):
        assert f'href="{path}?from=%2F"' in page
    assert "/lanes/hr:all:payroll/pause" in await browser.text(f"/jobs/{job.id}")
    question = "/lanes/hr:all:payroll/pause"
    assert "sender payroll, hr" in await browser.text(question)
    stale = (await browser.forms(question))[question]
    assert await browser.submit(question, reason="a wrong text") == 303
    assert browser.location.startswith("/?")
    # A form from before the pause changes nothing: another person was faster.
    assert await browser.post(question, stale | {"until": "2100-01-01T00:00"}) == 409
    assert await verdict(records, job) == "held"
    for path in ("/", "/limits"):
        assert re.search("sender payroll, hr.*?>ops<", await browser.text(path), re.DOTALL)
    now = await browser.text("/")
    assert re.search("sender payroll, hr: paused by ops until tomorrow .*: a wrong text<", now)
    # What is paused is resumed, or ends at another time.
    assert now.count(f'href="{question}?from=%2F">Change the end') == now.count(
        "/lanes/hr:all:payroll/resume"
    )
    assert f'href="{question}?from=%2F">Pause' not in now
    page = await browser.text(f"/jobs/{job.id}")
    for paused_job in (page, await browser.text("/jobs?q=app:hr")):
        assert re.search("paused by ops until tomorrow .*: a wrong text<", paused_job)
    assert re.search("sender payroll, hr.*?>ops<", page, re.DOTALL)
    assert await browser.status("/lanes/hr:slow/pause") == 404

    async with browser.another("viewer", "view") as viewer:
        seen = await viewer.text("/limits")
        assert "sender payroll, hr" in seen
        assert "a wrong text" in seen
        assert "/resume" not in seen
        assert await viewer.status(question) == 403

    # One comes back to the page from which one came.
    from_limits = "/lanes/hr:all:payroll/resume?from=%2Flimits"
    assert await browser.submit("/limits", from_limits) == 303
    assert browser.location.startswith("/limits?")
    from_job = f"{question}?from=%2Fjobs%2F{job.id}"
    assert f'href="{from_job}"' in await browser.text(f"/jobs/{job.id}")
    assert await browser.submit(from_job) == 303
    assert browser.location.startswith(f"/jobs/{job.id}?")
    assert await browser.submit("/", "/lanes/hr:all:payroll/resume?from=%2F") == 303
    # No link leads elsewhere.
    elsewhere = f"{question}?from=%2F%2Fevil.example"
    assert await browser.submit(elsewhere, f"{question}?from=%2F") == 303
    assert browser.location.startswith("/?")
    assert await browser.submit("/", "/lanes/hr:all:payroll/resume?from=%2F") == 303
    assert await asyncio.to_thread(client.paused_lanes) == []


async def test_an_operator_of_another_app_sees_no_pause_and_resumes_none(
    browser: Browser, client: Client
) -> None:
    await asyncio.to_thread(client.pause_lane, "hr:bulk")
    token = (await browser.forms("/limits"))["/lanes/hr:bulk/resume?from=%2Flimits"]
    await put(browser.database, UserRow, {"userid": "u7", "name": "u7"})
    await browser.give("u7", "operate", apps=["it"])
    await browser.come_in("u7")
    assert "hr" not in re.findall(r"lanes/(\w+):", await browser.text("/limits"))
    assert await browser.post("/lanes/hr:bulk/resume", token) == 403
    assert len(await asyncio.to_thread(client.paused_lanes)) == 1


async def test_a_pause_ends_at_the_moment_that_is_chosen_in_the_readers_zone(
    browser: Browser, client: Client
) -> None:
    question = "/lanes/hr:bulk/pause"
    assert re.search('name="until" [^>]*type="datetime-local"', await browser.text(question))
    until = datetime.now(zone()).replace(second=0, microsecond=0) + timedelta(hours=3)
    chosen = until.replace(tzinfo=None).isoformat(timespec="minutes")
    assert await browser.submit(question, until=chosen) == 303
    (pause,) = await asyncio.to_thread(client.paused_lanes)
    assert pause.until == until


async def test_the_audit_says_which_pause_ended_by_itself(browser: Browser, client: Client) -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    begun, until = ended - timedelta(hours=1), {"until": ended.isoformat()}
    pause = {"kind": "lane", "action": "pause", "at": begun, "after": until, "door": "cli"}
    await put(
        browser.database,
        AuditRow,
        {**pause, "object": "hr:bulk"},
        {**pause, "object": "hr:normal"},
        {**pause, "object": "hr:normal", "action": "resume", "after": None},
        {**pause, "object": "hr:urgent", "after": None},  # for a day
    )
    table = await browser.text("/settings/audit?kind=lane")
    changes = [row for row in table.split("<tr>") if "lane " in row]
    said = {
        lane: ["ended by itself" in row for row in changes if f"lane {lane}" in row]
        for lane in ("bulk", "normal", "urgent")
    }
    assert said == {"bulk": [True], "normal": [False, False], "urgent": [False]}
    assert "until today" in table or "until yesterday" in table
    # The words are those of the buttons, and the noun is said once.
    browser.session.cookie_jar.update_cookies({"dingrelay_language": "zh"})
    chinese = re.sub("<[^>]+>", "", await browser.text("/settings/audit?kind=lane"))
    assert re.search(r"恢复\s*通道 normal, hr", chinese)
    assert "通道 通道" not in chinese


async def test_a_name_that_looks_like_a_moment_stands_in_the_audit_as_it_is(
    browser: Browser,
) -> None:
    campaign = {"kind": "campaign", "action": "write", "object": "c1", "door": "console"}
    names = ["2026-13-01T09:00 party", "2026-02-30T09:00"]
    # These are moments, though no zone may have them.
    titles = [*names, "0001-01-01T00:00Z", "9999-12-31T23:59Z"]
    changes = [{**campaign, "after": {"title": title}} for title in titles]
    await put(browser.database, AuditRow, *changes)
    page = await browser.text("/settings/audit?kind=campaign")
    assert [name for name in names if name in page] == names
