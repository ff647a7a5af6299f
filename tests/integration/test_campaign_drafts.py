"""Drafts of campaigns: saved half-filled, by several editors; and people that they would not reach, on each database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.campaign_documents import CampaignPreview
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound, DraftConflict
from dingrelay_producers.language import CHINESE, translated
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.states import State as JobState
from dingrelay_tasks import beijing
from dingrelay_tasks.context import MessageCall
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.organisation import Member
from dingrelay_workers.campaigns import audience, estimate, lease, removal, store
from dingrelay_workers.campaigns import drafts as writing
from dingrelay_workers.campaigns.audience import Gathered, people_of
from dingrelay_workers.campaigns.documents import CampaignSpec
from dingrelay_workers.campaigns.findings import findings_of
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, IndexRow, State
from dingrelay_workers.campaigns.pasted import count as count_pasted
from dingrelay_workers.campaigns.pasted import entry_of, meaning
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.sources import LARGEST_FILE
from dingrelay_workers.campaigns.store import Check
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import sync_engine, upgrade
from dingrelay_workers.dingtalk.clock import Offset
from dingrelay_workers.directory.models import DepartmentRow
from dingrelay_workers.limiter.daily_limits import DAILY_MESSAGES, DailyLimits, place
from dingrelay_workers.store.records import Records, Usage
from support.campaigns import Writers, chunks, hide, put, read
from support.databases import on_sqlite, prepare_released, rows
from support.directories import organise
from support.jobs import claimed, queued
from support.rows import change, count


@pytest.fixture
def drafts(each_settings: Settings, database: Database) -> Writers:
    return Writers(each_settings, database)


async def test_a_half_filled_draft_is_saved(drafts: Writers) -> None:
    made = await drafts.create({"name": "party"}, "ann")
    saved = await drafts.save(
        made.id, 1, {"message": {"msgtype": "text"}, "departments": [7], "rate": 60}, "bob"
    )
    assert saved == await drafts.get(made.id)
    assert (saved.version, saved.created_by, saved.updated_by) == (2, "ann", "bob")
    assert (saved.content.name, saved.content.departments, saved.content.rate) == ("party", [7], 60)
    unchanged = await drafts.save(made.id, 2, {"rate": 60}, "cho")
    assert (unchanged.version, unchanged.updated_by) == (2, "bob")
    assert (await drafts.save(made.id, 2, {"rate": None}, "bob")).content.rate is None


async def test_the_slower_of_two_editors_learns_who_was_faster(drafts: Writers) -> None:
    made = await drafts.create({"name": "party"}, "ann")
    saved = await drafts.save(made.id, 1, {"name": "picnic"}, "bob")
    with pytest.raises(DraftConflict, match="bob saved it at") as caught:
        await drafts.save(made.id, 1, {"name": "dinner"}, "ann")
    assert (caught.value.by, caught.value.at) == ("bob", saved.updated_at)
    with pytest.raises(DraftConflict):
        await drafts.put_file(made.id, 1, "people.csv", b"userid\nu1\n", "ann")
    assert (await drafts.get(made.id)).content.name == "picnic"


async def test_a_file_is_kept_beside_the_text(drafts: Writers) -> None:
    made = await drafts.create({}, "ann")
    put, _ = await drafts.put_file(made.id, 1, "people.csv", b"userid\nu1\n", "ann")
    assert (put.version, put.file_name, put.file_bytes) == (2, "people.csv", 10)
    gone, _ = await drafts.put_file(made.id, 2, "", None, "ann")
    assert (gone.file_name, gone.file_bytes) == ("", 0)
    with pytest.raises(ContractError, match="file: may have"):
        await drafts.put_file(made.id, 3, "people.csv", b"x" * (LARGEST_FILE + 1), "ann")


@pytest.fixture
def campaigns(each_settings: Settings, database: Database) -> CampaignService:
    return CampaignService(each_settings, database)


async def test_drafts_are_campaigns_of_the_list(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    for app in ("hr", "it", "hr"):
        await drafts.create({"app": app, "pasted": "u1," * 10_000, "message": TEXT}, "ann")
    listed = await campaigns.list(CampaignFilter(app="hr"), limit=9)
    assert [(row.app, row.state, row.stage) for row in listed] == [("hr", "draft", "draft")] * 2
    assert listed[0].created_at >= listed[1].created_at
    assert [len(row.model_dump_json()) < 2_000 for row in listed] == [True, True]
    assert (await campaigns.show(listed[0].id)).message == TEXT
    await campaigns.delete(listed[0].id, wait=True)
    assert [row.id for row in await campaigns.list(CampaignFilter(app="hr"), limit=9)] == [
        listed[1].id
    ]
    for ask in (drafts.get, campaigns.status, campaigns.preview, campaigns.report):
        with pytest.raises(CampaignNotFound):
            await ask(listed[0].id)
    with pytest.raises(CampaignNotFound):
        await drafts.freeze("nothing", 1, "ann")


async def test_a_draft_that_is_left_alone_is_deleted(drafts: Writers, database: Database) -> None:
    made = await drafts.create({"name": "party"}, "ann")
    for ago, state in ((writing.KEPT - DAY, "draft"), (writing.KEPT + DAY, "deleting")):
        await change(database, CampaignRow, updated_at=datetime.now(UTC) - ago)
        await writing.delete_before(database, datetime.now(UTC) - writing.KEPT)
        assert (await read(database, made.id)).state == state
    sent = await drafts.create({"name": "party", "message": PLAIN, "pasted": "u1"}, "ann")
    await drafts.put_file(sent.id, 1, "x.csv", b"userid\nu2\n", "ann")
    await drafts.freeze(sent.id, 2, "ann")
    old = datetime.now(UTC) - writing.KEPT - DAY
    await change(database, CampaignRow, CampaignRow.id == sent.id, updated_at=old)
    for state, kept in (("running", True), ("done", False)):
        await change(database, CampaignRow, CampaignRow.id == sent.id, state=state)
        await writing.delete_before(database, datetime.now(UTC) - writing.KEPT)
        assert bool((await drafts.get(sent.id)).file_name) is kept
    assert (await drafts.copy(sent.id, "bob")).file_name == "userids.csv"


@on_sqlite
async def test_an_error_names_the_field(drafts: Writers) -> None:
    made = await drafts.create({}, "ann")
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"quiet": "22-8"}, "quiet"),
        ({"rate": 0}, "rate"),
        ({"error_share": 2}, "error_share"),
        ({"pasted": "u\0"}, "pasted"),
        ({"departments": [0]}, "departments.0"),
        ({"without_campaigns": ["x"]}, "without_campaigns.0"),
        ({"text": "hello"}, "text"),
    )
    for changed, field in changes:
        with pytest.raises(ContractError) as caught:
            await drafts.save(made.id, 1, changed, "ann")
        assert caught.value.field == field
    assert (await drafts.get(made.id)).version == 1


@pytest.fixture
async def organisation(database: Database) -> None:
    """Ann (a1) and Bob (b1) in 2, two people called Cho (c1, c2) in 3, below 1."""

    def person(user: str, name: str, last: int) -> Member:
        return Member(user, {"name": name, "mobile": f"1380000000{last}"})

    two = [person("a1", "安娜", 1), person("b1", "Bob Lee", 2)]
    three = [person("c1", "Cho", 3), person("c2", "Cho", 4)]
    await organise(database, {1: [], 2: two, 3: three}, {1: (2, 3)})


DAY = timedelta(days=1)
OLD = "0" * 36
TEXT = {"msgtype": "text", "text": {"content": "{姓名}，明天放假"}}


async def users_of(database: Database, campaign: str) -> list[str]:
    return [user async for page in people_of(database, campaign) for user in page]


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_pasted_people_are_found(drafts: Writers, database: Database) -> None:
    for pasted, people in (
        ("a1\nb1, c1；c2", ["a1", "b1", "c1", "c2"]),
        ("安娜、Bob Lee", ["a1", "b1"]),
        ("138-0000-0001,+8613800000002", ["a1", "b1"]),
        ("安娜\t13800000001\nCho 13800000004", ["a1", "c2"]),
        ("a1, b1, a1", ["a1", "b1"]),
        ("安 娜\n安\u3000娜", ["a1"]),
        ("手机号\t部门\n13800000001\tteam 2\n13800000002\t", ["a1", "b1"]),
        ("姓名\n安娜", ["a1"]),
        ("Cho\n13900000000\n没有\na1", ["a1"]),
    ):
        made = await drafts.create({"name": "party", "message": TEXT, "pasted": pasted}, "ann")
        created = await drafts.freeze(made.id, 1, "bob")
        assert sorted(await users_of(database, created.id)) == people, pasted


@pytest.mark.parametrize(
    ("pasted", "people", "problems"),
    [
        ("安娜\t13800000002", [], {1: "安娜, 13800000002 are different people"}),
        ("安娜 13800000002", [], {1: "安娜, 13800000002 are different people"}),
        ("安娜\tteam 2\tBob Lee", [], {1: "安娜, Bob Lee are different people"}),
        ("安娜\tteam 2\n安娜（13800000001）", ["a1"], {}),
        ("安娜\tteam 3", [], {1: "安娜 is not in team 3"}),
        ("安娜\t没有", [], {1: "没有 is no person"}),
        ("姓名\t部门\n安娜\tteam 3\nBob Lee\t总部/team 2", ["b1"], {2: "安娜 is not in team 3"}),
        ("姓名\t手机号\t部门\nBob Lee\t13800000002\tteam 3", ["b1"], {}),
        ("安娜\tBob Lee\na1\t安娜", ["a1"], {1: "安娜, Bob Lee are different people"}),
        ("a1 b1", [], {1: "a1, b1 are different people"}),
        ("安娜 没有", [], {1: "没有 is no person"}),
        (
            "姓名\t部门\t负责人\n安娜\tteam 2\tBob Lee\nBob Lee\t\t\nCho\t\t\n没有\t\t",
            ["a1", "b1"],
            {4: "that of several people: team 3 (c1), team 3 (c2)", 5: '"没有"'},
        ),
        (
            "姓名\t手机号\n安娜\t13800000002\n安小娜\t13800000001\n\t\nCho\t13800000003\nx\ty\tz",
            ["a1", "c1"],
            {2: "are different people", 4: "has no mobile", 6: "columns: 3 instead of 2"},
        ),
        ("userid\t手机号\na1\t13800000002\nb1\t13900000000", ["b1"], {2: "are different people"}),
    ],
)
@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_a_line_is_one_person(
    drafts: Writers, pasted: str, people: list[str], problems: dict[int, str]
) -> None:
    """A row of a spreadsheet also names departments, superiors and numbers that moved to another row."""
    parsed = await drafts.parse_pasted("default", pasted)
    assert [person.userid for person in parsed.people] == people
    assert [row.line for row in parsed.problems] == list(problems)
    for row in parsed.problems:
        assert problems[row.line] in row.problem


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_a_person_who_is_pasted_twice_counts_once(drafts: Writers) -> None:
    parsed = await drafts.parse_pasted("default", "安娜\n13800000001\n安娜，b1")
    assert [(person.line, person.userid) for person in parsed.people] == [(1, "a1"), (3, "b1")]
    assert count_pasted("安娜\nb1\n安娜") == 2


@on_sqlite
async def test_an_entry_that_names_no_one_finds_candidates_by_any_part_of_a_name(
    drafts: Writers, database: Database
) -> None:
    names = ("王小明", "王芳", "李王军", "赵雷", "王芳")
    people = [Member(f"u{at}", {"name": name}) for at, name in enumerate(names)]
    directory = await organise(database, {1: people})
    await directory.close_run("walk", confirm_removals=False)
    for entry, candidates in (
        ("小王", ["李王军", "王小明", "王芳", "王芳"]),
        ("小明", ["王小明"]),
        ("小军", ["李王军"]),
        ("赵总", ["赵雷"]),
        ("王军", ["李王军"]),
        ("王芳", ["王芳", "王芳"]),
        ("赵雷 王小明", ["王小明", "赵雷"]),
        ("%", []),
    ):
        parsed = await drafts.parse_pasted("default", f"赵雷\n{entry}，u0")
        (problem,) = parsed.problems
        assert (problem.line, problem.text) == (2, entry)
        assert [person.name for person in problem.candidates] == candidates
        for person in problem.candidates:
            chosen = meaning(f"赵雷\n{entry}，u0", 2, entry, entry_of(person))
            assert chosen == f"赵雷\n{person.name} {person.userid}，u0"
            again = await drafts.parse_pasted("default", chosen)
            assert again.problems == []
            assert person.userid in {found.userid for found in again.people}
    (problem,) = (await drafts.parse_pasted("default", "姓名\t部门\n小王\tx")).problems
    assert problem.candidates == []
    assert meaning("姓名\t部门\n小王\tx", 2, "小王", "u0") == "姓名\t部门\n小王\tx"


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_columns_of_a_pasted_table_are_fields(drafts: Writers, database: Database) -> None:
    message = {"msgtype": "text", "text": {"content": "{奖金}"}}
    table = "姓名\t奖金\n安娜\t1\nBob Lee\t2"
    made = await drafts.create({"name": "n", "message": message, "pasted": table}, "ann")
    await drafts.freeze(made.id, 1, "ann")
    texts = {
        each.users: each.message["text"]["content"] for each in await chunks(database, made.id)
    }
    assert texts == {"a1": "1", "b1": "2"}


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_a_row_of_a_file_whose_cells_are_two_people_is_malformed(
    drafts: Writers, campaigns: CampaignService
) -> None:
    """One column was sorted and the others were not."""
    made = await drafts.create({"name": "party", "message": PLAIN}, "ann")
    file = "手机号,姓名\n13800000001,安娜\n13800000002,安娜\n13800000003,大赵\n".encode()
    _, counted = await drafts.put_file(made.id, 1, "x.csv", file, "ann")
    assert (counted.rows, counted.people) == (3, 2)
    checked = await campaigns.preview(made.id)
    assert [row.line for row in checked.skipped] == [3]


@pytest.mark.usefixtures("organisation")
async def test_people_of_one_name_differ_by_their_departments(drafts: Writers) -> None:
    (problem,) = (await drafts.parse_pasted("default", "Cho")).problems
    assert problem.problem == "Cho is the name of several people: team 3 (c1), team 3 (c2)"


@on_sqlite
async def test_a_department_tells_people_of_one_name_apart(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    """Also one above that of the person; a row whose department has none of them is refused."""
    people = {
        2: [Member("u1", {"name": "王芳"})],
        3: [Member("u2", {"name": "王芳"})],
        4: [],
        5: [],
    }
    directory = await organise(database, {1: [], **people}, {1: (4, 5), 4: (2, 3)})
    await directory.close_run("walk", confirm_removals=False)
    for number, name in ((2, "销售部"), (3, "财务部"), (4, "业务线"), (5, "法务部")):
        await change(database, DepartmentRow, DepartmentRow.id == number, name=name)
    for pasted, users, problem in (
        ("王芳\t销售部", ["u1"], ""),
        ("王芳 财务部", ["u2"], ""),
        ("王芳（财务部）", ["u2"], ""),
        ("姓名\t部门\n王芳\t销售部", ["u1"], ""),
        ("姓名\t所属部门\n王芳\t业务线/财务部", ["u2"], ""),
        ("姓名\t部门\n王芳\t业务线", [], "several people: 销售部, 财务部"),
        ("王芳\t业务线", [], "several people: 销售部, 财务部"),
        ("姓名\t部门\n王芳\t", [], "several people: 销售部, 财务部"),
        ("姓名\t部门\n王芳\t销售", [], "several people: 销售部, 财务部"),
        ("姓名\t部门\n王芳\t法务部", [], "王芳 is not in 法务部"),
    ):
        parsed = await drafts.parse_pasted("default", pasted)
        assert [person.userid for person in parsed.people] == users, pasted
        assert problem in "".join(row.problem for row in parsed.problems), pasted
    made = await drafts.create({"name": "party", "message": PLAIN}, "ann")
    file = "姓名,部门\n王芳,财务部\n".encode("gb18030")
    await drafts.put_file(made.id, 1, "x.csv", file, "ann")
    frozen = await drafts.freeze(made.id, 2, "ann")
    assert await users_of(database, frozen.id) == ["u2"]


@on_sqlite
async def test_skipped_rows_are_counted_by_cause(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    """A row that lacks what a text needs names a person all the same, and is said by the name in it."""
    named = (("a", "安娜"), ("b", "王芳"), ("c", "王芳"), ("d", "李雷"), ("e", "韩梅梅"))
    people = [
        Member(user, {"name": name, "mobile": f"1380000000{at}"})
        for at, (user, name) in enumerate(named)
    ]
    directory = await organise(database, {1: people})
    await directory.close_run("walk", confirm_removals=False)
    await directory.drop_user("gone", "d", calls=1)
    message = {"msgtype": "text", "text": {"content": "{姓名}，座位 {座位}"}}
    made = await drafts.create({"name": "n", "message": message, "pasted": "王大\n李雷"}, "ann")
    rows = (
        "安娜,,A1",
        "王芳,,A2",
        "李雷,,A3",
        "韩梅梅,,",
        ",,A4",
        "安娜,13800000004,A5",
        "x,y,z,?",
        "王二,,A6",
    )
    file = "\n".join(["姓名,电话,座位", *rows, ""]).encode()
    await drafts.put_file(made.id, 1, "x.csv", file, "ann")
    checked = await campaigns.preview(made.id)
    problems = {(row.pasted, row.line): (row.cause, row.problem) for row in checked.skipped}
    assert problems == {
        (False, 3): (
            "several",
            'the full name "王芳" is that of several people: team 1 (b), team 1 (c)',
        ),
        (False, 4): ("left", "李雷 has left the organisation"),
        (False, 5): ("value", "韩梅梅 has no value for {座位}"),
        (False, 6): ("empty", "has no full name"),
        (False, 8): ("malformed", "columns: 4 instead of 3"),
        (False, 9): ("unknown", 'no person in the directory has the full name "王二"'),
        (True, 1): ("unknown", "王大 is no person in the directory"),
        (True, 2): ("left", "李雷 has left the organisation"),
    }
    counts = {"several": 1, "left": 2, "value": 1, "empty": 1, "malformed": 1, "unknown": 2}
    assert (checked.recipients, checked.malformed, checked.unmatched) == (1, 3, 5)
    assert checked.causes == counts
    words = [translated(finding.words) for finding in findings_of(checked)]
    assert "1 row lacks a value that the text needs, and is left out." in words
    assert "1 row has a name that several people have, and is left out." in words


@pytest.mark.usefixtures("organisation")
async def test_a_draft_is_the_campaign_that_it_becomes(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    made = await drafts.create({"name": "party", "message": TEXT, "departments": [1]}, "ann")
    put, _ = await drafts.put_file(made.id, 1, "more.csv", "工号,姓名\n,x\n".encode(), "bob")
    for _ in range(2):
        frozen = await drafts.freeze(made.id, put.version, "cho")
        assert (frozen.id, frozen.state, frozen.stage) == (made.id, "draft", "ready")
    row = await read(database, made.id)
    assert (row.recipients, row.malformed) == (4, 1)
    assert row.writers == ["ann", "bob", "cho"]
    texts = [each.message["text"]["content"] for each in await chunks(database, made.id)]
    assert "安娜，明天放假" in texts
    fewer = {"without_pasted": "Bob Lee", "without_departments": [3]}
    saved = await drafts.save(made.id, put.version, fewer, "ann")
    assert (saved.stage, saved.version) == ("draft", put.version + 1)
    assert await users_of(database, made.id) == []
    report = await campaigns.report(made.id)
    assert (report.recipients, set(report.outcomes.values())) == (0, {0})
    assert (await campaigns.people(made.id, limit=9))[0] == []
    with pytest.raises(CampaignConflict, match="is a draft: make it ready first"):
        await campaigns.start(made.id)
    await drafts.freeze(made.id, saved.version, "ann")
    assert await users_of(database, made.id) == ["a1"]
    assert len(await campaigns.list(CampaignFilter(), limit=9)) == 1
    others = {"name": "rest", "departments": [1], "without_campaigns": [made.id]}
    rest = await drafts.create({**others, "message": TEXT}, "ann")
    await drafts.freeze(rest.id, 1, "ann")
    assert await users_of(database, rest.id) == ["b1", "c1", "c2"]


@pytest.mark.usefixtures("organisation")
async def test_what_is_left_of_an_earlier_version_goes(drafts: Writers, database: Database) -> None:
    made = await drafts.create({"name": "party", "message": TEXT, "departments": [1]}, "ann")
    await drafts.freeze(made.id, 1, "ann")
    await drafts.save(made.id, 1, {"name": "picnic"}, "ann")
    assert [await count(database, table) for table in (ChunkRow, IndexRow)] == [3, 1]
    await removal.remove(database, made.id)
    assert [await count(database, table) for table in (ChunkRow, IndexRow)] == [0, 0]
    assert (await drafts.get(made.id)).content.name == "picnic"


@pytest.mark.usefixtures("organisation")
async def test_a_correction_voids_the_approval_and_loses_no_one(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    """A wrong field shows in the next check; the draft stays with its people, and the old text is gone."""
    made = await drafts.create({"name": "party", "message": TEXT, "departments": [1]}, "ann")
    await drafts.freeze(made.id, 1, "ann")
    ACTOR.set(Actor("console", "ann", person="ann"))
    await campaigns.submit(made.id)
    ACTOR.set(Actor("console", "bob", person="bob"))
    await campaigns.approve(made.id)
    wrong = {"msgtype": "text", "text": {"content": "{没有}，明天上班"}}
    saved = await drafts.save(made.id, 1, {"message": wrong}, "ann")
    assert (await campaigns.review(made.id)).state == "none"
    assert await campaigns.waiting_reviews(None) == []
    with pytest.raises(CampaignConflict, match="is a draft"):
        await campaigns.start(made.id)
    with pytest.raises(ContractError, match="is no field of"):
        await drafts.freeze(made.id, saved.version, "ann")
    (listed,) = await campaigns.list(CampaignFilter(), limit=9)
    assert (listed.id, listed.stage) == (made.id, "draft")
    back = await drafts.save(made.id, saved.version, {"message": TEXT}, "ann")
    frozen = await drafts.freeze(made.id, back.version, "ann")
    assert (frozen.recipients, (await campaigns.review(made.id)).state) == (4, "none")


@pytest.mark.usefixtures("organisation")
async def test_a_copy_keeps_the_text_as_written_and_the_people(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    words = {"msgtype": "text", "text": {"content": "写 {{姓名}} 的地方"}}
    content = {"name": "party", "message": words, "departments": [3], "pasted": "a1"}
    made = await drafts.create({**content, "start_at": "2099-12-24T09:00:00+08:00"}, "ann")
    put, _ = await drafts.put_file(made.id, 1, "x.csv", b"userid\nb1\n", "ann")
    await drafts.freeze(made.id, put.version, "ann")
    await campaigns.cancel(made.id)
    copy = await drafts.copy(made.id, "bob")
    named = {"start_at": None, "name": "party (copy)"}
    assert copy.content == put.content.model_copy(update=named)
    assert (copy.file_name, copy.file_bytes, copy.created_by) == ("x.csv", 10, "bob")
    frozen = await drafts.freeze(copy.id, 1, "bob")
    assert frozen.message["text"]["content"] == "写 {姓名} 的地方"
    assert await users_of(database, copy.id) == ["b1", "a1", "c1", "c2"]


@pytest.mark.usefixtures("organisation")
@pytest.mark.parametrize("kept", [True, False])
async def test_a_campaign_made_in_one_request_is_changed_and_copied(
    drafts: Writers, campaigns: CampaignService, database: Database, kept: bool
) -> None:
    """Campaigns of 0.2.0, and of people that no draft could name, have them in a file of userids."""
    words = {"msgtype": "text", "text": {"content": "{{姓名}}"}}
    plan: Any = {"name": "party", "message": words, "users": ["a1", "b1", "c1"]}
    if not kept:
        plan |= {"everyone": True, "without_users": ["c2"]}
    made = await campaigns.create(plan)
    if not kept:
        await change(database, CampaignRow, content=None)
    copy = await drafts.copy(made.id, "bob")
    saved = await drafts.save(made.id, 1, {"name": "picnic"}, "ann")
    for draft in (copy, saved):
        frozen = await drafts.freeze(draft.id, draft.version, "ann")
        assert frozen.message["text"]["content"] == "{姓名}"
        assert await users_of(database, draft.id) == ["a1", "b1", "c1"]


async def test_a_lease_is_lost_to_an_editor(
    drafts: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await drafts.create({"name": "party", "message": PLAIN, "pasted": "u1"}, "ann")
    check = estimate.check

    def slow(settings: Settings, database: Database) -> Check:
        found = check(settings, database)

        async def then_save(spec: CampaignSpec, gathered: Gathered) -> CampaignPreview | None:
            await drafts.save(made.id, 1, {"name": "picnic"}, "bob")
            return await found(spec, gathered)

        return then_save

    monkeypatch.setattr(estimate, "check", slow)
    with pytest.raises(CampaignConflict, match="was changed just now"):
        await drafts.freeze(made.id, 1, "ann")
    monkeypatch.undo()
    assert (await drafts.freeze(made.id, 2, "ann")).name == "picnic"


async def test_people_of_a_draft_are_not_left_out_in_silence(
    drafts: Writers,
) -> None:
    """People of an earlier broadcast that is written again would get the new one."""
    people = {"message": PLAIN, "pasted": "u1\nu2"}
    earlier = await drafts.create({"name": "earlier", **people}, "ann")
    await drafts.freeze(earlier.id, 1, "ann")
    made = await drafts.create({"name": "n", **people, "without_campaigns": [earlier.id]}, "ann")
    await drafts.save(earlier.id, 1, {"name": "other"}, "ann")
    with pytest.raises(ContractError, match=r"without_campaigns.0: .* is a draft"):
        await drafts.freeze(made.id, 1, "ann")


async def test_people_are_read_whole_or_not_at_all(
    drafts: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a broadcast that is changed while it is read would lack people."""
    monkeypatch.setattr(audience, "CHUNKS", 1)
    text = "\n".join(f"u{number}" for number in range(250))
    made = await drafts.create({"name": "n", "message": PLAIN, "pasted": text}, "ann")
    await drafts.freeze(made.id, 1, "ann")
    pages = people_of(database, made.id)
    await anext(pages)
    await drafts.save(made.id, 1, {"name": "other"}, "bob")
    with pytest.raises(CampaignConflict, match="look at it again"):
        await anext(pages)


