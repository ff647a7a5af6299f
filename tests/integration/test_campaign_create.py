"""Campaigns come into being as a whole or not at all, on each database."""

import asyncio
import io
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.campaign_documents import (
    Malformed,
    MalformedRecipients,
    Plan,
    SkippedRow,
)
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.organisation import Member
from dingrelay_workers.campaigns import lease, removal, sources
from dingrelay_workers.campaigns import store as stores
from dingrelay_workers.campaigns.audience import CreationProgress
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    MalformedRow,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from support import processes, rows
from support.campaigns import chunks, hide
from support.databases import on_sqlite, prepare
from support.directories import organise
from support.rows import all_of, count

Content = tuple[list[str], dict[str, Any] | None]


@pytest.fixture
def campaigns(database: Database) -> CampaignStore:
    return CampaignStore(database)


@pytest.fixture
async def organisation(database: Database) -> None:
    """boss in 1; ann and bob in 2, below it cho in 4; ann and dan in 3."""
    people = {1: ["boss"], 2: ["ann", "bob"], 3: ["ann", "dan"], 4: ["cho"]}
    members = {number: [member(userid) for userid in users] for number, users in people.items()}
    await organise(database, members, {1: [2, 3], 2: [4]})


def member(userid: str) -> Member:
    title = {} if userid == "dan" else {"title": "chief" if userid == "boss" else "clerk"}
    return Member(userid, {"name": userid.title(), "admin": True, **title})


def plan(content: str = "hello", **fields: Any) -> Plan:
    message = {"msgtype": "text", "text": {"content": content}}
    return cast("Plan", {"name": "party", "message": message, **fields})


