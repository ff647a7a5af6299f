"""The history: written at least once from the ends of jobs, and read with every filter."""

import asyncio
import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.exc import OperationalError

from dingrelay_producers import Client, State
from dingrelay_producers.actor import ACTOR, Actor, Door
from dingrelay_producers.client import job_list
from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import JobList
from dingrelay_producers.errors import InvalidArgument, JobNotFound, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import draft as draft_of
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_message import RobotMessage
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState, OutcomeRow
from dingrelay_workers.campaigns.report import TEST_KEY
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.history import service, writer
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.history.writer import Writer
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.roles.scopes import RolesReach
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.store.wakeup import LONGEST_ID, ReceivedWakeup
from support import campaigns
from support.command_line import Cli
from support.databases import on_sqlite
from support.jobs import a_draft, claimed, enqueue, queued
from support.rows import all_of, change, count, put

TEXT = {"msgtype": "text", "text": {"content": "hi"}}
ERROR = {"class": "permission", "code": "60011", "message": "no", "hint": ""}


class Archive:
    """A writer, and jobs that end."""

    def __init__(self, redis: Redis, settings: Settings, database: Database) -> None:
        self.redis = redis
        self.settings = settings
        self.database = database
        self.records = Records(redis, settings)

    def writer(self, **settings: Any) -> Writer:
        chosen = self.settings.model_copy(update=settings) if settings else self.settings
        return Writer(self.redis, self.database, chosen)

    async def write(self, **settings: Any) -> None:
        """Until there is nothing more to write."""
        made = self.writer(**settings)
        while await made.tick() is not None:
            pass

    async def end(
        self, state: State = State.DONE, *, steps: Any = None, error: Any = None, **fields: Any
    ) -> str:
        draft = await queued(self.redis, **fields)
        for step, outcome in (steps or {}).items():
            await self.redis.hset(keys.job(draft.id), f"step:{step}", json.dumps(outcome))
        claim = await claimed(self.records, draft)
        assert await self.records.settle(claim, state, usage=Usage(attempts=1), error=error)
        ended = await self._milliseconds()
        while await self._milliseconds() == ended:
            """Jobs of one millisecond have no order that a test could know."""
        return draft.id

    async def end_malformed(self, name: str, job: Any, *, code: str = "to") -> None:
        """A job of a bare Celery client that is none."""
        request = {"id": name, "args": [], "kwargs": {"job": job}}
        wakeup = ReceivedWakeup.from_request(KINDS["message-send"], request)
        claim = (await self.records.claim(wakeup))[1]
        assert claim is not None
        error = {**ERROR, "class": "contract", "code": code}
        assert await self.records.settle(claim, State.DEAD, usage=Usage(), error=error)

    async def _milliseconds(self) -> int:
        seconds, micros = await self.redis.time()
        return seconds * 1000 + micros // 1000

    async def rows(self) -> dict[str, Any]:
        return {row["job"]: row for row in await all_of(self.database, JobRow)}

    async def recipients(self, job: str) -> dict[str, str]:
        rows = await all_of(self.database, RecipientRow, RecipientRow.job == job)
        return {row["user"]: row["outcome"] for row in rows}

    async def ask(self, question: Callable[[Client], Any]) -> Any:
        """A client's answer."""

        def answer() -> Any:
            with Client(self.settings) as client:
                return question(client)

        return await asyncio.to_thread(answer)

    async def listed(self, **chosen: Any) -> list[str]:
        return await self.ask(lambda client: [each.id for each in client.jobs(**chosen)])


@pytest.fixture
def archive(redis: Redis, valkey_url: str, database_url: str, database: Database) -> Archive:
    on = {"redis_url": valkey_url, "database_url": database_url}
    return Archive(redis, Settings.load(env="test", history={"days": 90}, **on), database)


def call(number: int, **left_out: list[str]) -> dict[str, Any]:
    """The remembered outcome of a call."""
    outcome = {"task_id": number, "request_id": f"r{number}", "recipients": 1, "at": ""}
    lists = ("duplicate", "daily_cap", "perhaps_duplicate", "duplicate_departments")
    return {**outcome, **{name: left_out.get(name, []) for name in lists}}