async def test_a_request_that_comes_again_after_its_draft_was_deleted_is_refused(
    drafts: Writers, database: Database
) -> None:
    """To say that the database is away would have it come again and again."""
    made = await drafts.create({"name": "party"}, "ann")
    await hide(database, made.id)
    with pytest.raises(CampaignConflict, match="or deleted"):
        await drafts.create({"name": "party"}, "ann", made.id)


async def test_a_draft_that_0_2_0_moves_while_it_is_frozen_is_not_sent(
    drafts: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of 0.2.0 take every draft for one that is ready."""
    made = await drafts.create({"name": "n", "message": PLAIN, "pasted": "u1"}, "ann")
    monkeypatch.setattr(removal, "HELD", 0.0)
    real = Database.let_others_write

    async def start(writer: Database) -> None:
        await real(writer)
        await change(writer, CampaignRow, CampaignRow.id == made.id, state=State.RUNNING)

    monkeypatch.setattr(Database, "let_others_write", start)
    with pytest.raises(CampaignConflict, match="look at it again"):
        await drafts.freeze(made.id, 1, "ann")
    assert (await read(database, made.id)).chunks == 0


async def test_a_process_that_stood_still_loses_its_lease(
    drafts: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People that the leader deleted would be missing of a campaign that is ready."""
    people = "\n".join(f"u{number}" for number in range(250))
    made = await drafts.create({"name": "party", "message": PLAIN, "pasted": people}, "ann")
    monkeypatch.setattr(store, "PAGE", 1)
    monkeypatch.setattr(removal, "HELD", 0.0)
    real = Database.let_others_write

    async def stand_still(writer: Database) -> None:
        await real(writer)
        if not await chunks(writer, made.id):
            return
        monkeypatch.undo()
        async with writer.read() as connection:
            died_at = await lease.now(connection) - lease.SECONDS - 1
        await change(writer, CampaignRow, CampaignRow.id == made.id, lease_at=died_at)
        await removal.remove(writer, made.id)

    monkeypatch.setattr(Database, "let_others_write", stand_still)
    with pytest.raises(CampaignConflict, match="look at it again"):
        await drafts.freeze(made.id, 1, "ann")
    assert (await drafts.get(made.id)).stage == "draft"
    await drafts.freeze(made.id, 1, "ann")
    assert len(await users_of(database, made.id)) == 250


@pytest.mark.usefixtures("organisation")
async def test_the_check_is_stored_with_the_campaign(
    drafts: Writers, campaigns: CampaignService
) -> None:
    content = {"pasted": "a1,b1,c1,没有", "without_pasted": "b1"}
    made = await drafts.create({"name": "party", "message": TEXT, **content}, "ann")
    checked = await campaigns.preview(made.id)
    found = (await drafts.freeze(made.id, 1, "ann")).preview
    assert found
    moments = ("checked_at", "starts_at", "ends_at")
    varies = {name: getattr(found, name) for name in moments}
    assert found == checked.model_copy(update={"first": [], **varies})
    assert (found.recipients, found.excluded, len(found.skipped)) == (2, 1, 1)
    frozen = await campaigns.status(made.id)
    assert (frozen.excluded, frozen.skipped, frozen.preview) == (1, found.skipped, found)
    words = translated(frozen.skipped[0].problem, CHINESE), translated(found.limit, CHINESE)
    assert words == ("通讯录中没有 没有", "每秒 20 次调用")
    again = await campaigns.preview(frozen.id)
    assert (again.excluded, again.skipped) == (1, found.skipped)
    await campaigns.start(frozen.id)
    (listed,) = await campaigns.list(CampaignFilter(), limit=9)
    assert (listed.excluded, listed.preview) == (1, None)
    started = await campaigns.status(frozen.id)
    assert started.preview
    assert (started.preview.unmatched, started.skipped, started.preview.skipped) == (1, [], [])


@pytest.mark.usefixtures("organisation")
async def test_a_draft_is_frozen_while_redis_is_away(database_url: str, database: Database) -> None:
    away = "redis://127.0.0.1:1/0"
    drafts = Writers(Settings.load(env="test", redis_url=away, database_url=database_url), database)
    made = await drafts.create({"name": "party", "message": TEXT, "pasted": "a1\n没有"}, "ann")
    frozen = await drafts.freeze(made.id, 1, "ann")
    assert (frozen.recipients, len(frozen.skipped), frozen.preview) == (1, 1, None)


@pytest.mark.usefixtures("organisation")
async def test_a_started_campaign_is_copied_and_not_changed(
    drafts: Writers, database: Database
) -> None:
    made = await drafts.create({"name": "party", "message": TEXT, "pasted": "a1"}, "ann")
    with pytest.raises(DraftConflict):
        await drafts.freeze(made.id, 2, "ann")
    await drafts.freeze(made.id, 1, "ann")
    await change(database, CampaignRow, state=State.RUNNING)
    for ask in (
        drafts.save(made.id, 1, {"pasted": "b1"}, "ann"),
        drafts.put_file(made.id, 1, "", None, "ann"),
        drafts.freeze(made.id, 1, "ann"),
    ):
        with pytest.raises(CampaignConflict, match="is running: copy it, and change the copy"):
            await ask
    assert await users_of(database, made.id) == ["a1"]


@on_sqlite
@pytest.mark.usefixtures("organisation")
async def test_incomplete_drafts_are_not_frozen(drafts: Writers) -> None:
    contents: tuple[tuple[dict[str, Any], str], ...] = (
        ({"name": "", "pasted": "a1"}, "name"),
        ({"message": {"msgtype": "text"}, "pasted": "a1"}, "message.text"),
        ({}, "recipients"),
        ({"pasted": "没有"}, "recipients"),
        ({"pasted": "a1", "without_pasted": "没有"}, "without_pasted"),
        ({"departments": [9]}, "departments"),
    )
    for content, field in contents:
        made = await drafts.create({"name": "party", "message": TEXT, **content}, "ann")
        with pytest.raises(ContractError) as caught:
            await drafts.freeze(made.id, 1, "ann")
        assert caught.value.field == field
        assert (await drafts.get(made.id)).stage == "draft", content


PLAIN = {"msgtype": "text", "text": {"content": "明天放假"}}


@pytest.fixture
async def staff(database: Database) -> None:
    """u1 to u3 in 2, u4 in 3, below 1; u5 has left."""
    people = {1: (), 2: (1, 2, 3, 5), 3: (4,)}
    members = {
        number: [Member(f"u{each}", {"name": f"员工{each}"}) for each in users]
        for number, users in people.items()
    }
    directory = await organise(database, members, {1: (2, 3)})
    await directory.close_run("walk", confirm_removals=False)
    await directory.drop_user("gone", "u5", calls=1)


async def see(redis: Redis, **seen: Any) -> None:
    """The app is visible to these, as a worker has read it."""
    found = {"departments": [], "users": [], "roles": [], "admins_only": False, **seen}
    await redis.set(keys.visible_range("default"), json.dumps({"range": found, "read": 1}), ex=60)


async def send(redis: Redis, user: str, message: dict[str, Any]) -> None:
    """The user gets a message now."""
    records = Records(redis, Settings.load(env="test"))
    claim = await claimed(records, await queued(redis))
    call = MessageCall("call", [user])
    await DailyLimits(redis).reserve("default", claim.ownership, call, message, offset=Offset(0, 0))
    assert await records.settle(
        claim, JobState.DONE, usage=Usage(answered=True, steps={"call": {}})
    )


async def fill_day(redis: Redis, user: str) -> None:
    shard, digest = place(user)
    received = keys.received("default", beijing.day(clock.now()))
    await redis.hset(f"{received}:{shard}", str(digest), str(DAILY_MESSAGES))
    await redis.expire(f"{received}:{shard}", 60)


async def drafted(drafts: Writers, pasted: str, **fields: Any) -> str:
    content = {"name": "holiday", "message": PLAIN, "pasted": pasted, **fields}
    return (await drafts.create(content, "ann")).id


@pytest.mark.usefixtures("staff")
async def test_unreachable_people_are_counted(
    drafts: Writers, campaigns: CampaignService, redis: Redis, database_url: str
) -> None:
    await see(redis, departments=[2], users=[])
    await send(redis, "u1", PLAIN)
    await fill_day(redis, "u2")
    found = await campaigns.preview(await drafted(drafts, "u1,u2,u3,u4,u5,u1,没有"))
    assert (found.recipients, found.duplicates, found.unmatched) == (5, 1, 1)
    assert (found.not_in_directory, found.left, found.out_of_range) == (1, 1, 1)
    assert found.absent == []
    assert (found.had_it_today, found.at_daily_limit) == (1, 1)
    assert [row.line for row in found.skipped] == [1]
    assert rows(database_url, "select count(*) as n from campaign_chunks") == [{"n": 0}]


@pytest.mark.usefixtures("staff")
async def test_a_pasted_word_that_the_directory_does_not_know_is_no_person(
    drafts: Writers, campaigns: CampaignService
) -> None:
    pasted, problem = "u1\n1390000，u2", "1390000 is no person in the directory"
    for message in (PLAIN, TEXT):
        found = await campaigns.preview(await drafted(drafts, pasted, message=message))
        skipped = [(row.line, row.problem, row.pasted) for row in found.skipped]
        assert (found.recipients, skipped) == (2, [(2, problem, True)])
    parsed = await drafts.parse_pasted("default", pasted)
    assert (len(parsed.people), [row.problem for row in parsed.problems]) == (2, [problem])


@pytest.mark.usefixtures("staff")
async def test_a_file_may_name_people_that_only_dingtalk_knows(
    drafts: Writers, campaigns: CampaignService
) -> None:
    name = await drafted(drafts, "")
    users = ["u1", "u5", *(f"x{number:02}" for number in range(12))]
    file = "\n".join(["userid", *users, "a b"]).encode()
    await drafts.put_file(name, 1, "people.csv", file, "ann")
    found = await campaigns.preview(name)
    assert (found.recipients, found.not_in_directory, found.left) == (14, 13, 1)
    assert found.absent == users[2:12]
    (words,) = [each.words for each in findings_of(found) if "x00" in each.words]
    named = f"12 人不在通讯录中。 即：{', '.join(users[2:12])}, …。"
    assert translated(words, CHINESE) == named
    assert [(row.line, row.pasted) for row in found.skipped] == [(16, False)]


@pytest.mark.usefixtures("staff")
async def test_each_gets_a_text_of_their_own(
    drafts: Writers, campaigns: CampaignService, redis: Redis
) -> None:
    await send(redis, "u2", {"msgtype": "text", "text": {"content": "员工2，明天放假"}})
    await send(redis, "u1", PLAIN)
    found = await campaigns.preview(await drafted(drafts, "u1,u2,u3,u4", message=TEXT))
    assert (found.calls, found.plain_calls, found.had_it_today) == (4, 1, 1)
    names = [(f"u{number}", f"员工{number}") for number in (1, 2, 3)]
    assert [(one.userid, one.name) for one in found.first] == names
    assert found.first[0].message["text"]["content"] == "员工1，明天放假"


@on_sqlite
@pytest.mark.usefixtures("staff")
async def test_the_range_of_the_app_is_the_last_one_read(
    drafts: Writers, campaigns: CampaignService, redis: Redis
) -> None:
    draft = await drafted(drafts, "", departments=[1])
    ranges: tuple[tuple[dict[str, Any] | None, int | None], ...] = (
        (None, None),
        ({}, 0),
        ({"departments": [1]}, 0),
        ({"departments": [3], "users": ["u1"]}, 2),
        ({"admins_only": True}, None),
    )
    for seen, outside in ranges:
        if seen is not None:
            await see(redis, **seen)
        found = await campaigns.preview(draft)
        assert (found.recipients, found.out_of_range) == (4, outside), seen


async def test_without_a_directory_nothing_of_it_is_counted(
    drafts: Writers, campaigns: CampaignService
) -> None:
    found = await campaigns.preview(await drafted(drafts, "u1,u2"))
    assert (found.not_in_directory, found.left, found.out_of_range) == (None, None, None)
    assert (found.had_it_today, found.at_daily_limit) == (0, 0)


async def test_campaigns_that_run_already_take_their_time(
    drafts: Writers, campaigns: CampaignService, database: Database
) -> None:
    await put(database, app="other", people=2)
    name = await drafted(drafts, "u1,u2")
    assert (await campaigns.preview(name)).waiting_minutes == 0
    await put(database, people=2)
    running = CampaignRow.state == State.RUNNING
    await change(database, CampaignRow, running, recipients=1_000_000, chunks=10_000)
    found = await campaigns.preview(name)
    assert found.waiting_minutes == pytest.approx(205.8, abs=0.1)
    assert (found.ends_at - found.starts_at).total_seconds() / 60 == pytest.approx(205.8, abs=0.1)


async def test_a_draft_of_0_2_0_is_ready(each_settings: Settings, database_url: str) -> None:
    """Its word for what is created and not started; clients of 0.2.0 write it into the same tables afterwards."""
    prepare_released(database_url)
    await asyncio.to_thread(upgrade, database_url)
    row = {
        "id": OLD,
        "app": "default",
        "name": "old",
        "state": "draft",
        "message": json.dumps(PLAIN, ensure_ascii=False),
        "created_at": "2026-11-30 12:00:00.000000",
        "weight": 1,
        "error_share": 0.1,
        **dict.fromkeys(("reason", "quiet"), ""),
        **dict.fromkeys(("recipients", "chunks"), 1),
        **dict.fromkeys(("duplicates", "malformed", "settled", "calls"), 0),
        **dict.fromkeys(("accepted", "left_out", "failed"), 0),
    }
    chunk = {"campaign": OLD, "number": 0, "state": "pending", "size": 1, "users": "u1"}
    engine = sync_engine(database_url)
    with engine.begin() as connection:
        for table, values in (
            ("campaigns", row),
            ("campaign_chunks", {**chunk, "accepted": 0, "ambiguous": False}),
        ):
            literals = ", ".join(map(repr, values.values()))
            connection.exec_driver_sql(
                f"insert into {table} ({', '.join(values)}) values ({literals})"
            )
    engine.dispose()
    database = Database(database_url)
    drafts, campaigns = Writers(each_settings, database), CampaignService(each_settings, database)
    found = await campaigns.status(OLD)
    assert (found.state, found.stage, found.version) == ("draft", "ready", 1)
    copy = await drafts.copy(OLD, "ann")
    assert (copy.content.message, copy.file_name) == (PLAIN, "userids.csv")
    await campaigns.start(OLD)
    assert (await campaigns.status(OLD)).stage == "running"
    await database.dispose()