def file(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


class Followed(CreationProgress):
    """The progress reports of a creation."""

    def __init__(self) -> None:
        self.rows: list[Malformed] = []
        self.people: list[tuple[int, int]] = []

    def malformed(self, row: Malformed) -> None:
        self.rows.append(row)

    def written(self, people: int, total: int) -> None:
        self.people.append((people, total))


async def contents(store: CampaignStore, campaign: str) -> list[Content]:
    rows = await chunks(store.database, campaign)
    return [(chunk.users.split(","), chunk.message) for chunk in rows]


async def people(store: CampaignStore, **audience: Any) -> list[str]:
    created = await store.create(plan(**audience))
    found = await contents(store, created.id)
    return [userid for users, _ in found for userid in users]


async def rows_in_all(store: CampaignStore) -> list[int]:
    return [await count(store.database, table) for table in (CampaignRow, ChunkRow, OutcomeRow)]


async def test_a_campaign_has_a_digest_of_its_people_and_of_what_each_gets(
    campaigns: CampaignStore,
) -> None:
    async def digest(content: str, table: str) -> str:
        created = await campaigns.create(plan(content, recipients=file(f"userid,name\n{table}")))
        return (await campaigns.get(created.id)).people_digest

    first = await digest("hello", "u1,Ann\nu2,Bob\n")
    assert first == await digest("hello", "u1,Ann\nu2,Bob\n")
    others = [
        await digest("hello", "u1,Ann\nu3,Bob\n"),
        await digest("hello {name}", "u1,Ann\nu2,Bob\n"),
        await digest("hello {name}", "u1,Ann\nu2,Tom\n"),
    ]
    assert len({first, *others}) == 4


class Pipe(io.BytesIO):
    """A stream that hands out less than it is asked for, and is read once."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1_000))

    def seekable(self) -> bool:
        return False


async def test_a_pipe_is_read_to_its_end(
    campaigns: CampaignStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{number}" for number in range(1_000)]
    for largest in (sources.LARGEST_FILE, 3_000):
        monkeypatch.setattr(sources, "LARGEST_FILE", largest)
        recipients = Pipe("\n".join(["userid", *users]).encode())
        assert await people(campaigns, recipients=recipients) == users


async def test_malformed_rows_are_people_of_the_report(campaigns: CampaignStore) -> None:
    """They are named with what was written for as long as the campaign is there."""
    lines = ["userid,name", "u1,Ann", *(f",left {number}" for number in range(60)), "u 2,Bob"]
    asked = plan("hello {name}", recipients=file("\n".join(lines)), pasted="zhou,wu")
    created = await campaigns.create({**asked, "malformed": "skip"})
    await rows.change(campaigns.database, CampaignRow, state=State.DONE, named=None)
    report = Report(campaigns.database)
    outcomes = (await report.summary(created.id)).outcomes
    assert (outcomes["malformed"], outcomes["unmatched"]) == (61, 2)
    assert (created.malformed, created.unmatched) == (61, 2)
    [[only], named] = [page async for page in report.results(created.id)]
    assert (only.userid, only.outcome) == ("u1", "pending")
    assert [each.outcome for each in named] == ["malformed"] * 61 + ["unmatched"] * 2
    assert [each.name for each in named[:2]] == ["left 0", "left 1"]
    assert [(each.name, each.reason) for each in named[60:]] == [
        ("u 2", "line 63: userid: holds a comma, a blank or a control character"),
        (
            "zhou",
            "line 1 of the pasted text: zhou is not in the directory: no value for {name}",
        ),
        ("wu", "line 1 of the pasted text: wu is not in the directory: no value for {name}"),
    ]
    for outcome, part in (("malformed", named[:61]), ("unmatched", named[61:])):
        assert [page async for page in report.results(created.id, outcome)] == [part]
    place, people = None, list[Result]()
    while place is not None or not people:
        page, place = await report.people(created.id, behind=place, limit=25)
        people += page
    assert people == [only, *named]
    await hide(campaigns.database, created.id)
    await removal.remove(campaigns.database, created.id)
    assert await count(campaigns.database, MalformedRow) == 0


async def test_a_draft_has_everybody_once_in_chunks_of_a_hundred(campaigns: CampaignStore) -> None:
    userids = [f"u{number}" for number in range(250)]
    table = "userid,name\n" + "".join(f"{userid},x\n" for userid in [*userids, "u3", "u249"])
    progress = Followed()
    start_at = "2026-12-01T09:00:00+08:00"
    created = await campaigns.create(
        plan(quiet="22:00-08:00", rate=100, start_at=start_at, recipients=file(table)),
        progress=progress,
    )
    row = await campaigns.get(created.id)
    assert (row.state, row.recipients, row.duplicates, row.chunks) == (State.DRAFT, 250, 2, 3)
    assert (row.quiet, row.rate, row.weight, row.error_share) == ("22:00-08:00", 100, 1, 0.1)
    assert row.start_at.isoformat() == "2026-12-01T01:00:00+00:00"
    assert row.message == {"msgtype": "text", "text": {"content": "hello"}}
    found = await contents(campaigns, row.id)
    assert found == [(userids[at : at + 100], None) for at in (0, 100, 200)]
    assert progress.people == [(250, 250)]


async def test_equal_results_share_a_call(campaigns: CampaignStore) -> None:
    rows = [{"userid": f"u{number}", "team": "ab"[number % 2]} for number in range(300)]
    created = await campaigns.create(
        plan("go {team}!", recipients=[*rows, {"userid": "z", "team": "c"}])
    )
    found = await contents(campaigns, created.id)
    texts = [message["text"]["content"] for _, message in found if message]
    assert texts == ["go a!", "go a!", "go b!", "go b!", "go c!"]
    assert [len(users) for users, _ in found] == [100, 50, 100, 50, 1]
    assert created.planned == 5
    assert created.message["text"]["content"] == "go {team}!"


async def test_a_status_bar_goes_to_five_a_call(campaigns: CampaignStore) -> None:
    head = {"bgcolor": "FFBBBBBB", "text": "news"}
    bar = {"status_value": "open"}
    oa = {"message_url": "https://a.test", "head": head, "status_bar": bar, "body": {"title": "t"}}
    card = plan(message={"msgtype": "oa", "oa": oa}, users=[f"u{at}" for at in range(12)])
    created = await campaigns.create(card)
    found = await contents(campaigns, created.id)
    assert [len(users) for users, _ in found] == [5, 5, 2]


async def test_malformed_rows_are_refused_or_skipped(campaigns: CampaignStore) -> None:
    table = "userid\n" + "u 1\n" * 30 + "u2\n"
    with pytest.raises(MalformedRecipients) as raised:
        await campaigns.create(plan(recipients=file(table)))
    assert raised.value.count == 30
    lines = str(raised.value).splitlines()
    assert lines[0] == "recipients: 30 rows are malformed:"
    assert lines[1] == "line 2: userid: holds a comma, a blank or a control character"
    assert lines[-1] == "and 10 more"
    assert await rows_in_all(campaigns) == [0, 0, 0]

    progress = Followed()
    skipping = plan(recipients=file(table), malformed="skip")
    created = await campaigns.create(skipping, progress=progress)
    assert [row.line for row in progress.rows] == list(range(2, 32))
    assert (created.recipients, created.malformed) == (1, 30)
    assert created.skipped == [SkippedRow.of(row) for row in progress.rows[:20]]


@on_sqlite
async def test_half_a_character_is_nobodys_address(campaigns: CampaignStore) -> None:
    people = [{"job_number": "\ud800"}, {"email": "a@\ud800"}, "ann"]
    made = await campaigns.create(plan(recipients=people, malformed="skip"))
    assert [str(row) for row in made.skipped] == [
        "line 1: job_number: must be Unicode text",
        "line 2: email: must be Unicode text",
    ]
    assert made.recipients == 1


async def test_unusable_ids_are_refused(campaigns: CampaignStore, database: Database) -> None:
    """The call of a hundred people would fail for one of them, or go to others."""
    unusable = [Member("bob,cho", {}), Member("dan d", {"job_number": "7"}), Member("e" * 65, {})]
    await organise(database, {1: [Member("ann", {}), *unusable]})
    audience = plan(recipients=[{"job_number": "7"}], everyone=True)
    made = await campaigns.create({**audience, "malformed": "skip"})
    assert await contents(campaigns, made.id) == [(["ann"], None)]
    problem = "userid: holds a comma, a blank or a control character"
    assert {str(row) for row in made.skipped} == {
        f"line 1: 'dan d': {problem}",
        f"'dan d': {problem}",
        f"'bob,cho': {problem}",
        f"'{'e' * 65}': userid: has more than 64 characters",
    }
    with pytest.raises(MalformedRecipients):
        await campaigns.create(audience)
    without = plan(everyone=True, without=[{"job_number": "7"}], malformed="skip")
    assert (await campaigns.create(without)).recipients == 1


WITHOUT = {"without_users": ["boss", "stranger"], "without_departments": [4], "without": ["ann"]}


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_an_audience_comes_from_the_directory(campaigns: CampaignStore) -> None:
    audiences: tuple[tuple[dict[str, Any], list[str]], ...] = (
        ({"users": ["x", "ann", "x"]}, ["x", "ann"]),
        ({"departments": [2]}, ["ann", "bob", "cho"]),
        ({"departments": [4, 3]}, ["cho", "ann", "dan"]),
        ({"everyone": True}, ["ann", "bob", "boss", "cho", "dan"]),
        ({"recipients": ["y"], "users": ["x"], "departments": [4]}, ["y", "x", "cho"]),
        ({"everyone": True, **WITHOUT}, ["bob", "dan"]),
    )
    for audience, wanted in audiences:
        assert await people(campaigns, **audience) == wanted, audience


@pytest.mark.usefixtures("organisation")
async def test_fields_come_from_the_file_then_the_directory(campaigns: CampaignStore) -> None:
    created = await campaigns.create(
        plan(
            "{userid} {name} {title}",
            recipients=file("userid,name\nann,Anna\ndan,Dan\nstranger,S\n"),
            users=["boss"],
            malformed="skip",
        )
    )
    found = await contents(campaigns, created.id)
    texts = [message["text"]["content"] for _, message in found if message]
    assert texts == ["ann Anna clerk", "boss Boss chief"]
    assert [str(row) for row in created.skipped] == [
        "line 3: Dan has no value for {title}",
        "line 4: S is not in the directory: no value for {title}",
    ]


def csv(text: str) -> dict[str, Any]:
    return {"recipients": file(text)}


SKIP: dict[str, Any] = {"users": ["a"], "malformed": "skip"}


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_errors_of_a_campaign_are_named(campaigns: CampaignStore) -> None:
    unknown = "message: {nmae} is no field of the file (name, use"
    for content, audience, error in (
        ("{nmae}", csv("userid,name\nu1,x\n"), unknown),
        ("{name}", csv("userid,name\nu1,x\nu2, \n"), "line 3: u2 has no value for {name}"),
        ("{name}", csv('{"userid": "u1"}'), "line 1: u1 is not in the directory: no value for {na"),
        ("{n}", csv("userid,n\nu1," + "x" * 5_001), "line 2: u1: message.text.content: "),
        ("x", csv("userid\n"), "recipients: no recipient is left"),
        ("x", {"departments": [9]}, "departments: 9 is not in the directory"),
        ("x", {"users": ["a", "b c"]}, "users.1: userid: holds a comma, a blank"),
        ("x", {"users": ["a"], "without_users": ["a"]}, "no recipient is left"),
        ("x", {**SKIP, "without": ["", "b"]}, "exclusions: 1 row is malformed:"),
        ("x", {**SKIP, "without_departments": [9]}, "without_departments: 9"),
        ("{admin}", {"everyone": True}, "message: {admin} is no field of the directory"),
    ):
        with pytest.raises(ContractError) as raised:
            await campaigns.create(plan(content, **audience))
        assert error in str(raised.value)
        assert await rows_in_all(campaigns) == [0, 0, 0], error


async def test_a_creation_that_was_stopped_leaves_nothing(
    campaigns: CampaignStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE", 20)
    rows = [f"u{number}" for number in range(2_400)]

    class Stopping(CreationProgress):
        def written(self, people: int, total: int) -> None:
            assert 0 < people <= total
            task = asyncio.current_task()
            task.cancel()

    creating = asyncio.ensure_future(campaigns.create(plan(recipients=rows), progress=Stopping()))
    await asyncio.wait([creating])
    assert creating.cancelled()
    assert await rows_in_all(campaigns) == [0, 0, 0]


_KILLED = """
import asyncio, os, signal, sys
from dingrelay_workers.campaigns import removal, store
from dingrelay_workers.database import database
from dingrelay_workers.campaigns.audience import CreationProgress

class Killing(CreationProgress):
    left = 2_400

    def written(self, people, total):
        assert people > 0 and total == 2_400
        self.left -= people
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

removal.HELD = database.LET_IN = 0
store.PAGE = 20
message = {"msgtype": "text", "text": {"content": "x"}}
rows = (f"u{number}" for number in range(2_400))
plan = {"name": "n", "message": message, "recipients": rows}
creating = store.CampaignStore(database.Database(sys.argv[1])).create(plan, progress=Killing())
asyncio.run(creating)
"""


async def test_the_rest_of_a_crashed_creation_is_hidden_and_deleted(
    campaigns: CampaignStore, database_url: str
) -> None:
    command = [sys.executable, "-c", _KILLED, database_url]
    killed = await asyncio.to_thread(processes.run, command, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert await rows_in_all(campaigns) == [1, 20, 0]
    assert await campaigns.list(limit=9) == []
    [left] = await all_of(campaigns.database, CampaignRow)
    for read in (campaigns.get, Report(campaigns.database).summary):
        with pytest.raises(CampaignNotFound):
            await read(left["id"])
    # One that is being made just now is left alone.
    assert await people(campaigns, users=["u1"]) == ["u1"]
    assert await rows_in_all(campaigns) == [2, 21, 0]
    async with campaigns.database.read() as connection:
        assert await removal.leftovers(connection) == []
    await lose_lease(campaigns, left["id"])
    async with campaigns.database.read() as connection:
        assert await removal.leftovers(connection) == [left["id"]], "the leader deletes it"
    await removal.remove(campaigns.database, left["id"])
    assert await rows_in_all(campaigns) == [1, 1, 0]


async def lose_lease(campaigns: CampaignStore, campaign: str) -> None:
    """The process that writes a campaign was last alive a while ago."""
    async with campaigns.database.read() as connection:
        died_at = await lease.now(connection) - lease.SECONDS - 1
    where = CampaignRow.id == campaign
    await rows.change(campaigns.database, CampaignRow, where, lease_at=died_at)


async def test_the_request_of_a_process_that_died_is_made_anew(campaigns: CampaignStore) -> None:
    """Within a minute, and by the same request; what the first process had written is gone."""
    made = (await campaigns.create(plan(users=[f"u{number}" for number in range(250)]))).id
    died = {"state": State.CREATING, "chunks": 0, "recipients": 0}
    async with campaigns.database.read() as connection:
        alive = await lease.now(connection)
    await rows.change(campaigns.database, CampaignRow, **died, lease="x", lease_at=alive)
    with pytest.raises(CampaignConflict, match="is being created"):
        await campaigns.create(plan(users=["u1"]), made)
    await lose_lease(campaigns, made)
    again = await campaigns.create(plan(users=["u1", "u2"]), made)
    assert (again.id, again.stage, again.recipients) == (made, "ready", 2)
    assert await rows_in_all(campaigns) == [1, 1, 0]
    with pytest.raises(CampaignConflict, match="is being created"):
        await campaigns.create(plan(users=["u1"]), made)


async def test_what_0_2_0_left_while_it_created_or_deleted_goes(campaigns: CampaignStore) -> None:
    made = (await campaigns.create(plan(users=["u1"]))).id
    hour = timedelta(hours=1, seconds=1)
    now = datetime.now(UTC)
    for fields, gone in (
        ({"created_at": now}, []),
        ({"created_at": now, "ended_at": now}, [made]),
        ({"created_at": now - hour, "ended_at": None}, [made]),
    ):
        of_0_2_0 = {"state": State.CREATING, "lease": None, "lease_at": None, **fields}
        await rows.change(campaigns.database, CampaignRow, **of_0_2_0)
        async with campaigns.database.read() as connection:
            assert await removal.leftovers(connection) == gone, fields


async def test_a_draft_whose_commit_was_not_answered_is_none(
    campaigns: CampaignStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = campaigns.database.write

    @asynccontextmanager
    async def write(app: str) -> AsyncGenerator[AsyncConnection]:
        async with real(app) as connection:
            yield connection
            state = await connection.scalar(select(CampaignRow.state))
        if state == State.DRAFT:
            monkeypatch.undo()
            raise OperationalError("commit", {}, Exception("connection lost"))

    monkeypatch.setattr(campaigns.database, "write", write)
    with pytest.raises(OperationalError):
        await campaigns.create(plan(users=["u1"]))
    assert await rows_in_all(campaigns) == [0, 0, 0]


async def test_writers_are_not_blocked(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(sqlite_url)
    monkeypatch.setattr(removal, "HELD", 0.0)
    monkeypatch.setattr(stores, "PAGE", 20)
    store, other = CampaignStore(Database(sqlite_url)), Database(sqlite_url)
    rows = (f"u{number}" for number in range(12_000))
    seen: set[int] = set()
    creating = asyncio.create_task(store.create(plan(recipients=rows)))
    while not creating.done():
        async with other.write("another") as connection:
            seen.add(await connection.scalar(select(func.count()).select_from(ChunkRow)) or 0)
    assert len(seen - {0, 120}) >= 2
    assert (await creating).state == State.DRAFT
    await store.database.dispose()
    await other.dispose()