async def test_an_end_is_written_with_what_came_of_each_person(archive: Archive) -> None:
    delivery = {"invalid": ["u3"], "forbidden": []}
    steps = {"call:1": call(7, duplicate=["u2"]), "delivery:7": delivery}
    asked = {"to": {"users": ["u1", "u2", "u3"]}, "sender": "crm", "idempotency_key": "k"}
    job = await archive.end(steps=steps, **asked)
    await archive.write()
    (row,) = (await archive.rows()).values()
    assert (row["job"], row["kind"], row["app"]) == (job, "message-send", "default")
    assert (row["sender"], row["key"], row["lane"], row["state"]) == ("crm", "k", "normal", "done")
    assert (row["attempts"], row["error_code"], row["content"]) == (1, "", None)
    assert row["created_at"] <= row["started_at"] <= row["ended_at"]
    assert "你好" not in str(row)
    expected = {"u1": "accepted", "u2": "duplicate", "u3": "invalid"}
    assert await archive.recipients(job) == expected


@pytest.mark.parametrize(
    ("state", "outcome"), [(State.DEAD, "not_sent"), (State.UNKNOWN, "unknown")]
)
async def test_outcomes_without_an_answer(archive: Archive, state: State, outcome: str) -> None:
    users = [f"u{number}" for number in range(150)]
    job = await archive.end(state, steps={"call:1": call(1)}, error=ERROR, to={"users": users})
    await archive.write()
    row = (await archive.rows())[job]
    assert (row["error_class"], row["error_code"]) == ("permission", "60011")
    outcomes = await archive.recipients(job)
    assert [outcomes[user] for user in users] == ["accepted"] * 100 + [outcome] * 50


async def test_texts_are_kept_only_where_that_is_asked_for(archive: Archive) -> None:
    job = await archive.end()
    content = archive.settings.history.model_copy(update={"content": True})
    await archive.write(history=content)
    assert "你好" in (await archive.rows())[job]["content"]


async def test_a_job_is_kept_as_of_its_latest_end(archive: Archive, redis: Redis) -> None:
    job = await archive.end(State.DEAD, idempotency_key="k")
    page = await archive.writer()._endings.read(10)
    await archive.ask(lambda client: client.requeue(job))
    draft = a_draft(idempotency_key="k")
    again = await claimed(archive.records, draft)
    assert await archive.records.settle(again, State.DONE, usage=Usage(attempts=1))
    await archive.write()
    assert (await archive.rows())[job]["state"] == "done"
    # A worker that stood still since before then writes what it had read.
    late = archive.writer()
    await late._write(page.endings)
    assert (await archive.rows())[job]["state"] == "done"


async def test_crashes_lose_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AT_ONCE", 2)
    jobs = {await archive.end() for _ in range(5)}
    first = archive.writer()
    monkeypatch.setattr(first._endings, "pass_", _crash)
    with pytest.raises(ConnectionError):  # after the commit
        await first.tick()
    second = archive.writer()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "upsert", _away)
        with pytest.raises(OperationalError):  # before it
            await second.tick()
    await archive.write()
    assert set(await archive.rows()) == jobs


async def test_unwanted_ends_are_not_written(archive: Archive, redis: Redis) -> None:
    ended = {"id": "x", "kind": "event", "app": "default", "state": "done", "at": 1}
    await redis.xadd(keys.ENDINGS, ended)
    await redis.pexpire(keys.ENDINGS, 60_000)
    await archive.write()
    assert await archive.rows() == {}
    assert (await archive.writer()._endings.read(10)).endings == []


async def test_an_unreadable_record_blocks_no_other(archive: Archive, redis: Redis) -> None:
    gone, broken, good = [await archive.end(idempotency_key=name) for name in "abc"]
    await redis.delete(keys.job(gone))
    garbage = {"payload": b"\xff{", "created": "soon", "step:call:1": "[]", "summary": b"a\0b"}
    await redis.hset(keys.job(broken), mapping=garbage)
    await archive.write()
    rows = await archive.rows()
    assert rows.keys() == {gone, broken, good}
    assert rows[broken]["summary"] == "ab"


async def test_malformed_jobs_are_kept(archive: Archive) -> None:
    """Any Celery client can send one, and choose its id."""
    malformed: dict[str, dict[str, Any]] = {
        "x" * LONGEST_ID: {},
        "half": {"idempotency_key": "\ud800"},
        "halves": {"to": {"users": ["\ud800", "u1"]}},
        "numbers": {"to": {"users": [1, None, "u1"]}},
    }
    for name, job in malformed.items():
        asked = {"to": {"users": ["u1"]}, "message": TEXT, **job}
        await archive.end_malformed(name, asked, code="\ud800")
    good = await archive.end()
    await archive.write()
    rows = await archive.rows()
    assert rows.keys() == {*malformed, good}
    for name in malformed:
        assert rows[name]["error_class"] == "contract"
        assert await archive.recipients(name) == {"u1": "not_sent"}, name


@on_sqlite
async def test_malformed_jobs_are_in_the_way_of_no_list(archive: Archive) -> None:
    for number, job in enumerate([{"to": "u1"}, {"to": {"users": 1}}, {}, ["u1"], "u1"]):
        await archive.end_malformed(f"malformed {number}", job)
    good = await archive.end()
    assert await archive.listed(to="u1") == [good]


async def test_old_history_is_deleted(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SLICE", 2)
    for _ in range(5):
        await archive.end()
    await archive.write()
    young = await archive.end(idempotency_key="young")
    await change(archive.database, JobRow, ended_at=datetime.now(UTC) - timedelta(minutes=1))
    await archive.write()
    parts: Any = SimpleNamespace(database=lambda: archive.database, settings=archive.settings)
    later = datetime.now(UTC) + timedelta(days=90, seconds=-30)
    await writer.clean_up(CleanUp(parts, lambda: later))
    assert list(await archive.rows()) == [young]
    assert await count(archive.database, RecipientRow) == 1


async def test_lists_join_redis_and_history(archive: Archive, redis: Redis) -> None:
    old = [
        await archive.end(sender="crm", to={"users": ["u7"]}),
        await archive.end(State.DEAD, lane="bulk"),
    ]
    await archive.write()
    for job in old:
        await redis.delete(keys.job(job))
    # One left the index, of the other only the record is gone.
    await redis.zrem(keys.RECENT, old[0])
    new = [await archive.end(sender="crm"), await archive.end()]
    waiting = await queued(redis, to={"users": ["u7", "u8"]}, app="hr")
    everything = [waiting.id, new[1], new[0], old[1], old[0]]
    listed = archive.listed
    assert await listed() == everything
    assert await listed(limit=4) == everything[:4]
    assert await listed(history=False) == everything[:3]
    assert await listed(sender="crm") == [new[0], old[0]]
    assert await listed(state="dead") == [old[1]]
    assert await listed(lane="bulk") == [old[1]]
    assert await listed(app="hr") == [waiting.id]
    assert await listed(kind="user-sync") == []
    assert await listed(to="u7") == [waiting.id, old[0]]
    assert await listed(text="你好") == everything[:3]
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert (await listed(since=soon), await listed(until=soon)) == ([], everything)
    with pytest.raises(InvalidArgument, match="since"):
        await listed(since="yesterday")
    with pytest.raises(InvalidArgument, match="colour"):
        await listed(colour="red")


async def test_one_person_is_found_in_messages_campaigns_and_the_directory(
    archive: Archive, cli: Cli
) -> None:
    database = archive.database
    spring, autumn, _ = [
        await campaigns.put(database, name=name, people=250, size=100, state=state)
        for name, state in (("spring", "done"), ("autumn", "running"), ("a draft", "draft"))
    ]
    called = {"state": ChunkState.SETTLED, "called_at": datetime.now(UTC), "accepted": 100}
    await change(database, ChunkRow, ChunkRow.campaign == spring, **called)
    refused = {"outcome": "forbidden", "reason": "143105 no"}
    await put(database, OutcomeRow, {"campaign": spring, "userid": "u123", "chunk": 1, **refused})
    await put(database, DepartmentRow, {"id": 5, "name": "研发"})
    await put(database, UserRow, {"userid": "u123", "name": "张三"})
    await put(database, MembershipRow, {"department": 5, "userid": "u123"})
    job = await archive.end(steps={"call:1": call(1, duplicate=["u123"])}, to={"users": ["u123"]})
    key = f"{TEST_KEY}{autumn} 1"
    test = await archive.end(to={"users": ["u123"]}, idempotency_key=key)
    await archive.write()

    cli.variables["DINGRELAY_DATABASE_URL"] = archive.settings.database
    found = await asyncio.to_thread(cli.json, "person", "show", "u123")
    outcomes = {each["job"] or each["campaign"]: each["outcome"] for each in found["messages"]}
    one_by_one = {job: "duplicate", test: "not_sent"}
    assert outcomes == {**one_by_one, spring: "forbidden", autumn: "pending"}
    campaign_of = {each["job"]: (each["campaign"], each["name"]) for each in found["messages"]}
    assert (campaign_of[test], campaign_of[job][0]) == ((autumn, "autumn"), "")
    reasons = {each["campaign"]: each["reason"] for each in found["messages"]}
    assert reasons[spring] == "143105 no"
    (known,) = found["known_as"]
    assert (known["name"], known["departments"], known["left_at"]) == ("张三", ["研发"], None)
    shown = await asyncio.to_thread(cli, "person", "show", "u123")
    for text in ("张三", "研发", job, "forbidden", "143105 no", "autumn"):
        assert text in shown.stdout
    # What a name may be is looked up as one.
    for user, code in (("👩\u200d👩\u200d👧", 2), ('q"q', 0), ("a b", 2)):
        assert (await asyncio.to_thread(cli, "person", "show", "--json", user)).exit_code == code
    unknown = await asyncio.to_thread(cli, "person", "show", "x1", "--app", "default")
    assert unknown.stdout == "not in the directory\n"
    assert unknown.stderr == "nothing was sent to this person\n"
    listed = await asyncio.to_thread(cli.json, "job", "list", "--to", "u123", "--since", "1h")
    assert [each["id"] for each in listed] == [test, job]
    wrong = await asyncio.to_thread(cli, "job", "list", "--since", "soon")
    assert wrong.exit_code == 2


@on_sqlite
async def test_looking_creates_no_database(
    archive: Archive, cli: Cli, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(folder)
    url = f"sqlite:///{folder}/none.db"
    settings = Settings.load(env="test", redis_url=archive.settings.redis, database_url=url)
    with Client(settings) as client:
        assert await asyncio.to_thread(client.jobs) == []
        for question in (client.person, client.export_person, client.erase_person):
            with pytest.raises(ServiceUnavailable, match=f"there is no database at {folder}/none"):
                await asyncio.to_thread(question, "u1")
        with pytest.raises(ServiceUnavailable, match="there is no database"):
            await asyncio.to_thread(client.approvals)
    for command in (("person", "show", "u1"), ("person", "find", "u1")):
        result = await asyncio.to_thread(cli, *command, DINGRELAY_DATABASE_URL=url)
        assert result.exit_code == 3
        assert "there is no database at" in result.stderr
    assert list(folder.iterdir()) == []


async def _crash(page: object, *, awaited: object) -> bool:
    raise ConnectionError


async def _away(*_: object, **__: object) -> None:
    raise OperationalError("insert", {}, Exception("away"))


async def test_a_robot_message_that_was_requeued_is_not_shown_as_it_had_ended(
    archive: Archive,
) -> None:
    """Its readers are in the history only, which has the new life some seconds later."""
    draft = draft_of(RobotMessage.parse({"to": {"group": "oncall"}, "message": TEXT}))
    await enqueue(archive.redis, draft)
    row = {"job": draft.id, "kind": "robot-message", "app": "robots", "state": "dead"}
    await put(archive.database, JobRow, {**row, "created_at": NOW})
    details = await archive.ask(lambda client: client.details(draft.id))
    assert details.status.state == State.QUEUED
    await archive.redis.hset(keys.job(draft.id), "state", "dead")
    await put(archive.database, RecipientRow, {"job": draft.id, "user": "u1", "outcome": "read"})
    details = await archive.ask(lambda client: client.details(draft.id))
    assert details.recipients == {"u1": "read"}


async def test_a_job_is_found_by_how_its_id_begins(archive: Archive) -> None:
    asked = {"sender": "crm", "idempotency_key": "order-7", "to": {"users": ["u1", "u2"]}}
    kept = await archive.end(steps={"call:1": call(7, duplicate=["u2"])}, **asked)
    await archive.write()
    waiting = await queued(archive.redis, to={"users": ["u3"]}, message=TEXT)

    async def look(*words: str) -> tuple[str, Any]:
        job = await archive.ask(lambda client: client.whole_id(*words))
        return job, await archive.ask(lambda client: client.details(job))

    for beginning in (kept[:8], f"{kept[:13]}…", f"{kept[:5]}...", kept):
        job, details = await look(beginning)
        assert job == kept
        assert (details.status.sender, details.key) == ("crm", "order-7")
        assert details.recipients == {"u1": "accepted", "u2": "duplicate"}
    _, details = await look(waiting.id[:8])
    assert details.recipients == {"u3": "waiting"}
    # Once Redis has forgotten it, the history has it.
    await archive.redis.delete(keys.job(kept))
    await archive.redis.zrem(keys.RECENT, kept)
    job, details = await look(kept[:8])
    assert (job, details.status.state, details.key) == (kept, State.DONE, "order-7")
    assert details.recipients == {"u1": "accepted", "u2": "duplicate"}
    for unknown in ("0000", kept[:3], "*", "zz-9"):
        with pytest.raises(JobNotFound):
            await look(unknown)


async def test_an_id_that_begins_as_another_is_not_guessed(redis: Redis, cli: Cli) -> None:
    both = ["7f3a0000-0000-4000-8000-000000000001", "7f3a0000-0000-4000-8000-000000000002"]
    for job in both:
        await enqueue(redis, a_draft(message=TEXT)._replace(id=job))
    refused = await asyncio.to_thread(cli, "job", "show", "7f3a")
    assert refused.exit_code == 2
    assert all(job in refused.stderr for job in both)
    shown = await asyncio.to_thread(cli, "job", "show", both[1][:-1] + "2")
    assert both[1] in shown.stdout
    cancelled = await asyncio.to_thread(cli, "job", "cancel", both[0])
    assert cancelled.exit_code == 0


NOW = datetime(2026, 11, 28, tzinfo=UTC)


def ended_row(number: int) -> writer.EndedJob:
    """A job a minute, of which some failed, for two people each."""
    failed = number % 9 == 0
    accepted = NOW + timedelta(minutes=number)
    row: dict[str, Any] = {
        "job": f"{number:08x}",
        "kind": "robot-message" if number % 4 == 0 else "message-send",
        "app": f"app{number % 3}",
        "sender": "crm" if number % 5 else "hr",
        "lane": "urgent" if number % 7 == 0 else "normal",
        "state": State.DEAD if failed else State.DONE,
        "error_code": str(number % 2) if failed else "",
        "error_class": "permission" if failed else "",
        "created_at": accepted,
        "started_at": accepted,
        "ended_at": accepted + timedelta(days=1),
        "content": json.dumps({"number": number % 10}),
        "ids": [],
        **dict.fromkeys(("attempts", "throttles"), 1),
        **dict.fromkeys(("key", "summary"), ""),
    }
    return row, dict.fromkeys(("all", f"u{number % 8}"), "accepted")


FILTERS: list[tuple[dict[str, Any], Callable[[int], object]]] = [
    ({}, lambda _: True),
    ({"app": "app1"}, lambda n: n % 3 == 1),
    ({"lane": "urgent"}, lambda n: n % 7 == 0),
    ({"state": State.DONE}, lambda n: n % 9),
    ({"state": State.DEAD, "sender": "hr"}, lambda n: n % 45 == 0),
    ({"code": "1"}, lambda n: n % 18 == 9),
    ({"code": "1", "app": "app1"}, lambda _: False),
    ({"kind": "robot-message", "sender": "hr", "lane": "urgent"}, lambda n: n % 140 == 0),
    ({"to": "u3", "app": "app1"}, lambda n: n % 24 == 19),
    ({"to": "all", "state": State.DEAD}, lambda n: n % 9 == 0),
    ({"text": '"number": 7', "app": "app2"}, lambda n: n % 30 == 17),
    (
        {"since": NOW + timedelta(minutes=20), "until": NOW + timedelta(minutes=50)},
        lambda n: 20 <= n < 50,
    ),
    (
        {"sender": "hr", "app": "app0", "until": NOW + timedelta(minutes=99)},
        lambda n: n % 15 == 0 and n < 99,
    ),
]
"""And which of the jobs by their numbers fit."""


async def test_a_page_looks_at_few_jobs_and_the_list_finds_all(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_LOOKED_AT", 20)
    await writer.write(archive.database, [ended_row(number) for number in range(150)])
    reader = HistoryService(archive.settings, archive.database)
    some: dict[str, set[str]] = {"app": {"app0", "app1"}}
    for (chosen, fits), seen in itertools.product(FILTERS, ({}, some)):
        found: list[int] = []
        pages, before = 0, None
        while pages == 0 or before is not None:
            jobs, before = await reader.list(JobFilter(**chosen), seen, before=before, limit=8)
            assert len(jobs) <= 8
            found += [int(job.id, 16) for job in jobs]
            pages += 1
        seen_too = [number for number in range(150) if not seen or number % 3 < 2]
        assert found == [number for number in reversed(seen_too) if fits(number)], chosen
        assert pages <= 150 / 8 + 150 / 20 + 1, chosen


async def test_pages_go_on_in_the_history_where_redis_ends(
    archive: Archive, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = (State.DONE, State.DEAD)
    jobs = [await archive.end(ends[n % 2], error=ERROR, sender=f"s{n}") for n in range(9)][::-1]
    await archive.write()
    await redis.zremrangebyrank(keys.RECENT, 0, -5)  # of the nine it knows four,
    await redis.delete(keys.job(jobs[2]))  # and of these not one record
    reader = HistoryService(archive.settings, archive.database)
    seen = {"sender": {f"s{number}" for number in range(9)}}

    def listing() -> JobList:
        return JobList(lambda ask: ask(redis), reader, timeout=5, seen=seen)

    def flat(found: list[list[str]]) -> list[str]:
        return [job for page in found for job in page]

    async def pages(limit: int, chosen: JobFilter) -> list[list[str]]:
        found: list[list[str]] = []
        after = None
        while True:
            page, after = await listing().page(chosen, limit, after)
            found.append([job.id for job in page])
            if after is None:
                return found

    assert await pages(3, JobFilter()) == [jobs[:3], jobs[3:6], jobs[6:], []]
    monkeypatch.setattr(job_list, "CHUNK", 2)
    assert flat(await pages(4, JobFilter())) == jobs
    dead = [job for number, job in enumerate(reversed(jobs)) if number % 2][::-1]
    assert flat(await pages(3, JobFilter(state=State.DEAD))) == dead
    seen["sender"] -= {"s8", "s1"}
    visible = [job for job in jobs if job not in {jobs[0], jobs[7]}]
    assert flat(await pages(3, JobFilter())) == visible

    async def away(*_: Any, **__: Any) -> Any:
        raise ServiceUnavailable("the database is away")

    seen.clear()
    monkeypatch.setattr(reader, "list", away)
    monkeypatch.setattr(reader, "find", away)
    found, after = await listing().page(JobFilter(), 50, None)
    assert [job.id for job in found] == [jobs[0], jobs[1], jobs[3]]
    assert after is not None
    with pytest.raises(ServiceUnavailable):
        await listing().page(JobFilter(), 50, after)


@pytest.mark.parametrize(
    ("scopes", "theirs", "is_known"),
    [
        ({"jobs:read"}, [3, 2], False),
        ({"jobs:read", "directory:read"}, [3, 2], True),
        ({"directory:read"}, [], True),
    ],
)
@pytest.mark.parametrize("door", ["http", "console"])
async def test_every_door_shows_of_a_person_what_the_actor_sees(
    archive: Archive, door: Door, scopes: set[str], theirs: list[int], is_known: bool
) -> None:
    await put(archive.database, UserRow, {"app": "hr", "userid": "u1", "name": "An"})
    apps = ["hr", "it", "hr", "hr", "it", "it"]
    jobs = [await archive.end(app=app, sender="crm", to={"users": ["u1"]}) for app in apps]
    await archive.write()
    grant = Grant(name="it", scopes=frozenset(scopes), apps=frozenset({"hr"}))
    if door == "http":  # whose key has a sender, which the directory does not
        grant = grant.model_copy(update={"sender": "crm"})
    reach = grant if door == "http" else RolesReach([grant])
    ACTOR.set(Actor(door, "someone", reach=reach))
    reader = HistoryService(archive.settings, archive.database)
    shown, behind = await reader.person("u1", app=None, limit=2)
    assert [message.job for message in shown.messages] == [jobs[number] for number in theirs]
    assert [person.name for person in shown.known_as] == ["An"] * is_known
    assert (behind is not None) == bool(theirs)
    if is_known:
        assert (await reader.search("An", app=None, limit=9)).matches == 1
        assert (await reader.search("An", app="it", limit=9)).matches == 0


async def test_a_person_has_as_many_messages_in_short_pages(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_MESSAGES", 3)
    start, day = datetime(2026, 12, 1, tzinfo=UTC), timedelta(days=1)
    jobs = [await archive.end(app="hr", to={"users": ["u1"]}) for _ in range(3)]
    await archive.write()
    for number, job in enumerate(jobs):
        at = start + number * 4 * day
        await change(archive.database, RecipientRow, RecipientRow.job == job, at=at)
    # Some were written early and sent late, and some of those at one moment.
    days = [(0, 10), (1, 1), (2, 2), (2, 7), (2, 7), (2, 7), (3, None), (6, 6)]
    for written, called in days:
        fields: dict[str, Any] = {"people": 1, "created_at": start + written * day}
        campaign = await campaigns.put(archive.database, app="hr", **fields)
        at = None if called is None else start + called * day
        await change(archive.database, ChunkRow, ChunkRow.campaign == campaign, called_at=at)
    reader = HistoryService(archive.settings, archive.database)

    async def walk(limit: int) -> list[str]:
        found: list[str] = []
        shown, behind = await reader.person("u1", app=None, limit=limit)
        found += [message.job or message.campaign for message in shown.messages]
        while behind is not None:
            shown, behind = await reader.person("u1", app=None, limit=limit, before=behind)
            found += [message.job or message.campaign for message in shown.messages]
        return found

    whole = await walk(50)
    assert len(whole) == len(jobs) + len(days)
    for limit in (1, 2, 4):
        assert await walk(limit) == whole
    scopes = frozenset({"jobs:read", "campaigns:read"})
    grant = Grant(name="hr", scopes=scopes, apps=frozenset({"hr"}))
    ACTOR.set(Actor("console", "someone", reach=RolesReach([grant])))
    assert await walk(1) == whole


async def test_a_role_for_a_lane_shows_messages_of_that_lane(archive: Archive) -> None:
    lanes = ("urgent", "bulk", "normal")
    jobs = [await archive.end(lane=lane, to={"users": ["u1"]}) for lane in lanes]
    await archive.write()
    reader = HistoryService(archive.settings, archive.database)
    grant = Grant(name="it", scopes=frozenset({"jobs:read"}), lanes=frozenset({"urgent"}))
    for reach, theirs in ((RolesReach([grant]), jobs[:1]), (grant, jobs[::-1])):
        ACTOR.set(Actor("console", "someone", reach=reach))
        shown, _ = await reader.person("u1", app=None, limit=9)
        assert [message.job for message in shown.messages] == theirs


async def test_a_cursor_names_no_job_that_is_not_shown(
    archive: Archive, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "CHUNK", 2)
    monkeypatch.setattr(job_list, "MOST_LOOKED_AT", 3)
    monkeypatch.setattr(service, "MOST_LOOKED_AT", 3)
    senders = ["crm", *["hr"] * 4, "crm", "hr", "crm", *["hr"] * 7, "crm", "crm", *["hr"] * 3]
    jobs = [await archive.end(State.DONE, sender=sender) for sender in senders]
    await archive.write()
    # Some are of one moment, as jobs that are accepted together.
    for number, job in enumerate(jobs):
        at = 1_700_000_000_000 + number // 3
        await redis.zadd(keys.RECENT, {job: at})
        await redis.hset(keys.job(job), "created", at)
        created_at = datetime.fromtimestamp(at / 1000, UTC)
        await change(archive.database, JobRow, JobRow.job == job, created_at=created_at)
    await redis.zremrangebyrank(keys.RECENT, 0, 8)
    theirs = {job for job, sender in zip(jobs, senders, strict=True) if sender == "crm"}
    reader = HistoryService(archive.settings, archive.database)
    key = Grant(name="crm", scopes=frozenset({"jobs:read"}), sender="crm")
    ACTOR.set(Actor("http", "crm", reach=key))
    listing = JobList(lambda ask: ask(redis), reader, timeout=5)
    found: list[str] = []
    after = None
    while after is not None or not found:
        page, after = await listing.page(JobFilter(), 2, after)
        found += [job.id for job in page]
        assert after is None or after.job_id in {"", *theirs}
    assert sorted(found) == sorted(theirs)
