"""Personal data of one person: exported whole, and erased everywhere once it is not needed."""

import asyncio
import errno
import io
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from dingrelay_producers import Client, State
from dingrelay_producers.client.campaign_documents import Plan
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.scripts import run_async
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.person_erase import PersonErase
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.campaigns import workbook
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    OutcomeRow,
    ReviewRow,
)
from dingrelay_workers.campaigns.people_index import chunks_of
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import (
    ChangeRow,
    DepartmentRow,
    MembershipRow,
    RunRow,
    UserRow,
)
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.subjects import NEEDED, DataSubject
from support import campaigns, days
from support.command_line import Cli
from support.databases import on_sqlite, prepare
from support.jobs import message as a_message
from support.jobs import queued
from support.personal_data import (
    MOBILE,
    OTHER,
    SUBJECT,
    TEXT,
    Office,
    a_notice,
    a_person,
    an_approval,
)
from support.rows import LONG_AGO, change
from support.webhooks import subscribe
from support.workers import OpenWorker


@pytest.fixture
def office(redis: Redis, each_settings: Settings, database: Database) -> Office:
    return Office(redis, database, each_settings)


async def fill(office: Office) -> None:
    """Name the person in every place that there is, in nothing that is still needed."""
    manager = {"dept_manager_userid_list": [SUBJECT, OTHER]}
    await office.put(DepartmentRow, {"id": 7, "name": "d", "fields": manager, "read_at": 1})
    await office.put(UserRow, a_person(left_at=LONG_AGO))
    await office.put(UserRow, a_person(OTHER, fields={"manager_userid": SUBJECT}))
    await office.put(RunRow, {"number": 1, "run": "r", "closed_at": LONG_AGO})
    for user in (SUBJECT, OTHER):
        await office.put(MembershipRow, {"userid": user, "department": 7, "leader": True})
        await office.put(ChangeRow, {"userid": user, "number": 1, "event": "left"})

    both = json.dumps({"to": {"users": [SUBJECT, OTHER], "mobiles": [MOBILE]}, "message": TEXT})
    alone = json.dumps({"to": {"users": [SUBJECT]}, "message": TEXT})
    approval = json.dumps({"originator": SUBJECT, "form": [{"name": "why", "value": "ill"}]})
    slip = {"key": f"slip-{SUBJECT}", "kind": "message-send", "sender": "crm"}
    summary = "message-send text users=1"
    await office.put(
        JobRow,
        {"job": "both", "content": both, **slip},
        {"job": "alone", "content": alone, "kind": "message-send", "summary": summary},
        {"job": "approval", "kind": "approval-create", "content": approval},
        {"job": "other", "kind": "message-send", "content": json.dumps({"to": {"users": [OTHER]}})},
    )
    for job, user in (("both", SUBJECT), ("alone", SUBJECT), ("both", OTHER), ("other", OTHER)):
        await office.put(RecipientRow, {"job": job, "user": user, "outcome": "accepted"})
    await office.put(ApprovalRow, an_approval("theirs"))
    await office.put(ApprovalRow, an_approval("others", originator=OTHER, title="x"))
    for instance, user in (("theirs", OTHER), ("others", SUBJECT)):
        await office.put(ApprovalTaskRow, {"instance": instance, "task": "1", "user": user})
    event = {"event": {"userId": [SUBJECT, OTHER]}}
    await office.put(
        NoticeRow,
        a_notice({"userid": SUBJECT, "name": "张三"}, type="directory.user.left"),
        a_notice(event, type="dingtalk.user_leave_org"),
        a_notice({"result": {"duplicate": [SUBJECT]}}, kind="message-send"),
        a_notice({"result": {"duplicate": [OTHER]}}, kind="message-send"),
    )
    campaign = await campaigns.put(
        office.database, people=2, state="done", created_at=LONG_AGO, settled=1, accepted=2
    )
    called = {"called_at": LONG_AGO, "accepted": 2, "state": ChunkState.SETTLED, "task_id": 5}
    await office.update(ChunkRow, users=f"{OTHER},{SUBJECT}", unread_users=SUBJECT, **called)
    outcome = {"campaign": campaign, "outcome": "forbidden", "reason": "143106"}
    await office.put(OutcomeRow, {**outcome, "userid": SUBJECT})

    step = {"call:1": {"task_id": 1, "request_id": "r", "duplicate": [SUBJECT]}}
    result = {"duplicate": [SUBJECT]}
    await office.ended(to={"users": [SUBJECT]}, steps=step, result=result)
    await office.ended(State.DEAD, to={"users": [OTHER, SUBJECT], "departments": [1]})


async def test_everything_of_a_person_is_handed_out_and_then_nowhere(office: Office) -> None:
    await fill(office)
    before = await office.places()
    assert len(before) == 12, before
    exported = await office.passes.export(DataSubject(SUBJECT))
    (person,) = exported["directory"]
    assert (person["name"], person["departments"][0]["id"]) == (SUBJECT.upper(), 7)
    assert person["named_by"] == {"departments": [7], "people": [OTHER]}
    assert {each["job"] for each in exported["history"]} == {"both", "alone", "approval"}
    assert [each["outcome"] for each in exported["campaigns"]] == ["forbidden"]
    assert {each["instance"] for each in exported["approvals"]} == {"theirs", "others"}
    assert len(exported["webhooks"]) == 3
    assert len(exported["jobs"]) == 2
    # The rows of others that name them go, too, but for who asked for it.
    found = await office.erase()
    assert found.left == []
    assert not found.returned
    assert await office.places() == set()
    again = await office.erase()
    assert again.changed.total() == 0
    empty = await office.passes.export(DataSubject(SUBJECT))
    assert not any(empty.values())


async def test_data_of_others_and_counts_stay(office: Office) -> None:
    await fill(office)
    await office.erase()
    tombstone = office.tombstone
    (other,) = await office.rows(UserRow)
    assert (other["userid"], other["fields"]) == (OTHER, {"manager_userid": tombstone})
    assert [row["userid"] for row in await office.rows(MembershipRow)] == [OTHER]
    (department,) = await office.rows(DepartmentRow)
    assert department["fields"] == {"dept_manager_userid_list": [tombstone, OTHER]}
    assert {row["userid"] for row in await office.rows(ChangeRow)} == {tombstone, OTHER}

    jobs = {row["job"]: row for row in await office.rows(JobRow)}
    assert [jobs[job]["content"] for job in ("both", "alone", "approval")] == [None] * 3
    assert (jobs["both"]["key"], jobs["both"]["sender"]) == ("", "crm")
    assert jobs["alone"]["summary"] == "message-send text users=1"
    assert json.loads(jobs["other"]["content"]) == {"to": {"users": [OTHER]}}
    recipients = {(row["job"], row["user"]) for row in await office.rows(RecipientRow)}
    theirs = {("both", OTHER), ("other", OTHER)}
    assert recipients == theirs | {("both", tombstone), ("alone", tombstone)}
    approvals = {row["instance"]: row for row in await office.rows(ApprovalRow)}
    assert approvals["theirs"]["title"] == approvals["theirs"]["originator"] == tombstone
    assert (approvals["others"]["title"], approvals["others"]["originator"]) == ("x", OTHER)
    data = [row["data"] for row in await office.rows(NoticeRow)]
    assert data == [{"result": {"duplicate": [OTHER]}}]
    (campaign,) = await office.rows(CampaignRow)
    report = await Report(office.database).summary(campaign["id"])
    assert (report.recipients, report.outcomes["accepted"]) == (2, 1)
    assert report.outcomes["forbidden"] == 1


@on_sqlite
async def test_a_job_to_an_address_of_the_person_is_discarded(office: Office) -> None:
    asked = {"to": {"mobiles": [MOBILE, "13900000000"], "users": [OTHER]}, "idempotency_key": "k"}
    steps = {"addresses": {"users": [SUBJECT, "u9"], "unresolved": []}}
    job = await office.ended(State.DEAD, steps=steps, **asked)
    assert (await office.erase()).changed["jobs"] == 1
    assert not await office.redis.exists(keys.job(job))
    assert await office.redis.zscore(keys.DEAD, job) is None
    assert await office.redis.zscore(keys.RECENT, job) is None


@on_sqlite
@pytest.mark.parametrize("users", [[[SUBJECT], 7, OTHER], SUBJECT, [7, SUBJECT]])
async def test_a_bare_job_is_discarded_and_not_made_again(office: Office, users: Any) -> None:
    job = await office.ended(State.DEAD)
    asked = {"to": {"users": users}, "message": TEXT}
    fields = {"payload": json.dumps(asked), "bare": "1"}
    await office.redis.hset(keys.job(job), mapping=fields)
    assert (await office.erase()).changed["jobs"] == 1
    assert not await office.redis.exists(keys.job(job))
    assert await office.redis.exists(keys.tombstone(job))


@on_sqlite
async def test_the_person_who_resolved_a_job_is_replaced(office: Office) -> None:
    job = await office.ended(State.UNKNOWN, to={"users": [OTHER]})
    resolved = {"happened": True, "by": SUBJECT, "at": 1}
    await office.redis.hset(keys.job(job), "resolved", json.dumps(resolved))
    before = await office.redis.hgetall(keys.job(job))
    assert (await office.erase()).changed["jobs"] == 1
    after = await office.redis.hgetall(keys.job(job))
    assert json.loads(after.pop(b"resolved")) == {**resolved, "by": office.tombstone}
    assert after == {name: value for name, value in before.items() if name != b"resolved"}


@on_sqlite
async def test_a_job_with_another_life_is_left(office: Office, redis: Redis) -> None:
    job = await office.ended(State.DEAD, to={"users": [SUBJECT]})
    settled = (await redis.hget(keys.job(job), "settled") or b"").decode()
    await run_async(redis, record.requeue(job))
    assert not await run_async(redis, record.discard(job, settled=settled))
    await run_async(redis, record.cancel(job, record_ttl_ms=10**6, dead_ttl_ms=10**6))
    assert not await run_async(redis, record.discard(job, settled=settled))
    assert await redis.exists(keys.job(job))


async def test_data_under_way_or_still_needed_stays_and_is_named(office: Office) -> None:
    now = datetime.now(UTC)
    draft = await queued(office.redis, to={"users": [SUBJECT]})
    lately = await office.ended(to={"users": [SUBJECT]}, ago=timedelta(hours=1))
    today = (now + timedelta(hours=8)).date().isoformat()
    await days.put_received(office.redis, "default", today, {SUBJECT: 3})
    answer = keys.idempotency("key", "digest")
    body = json.dumps({"result": {"invalid": [SUBJECT]}})
    await office.redis.hset(answer, mapping={"body": body, "people": json.dumps([SUBJECT])})
    await office.redis.pexpire(answer, 80_000_000)
    await office.put(ApprovalRow, an_approval("open", "running"))
    await subscribe(office.database, state="paused")
    notice = a_notice({"userid": SUBJECT})
    await office.put(NoticeRow, {**notice, "number": 1, "recorded_at": now})
    await office.put(DeliveryRow, {"endpoint": "drw_test", "notice": 1, "state": "pending"})
    await office.put(RunRow, {"run": "r", "opened_at": now})
    await office.put(UserRow, a_person())

    found = await office.erase()
    left = {(each.place, each.id) for each in found.left}
    assert {("jobs", draft.id), ("jobs", lately), ("approvals", "open")} <= left
    places = {"jobs", "daily_limits", "answers", "approvals", "webhooks", "directory"}
    assert {place for place, _ in left} == places
    until = {each.id: each.until for each in found.left}[lately]
    assert until is not None
    assert timedelta(hours=34) < until - now < timedelta(hours=35, minutes=1)
    # A person who belongs to the organisation is added again.
    assert found.returned
    assert await office.rows(UserRow) == []

    # Once it is over, nothing is left.
    received, _ = days.of_user("default", today, SUBJECT)
    await office.redis.delete(keys.job(draft.id), received, answer)
    await office.age(lately)
    await office.update(DeliveryRow, state="delivered")
    await office.update(RunRow, closed_at=now)
    await office.update(ApprovalRow, state="approved", look_at=None)
    assert (await office.erase()).left == []
    assert await office.places() == set()


@on_sqlite
async def test_a_notice_is_left_until_its_delivery_is_over(office: Office) -> None:
    await subscribe(office.database)
    await office.put(NoticeRow, a_notice({"userid": SUBJECT}))
    (notice,) = await office.rows(NoticeRow)
    delivery = {"endpoint": "drw_test", "notice": notice["number"], "state": "pending"}
    await office.put(DeliveryRow, delivery)
    assert [each.place for each in (await office.erase()).left] == ["webhooks"]
    async with office.database.write("tests") as connection:
        await connection.execute(DeliveryRow.__table__.delete())
    assert (await office.erase()).left == []
    assert await office.places() == set()


@on_sqlite
async def test_data_newer_than_the_request_is_not_touched(office: Office) -> None:
    """So an erasure comes to an end, although its person works on."""
    since = await office.passes.now() - timedelta(minutes=5)
    now = datetime.now(UTC)
    await office.put(UserRow, a_person(read_at=int(now.timestamp() * 1000)))
    await office.put(JobRow, {"job": "new", "created_at": now})
    await office.put(RecipientRow, {"job": "new", "user": SUBJECT, "at": now})
    await office.put(ApprovalRow, an_approval("new", known_at=now))
    await office.put(NoticeRow, a_notice({"userid": SUBJECT}, at=now, recorded_at=now))
    await campaigns.put(office.database, people=2, first=1)
    await office.update(ChunkRow, users=SUBJECT)
    await office.ended(to={"users": [SUBJECT]})
    before = await office.places()
    found = await office.erase(since=since)
    assert (found.changed.total(), found.left, bool(found.returned)) == (0, [], True)
    assert await office.places() == before


@on_sqlite
async def test_only_one_application_is_asked_about(office: Office) -> None:
    for job, app in (("a", "default"), ("b", "hr")):
        await office.put(UserRow, a_person(app=app))
        await office.put(JobRow, {"job": job, "app": app})
        await office.put(RecipientRow, {"job": job, "user": SUBJECT})
    jobs = [await office.ended(to={"users": [SUBJECT]}, app=app) for app in ("default", "hr")]
    await office.erase(app="hr")
    assert [row["app"] for row in await office.rows(UserRow)] == ["default"]
    users = {row["job"]: row["user"] for row in await office.rows(RecipientRow)}
    assert users == {"a": SUBJECT, "b": office.tombstone}
    assert [await office.redis.exists(keys.job(job)) for job in jobs] == [1, 0]


@pytest.fixture
def store(office: Office) -> CampaignStore:
    return CampaignStore(office.database)


async def created(store: CampaignStore, *users: str) -> str:
    """A campaign as a command makes it, with an index of its people."""
    return (await store.create({"name": "news", "message": TEXT, "users": users})).id


async def test_drafts_go_on_without_them(office: Office) -> None:
    await office.put(UserRow, a_person(name="张三", mobile=f"+86-{MOBILE}"))
    await office.put(UserRow, a_person(OTHER))
    drafts = campaigns.Writers(office.settings, office.database)
    pasted = f"{OTHER},{SUBJECT}\n{MOBILE}\nu9"
    named = await drafts.create({"pasted": pasted, "without_pasted": "张三"}, "ann")
    table = f"手机\t姓名\r\n13900000000\t王芳\r\n{MOBILE}\t张三\r\n13900000001\t李四\r\n"
    copied = await drafts.create({"pasted": table}, "ann")
    listed = await drafts.create({"pasted": OTHER}, "ann")
    listed, _ = await drafts.put_file(listed.id, 1, "x.csv", f"手机\n{MOBILE}\n".encode(), "ann")
    others = await drafts.create({"pasted": OTHER}, "ann")
    others, _ = await drafts.put_file(others.id, 1, "x.csv", b"userid\nu9\n", "ann")
    await office.update(CampaignRow, updated_at=LONG_AGO)
    exported = (await office.passes.export(DataSubject(SUBJECT)))["drafts"]
    assert {each["draft"] for each in exported} == {named.id, copied.id, listed.id}
    found = await office.erase()
    assert (found.changed["drafts"], found.left) == (3, [])
    content = (await drafts.get(named.id)).content
    assert (content.pasted, content.without_pasted) == (f"{OTHER}\nu9", "")
    rest = "手机\t姓名\r\n13900000000\t王芳\r\n13900000001\t李四\r\n"
    assert (await drafts.get(copied.id)).content.pasted == rest
    assert [(await drafts.get(each)).file_name for each in (listed.id, others.id)] == ["", "x.csv"]
    assert (await drafts.get(others.id)).version == others.version
    assert await office.places() == set()


@on_sqlite
async def test_a_list_that_cannot_be_read_is_left(office: Office) -> None:
    file = SUBJECT.encode() + b",\xff\xfe\x00"
    row = {"id": "c1", "state": "draft", "content": {"encoding": "ascii"}, "message": {}}
    await office.put(CampaignRow, {**row, "file": file, "updated_at": LONG_AGO})
    (left,) = (await office.erase()).left
    assert (left.place, left.id) == ("drafts", "c1")
    assert "upload it again" in left.hint
    assert (await office.rows(CampaignRow))[0]["file"] == file


@on_sqlite
async def test_what_was_written_before_goes_although_it_was_touched_since(office: Office) -> None:
    since = await office.passes.now() - timedelta(minutes=5)
    drafts = campaigns.Writers(office.settings, office.database)
    content = {"name": "news", "pasted": f"{SUBJECT}\nu9"}
    draft = await drafts.create(content, "ann")
    later = await drafts.create(content, "ann")
    await office.update(CampaignRow, created_at=LONG_AGO)
    recent = CampaignRow.id == later.id
    await change(office.database, CampaignRow, recent, created_at=datetime.now(UTC))
    found = await office.erase(since=since)
    assert (found.changed["drafts"], found.left) == (1, [])
    pasted = [(await drafts.get(each.id)).content.pasted for each in (draft, later)]
    assert pasted == ["u9", content["pasted"]]


@on_sqlite
async def test_the_directory_knows_a_person_while_a_list_may_name_them(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.put(UserRow, a_person(mobile=f"+86-{MOBILE}"))
    await office.put(UserRow, a_person(app="another"))
    drafts = campaigns.Writers(office.settings, office.database)
    draft = await drafts.create({"name": "news"}, "ann")
    file = campaigns.xlsx(["手机"], [MOBILE])
    draft, _ = await drafts.put_file(draft.id, 1, "people.xlsx", file, "ann")
    await office.update(CampaignRow, created_at=LONG_AGO)

    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "no room")

    since = await office.passes.now()
    with monkeypatch.context() as patch:
        patch.setattr(workbook.shutil, "copyfileobj", full)
        left = (await office.erase(since=since)).left
    assert {each.place for each in left} == {"drafts", "directory"}
    assert [row["app"] for row in await office.rows(UserRow)] == ["default"]
    assert (await office.erase(since=since)).left == []
    assert (await drafts.get(draft.id)).file_name == ""
    assert await office.rows(UserRow) == []


UNUSABLE = {
    "too many columns": f"userid,name\n{SUBJECT},张三,extra\nu9,x\n",
    "columns in another order": f"userid,name\nextra,{MOBILE},张三\nu9,x\n",
    "no number": "手机,姓名\nnone,张三\n13900000000,王芳\n",
    "an unknown number": "手机,姓名\n13900000009,张三\n13900000000,王芳\n",
    "their number": f"手机\n{MOBILE}\n13900000000\n",
    "a value of no type": json.dumps({"userid": SUBJECT, "note": []}) + '\n{"userid": "u9"}\n',
    "no JSON": f'{{"userid": "u9"}}\n{{"userid": "{SUBJECT}", "name": "张三"\n',
    "bytes of no text": b"userid,name\nu9,x\n%s,\xff\xe5\n" % SUBJECT.encode(),
    "a NUL": f'{{"userid": "u9"}}\n{{"mobile": "{MOBILE}", "name": "\\u0000", "note": "\\u0000"}}\n',
}


@pytest.mark.parametrize("left_at", [None, LONG_AGO])
@pytest.mark.parametrize("file", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_row_that_names_no_one_for_sure_goes_as_well(
    office: Office, store: CampaignStore, file: str | bytes, left_at: datetime | None
) -> None:
    person = {"name": "张三", "mobile": f"+86-{MOBILE}", "left_at": left_at}
    await office.put(UserRow, a_person(**person))
    await office.put(UserRow, a_person("u9", name="王芳", mobile="+86-13900000000"))
    file = file if isinstance(file, bytes) else file.encode()
    note = {"msgtype": "text", "text": {"content": "hi {note}"}}
    message = note if b"note" in file else TEXT
    drafts = campaigns.Writers(office.settings, office.database)
    draft = await drafts.create({"name": "news", "message": message}, "ann")
    await drafts.put_file(draft.id, 1, "people.csv", file, "ann")
    plan: Plan = {"name": "news", "message": TEXT, "users": ["u8"], "malformed": "skip"}
    await store.create({**plan, "recipients": io.BytesIO(file)})
    await office.update(CampaignRow, created_at=LONG_AGO)
    assert (await office.erase()).left == []
    found = {text: await office.places(text) for text in (SUBJECT, "张三", MOBILE)}
    assert found == {SUBJECT: set(), "张三": set(), MOBILE: set()}


@pytest.mark.parametrize("left_at", [None, LONG_AGO])
async def test_an_entry_of_which_one_part_is_known_goes_as_well(
    office: Office, store: CampaignStore, left_at: datetime | None
) -> None:
    person = {"name": "张三", "mobile": f"+86-{MOBILE}", "left_at": left_at}
    await office.put(UserRow, a_person(**person))
    await office.put(UserRow, a_person("u9"))
    pasted = f"{SUBJECT} 13900000009\n张三 13900000009\n{MOBILE} 王芳\nu9"
    plan: Plan = {"name": "news", "message": TEXT, "pasted": pasted, "malformed": "skip"}
    campaign = (await store.create(plan)).id
    drafts = campaigns.Writers(office.settings, office.database)
    draft = await drafts.create({"name": "news", "pasted": pasted}, "ann")
    await office.update(CampaignRow, created_at=LONG_AGO)
    assert (await office.erase()).left == []
    assert (await drafts.get(draft.id)).content.pasted == "u9"
    assert (await store.get(campaign)).skipped == []
    found = {text: await office.places(text) for text in (SUBJECT, "张三", MOBILE)}
    assert found == {SUBJECT: set(), "张三": set(), MOBILE: set()}


@on_sqlite
async def test_an_unknown_job_number_is_no_person(office: Office) -> None:
    await office.put(JobRow, {"job": "a"})
    await office.put(RecipientRow, {"job": "a", "user": "1001", "outcome": "unresolved"})
    history = HistoryService(office.settings)
    assert (await history.person("1001", app=None, limit=9))[0].messages == []


@on_sqlite
async def test_a_check_names_them_no_longer(office: Office, store: CampaignStore) -> None:
    await office.put(UserRow, {**a_person(SUBJECT), "name": "张三"})
    await office.put(UserRow, {**a_person(OTHER), "name": "张三"})
    plan: Plan = {"name": "news", "message": TEXT, "users": ["u9"], "pasted": "张三"}
    campaign = (await store.create({**plan, "malformed": "skip"})).id
    assert SUBJECT in (await store.get(campaign)).skipped[0]["problem"]
    await office.erase()
    assert ((await store.get(campaign)).skipped, await office.places()) == ([], set())


async def test_a_campaign_goes_on_without_them_and_its_report_adds_up(
    office: Office, store: CampaignStore
) -> None:
    others = [OTHER, *(f"u{number}" for number in range(200))]
    campaign = await created(store, SUBJECT, *others)
    found = await office.erase()
    assert (found.changed["campaigns"], found.left) == (1, [])
    chunks = await campaigns.chunks(office.database, campaign)
    users = {chunk.number: chunk.users.split(",") for chunk in chunks}
    pending = [chunk.number for chunk in chunks if chunk.state == ChunkState.PENDING]
    assert sorted(user for number in pending for user in users[number]) == sorted(others)
    assert all(len(users[chunk.number]) == chunk.size for chunk in chunks)
    row = await store.get(campaign)
    assert (row.recipients, row.chunks, row.settled) == (202, len(chunks), 1)
    report = await Report(office.database).summary(campaign)
    assert (report.outcomes["cancelled"], report.outcomes["pending"]) == (1, 201)
    async with office.database.read() as connection:
        assert await chunks_of(connection, [SUBJECT], [campaign]) == {campaign: set()}
        assert (await chunks_of(connection, [OTHER], [campaign]))[campaign]
    assert await office.places() == set()


@on_sqlite
@pytest.mark.parametrize("changes", ["a copy", "itself", "a list of its people"])
async def test_a_campaign_made_of_another_has_no_tombstone(
    office: Office, store: CampaignStore, changes: str
) -> None:
    campaign = await created(store, SUBJECT, OTHER, "u9")
    await office.erase()
    drafts = campaigns.Writers(office.settings, office.database)
    if changes == "itself":
        await drafts.save(campaign, 1, {"name": "more news"}, "ann")
        ready = await drafts.freeze(campaign, 2, "ann")
    elif changes == "a copy":
        copy = await drafts.copy(campaign, "ann")
        ready = await drafts.freeze(copy.id, copy.version, "ann")
    else:
        plan: Plan = {"name": "more", "message": TEXT, "campaigns": [campaign]}
        ready = await store.create(plan)
    users = [chunk.users for chunk in await campaigns.chunks(office.database, ready.id)]
    assert (ready.recipients, sorted(",".join(users).split(","))) == (2, ["u9", OTHER])


@on_sqlite
@pytest.mark.parametrize("changes", ["a copy", "itself"])
async def test_a_list_of_a_ready_campaign_goes_and_none_of_the_others_with_it(
    office: Office, store: CampaignStore, changes: str
) -> None:
    file = f"userid\n{SUBJECT}\n{OTHER}\nu9\nu8\n".encode()
    drafts = campaigns.Writers(office.settings, office.database)
    draft = await drafts.create({"name": "news", "message": TEXT, "pasted": "u7\nu8"}, "ann")
    draft, _ = await drafts.put_file(draft.id, 1, "people.csv", file, "ann")
    draft = await drafts.save(draft.id, draft.version, {"without_pasted": "u8"}, "ann")
    await drafts.freeze(draft.id, draft.version, "ann")
    await office.update(CampaignRow, updated_at=LONG_AGO)
    await office.erase()
    draft = await drafts.get(draft.id)
    if changes == "a copy":
        draft = await drafts.copy(draft.id, "ann")
    else:
        draft = await drafts.save(draft.id, draft.version, {"name": "more news"}, "ann")
    ready = await drafts.freeze(draft.id, draft.version, "ann")
    users = [chunk.users for chunk in await campaigns.chunks(office.database, ready.id)]
    assert sorted(",".join(users).split(",")) == ["u7", "u9", OTHER]


@on_sqlite
async def test_a_deleted_campaign_that_is_counted_names_them_no_longer(office: Office) -> None:
    """Its row stays for a day, since the campaigns of a writer count as one for the rule of approvals."""
    sent = datetime.now(UTC) - timedelta(hours=1)
    by = {"writers": [SUBJECT, OTHER], "created_by": SUBJECT, "issuers": [SUBJECT]}
    about = {"id": "c1", "state": "deleting", "admitted_at": sent, "message": TEXT}
    await office.put(CampaignRow, {**about, **by})
    await office.put(ReviewRow, {"campaign": "c1", "asked_by": SUBJECT, "decided_by": OTHER})
    assert (await office.erase()).left == []
    assert await office.places() == set()


@on_sqlite
async def test_the_last_person_of_a_chunk_ends_it(office: Office, store: CampaignStore) -> None:
    campaign = await created(store, SUBJECT)
    await office.erase()
    row = await store.get(campaign)
    assert (row.chunks, row.settled, row.recipients) == (1, 1, 1)
    report = await Report(office.database).summary(campaign)
    assert (report.outcomes["cancelled"], report.outcomes["accepted"]) == (1, 0)


@on_sqlite
@pytest.mark.parametrize("state", [ChunkState.QUEUED, ChunkState.SETTLED])
async def test_a_call_of_today_keeps_its_people(
    office: Office, store: CampaignStore, state: ChunkState
) -> None:
    """Messages of equal content find out by it who has them, and so does a recall."""
    campaign = await created(store, SUBJECT, OTHER)
    await office.update(ChunkRow, state=state, called_at=datetime.now(UTC) - timedelta(hours=2))
    (left,) = (await office.erase()).left
    assert (left.place, left.id) == ("campaigns", campaign)
    assert (left.until is None) == (state == ChunkState.QUEUED)
    assert await office.places() == {"campaign_chunks"}


@on_sqlite
async def test_a_message_made_for_one_person_goes_with_them(
    office: Office, store: CampaignStore
) -> None:
    message, filled = (
        {**TEXT, "text": {"content": f"{name}, hello"}} for name in ("{name}", "张三")
    )
    campaign = await created(store, SUBJECT, OTHER)
    called = {"state": ChunkState.SETTLED, "called_at": LONG_AGO}
    await office.update(ChunkRow, message=filled, users=SUBJECT, size=1, **called)
    await office.update(CampaignRow, message=message)
    await office.erase()
    (chunk,) = await campaigns.chunks(office.database, campaign)
    assert (chunk.message, chunk.users) == (message, office.tombstone)


async def test_nobody_gets_a_message_twice_because_of_an_erasure(
    open_worker: OpenWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    """And a job that is running ends as it would have; the erasure comes back for its record."""
    sandbox.put_user(user := "u1", name="u1", dept_id_list=[1])
    async with open_worker() as worker:
        message = a_message(user)
        first = await worker.send(message)
        assert await worker.run(first) == State.DONE
        waiting = await worker.send(a_message(user, text="2"))
        erasure = await asyncio.to_thread(worker.client.erase_person, user)
        assert {each.id for each in erasure.remaining if each.place == "jobs"} == {first, waiting}
        assert await worker.run(await worker.send(message)) == State.DUPLICATE
        assert await worker.run(waiting) == State.DONE
        assert len(sandbox.inbox(user)["delivered"]) == 2

        assert await worker.run(erasure.job) == State.SNOOZED
        settled = int((datetime.now(UTC) - NEEDED).timestamp() * 1000)
        async for key in redis.scan_iter(f"{keys.PREFIX}*"):
            kind = key.decode().split(":")[1]
            if kind in {"content", "received"}:
                await redis.delete(key)
            elif kind == "job" and await redis.hget(key, "state") in {b"done", b"duplicate"}:
                await redis.hset(key, "settled", str(settled))
        # It finds something, and looks once more for what may just have been written.
        assert await worker.run(erasure.job) == State.SNOOZED
        assert await worker.run(erasure.job) == State.DONE
        assert not await redis.exists(keys.job(first), keys.job(waiting))
        assert (await worker.status(erasure.job)).result == {"tombstone": erasure.tombstone}


def test_the_client_returns_what_it_found(client: Client) -> None:
    prepare(client.settings.database)
    nothing = client.erase_person("stranger")
    assert (nothing.job, nothing.follow_up, nothing.remaining) == ("", None, [])
    client.send(a_message("u1"))
    erasure = client.erase_person("u1")
    assert client.status(erasure.job).kind == PersonErase.kind
    (exported,) = client.export_person("u1")["jobs"]
    assert "u1" not in exported["job"]
    assert exported["asked"]["to"] == {"users": ["u1"]}
    for wrong in ("", "a,b", "a b"):
        with pytest.raises(ContractError, match="user"):
            client.erase_person(wrong)
    with pytest.raises(ContractError, match="app"):
        client.export_person("u1", app="no such")


def test_an_export_is_private(cli: Cli, sqlite_url: str, tmp_path: Path) -> None:
    prepare(sqlite_url)
    job = cli.json("send", "--to", "u1", "--text", "你好")["id"]
    file = tmp_path / "u1.json"
    cli("person", "export", "u1", "--output", str(file))
    assert json.loads(file.read_text("utf-8"))["jobs"][0]["job"] == job
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cli.json("person", "export", "u1")["jobs"][0]["job"] == job
    counted = cli("person", "export", "u1").stdout
    assert "jobs" in counted
    assert job not in counted
    # It is not written over.
    assert cli("person", "export", "u1", "--output", str(file)).exit_code == 2
    erasure = cli.json("person", "erase", "u1", "--yes")
    assert erasure["remaining"][0]["id"] == job
    assert cli.json("job", "show", erasure["job"])["kind"] == "person-erase"


async def test_names_in_events_and_candidates_go_as_well(office: Office) -> None:
    """A title names who asked for an approval, and its row who decides."""
    name = "Ouyang Unique"
    title = f"{name}提交的请假"
    await office.put(ApprovalRow, an_approval("theirs", title=title))
    diff = {"curr": {"name": name, "mobile": MOBILE}, "userid": SUBJECT}
    events = {
        "user_modify_org": {"userId": [SUBJECT], "diffInfo": diff},
        "bpms_instance_change": {"staffId": SUBJECT, "title": title},
        "bpms_task_change": {"staffId": OTHER, "processInstanceId": "theirs", "title": title},
    }
    approval = {"originator": SUBJECT, "process_code": "P", "form": []}
    error = {"class": "unknown", "candidates": [{"id": "1", "title": title}]}
    records: list[dict[str, Any]] = [
        {"kind": "approval-create", "payload": approval, "error": error}
    ]
    for kind, data in events.items():
        payload = {"event_type": kind, "data": data}
        records.append({"kind": "event", "payload": payload, f"step:user:{SUBJECT}": {}})
        notice = a_notice({"event_id": kind, "event": data}, type=f"dingtalk.{kind}")
        await office.put(NoticeRow, notice)
    jobs = [await office.ended() for _ in records]
    for job, fields in zip(jobs, records, strict=True):
        mapping = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
        await office.redis.hset(keys.job(job), mapping=mapping)
    # The last event ended lately: it is erased by a later pass, which knows the approval by the tombstone.
    await office.age(jobs[-1], timedelta())
    exported = await office.passes.export(DataSubject(SUBJECT))
    assert (len(exported["jobs"]), len(exported["webhooks"])) == (len(records), len(events))
    assert [each.id for each in (await office.erase()).left] == [jobs[-1]]
    await office.age(jobs[-1])
    assert (await office.erase()).left == []
    for value in (SUBJECT, name, MOBILE):
        assert await office.places(value) == set()


async def test_any_userid_is_found_however_json_spells_it(office: Office) -> None:
    users = ('q"q', "b\\b", "a/b", "%_", "张三")
    for number, user in enumerate(users):
        spelled = json.dumps([user], ensure_ascii=False)
        content = json.dumps({"to": {"users": [user]}, "message": TEXT}, ensure_ascii=False)
        await office.put(
            JobRow, {"job": f"kept {number}", "kind": "message-send", "content": content}
        )
        record = await office.ended(to={"users": [user]})
        await office.redis.hset(keys.job(record), "reserved", spelled)
        await office.put(NoticeRow, a_notice({"userid": user}))
    for user in users:
        exported = await office.passes.export(DataSubject(user))
        assert [len(exported[place]) for place in ("jobs", "history", "webhooks")] == [1, 1, 1]
        since = await office.passes.now()
        await office.passes.erase(user, app=None, since=since, tombstone=office.tombstone)
        spelled = json.dumps(user, ensure_ascii=False)[1:-1]
        assert await office.places(repr(spelled)[1:-1]) == set(), user
        assert not any((await office.passes.export(DataSubject(user))).values()), user


@pytest.mark.parametrize("user", [SUBJECT, "张 三@4"])
async def test_a_call_in_the_history_is_found_by_its_path(office: Office, user: str) -> None:
    path = f"GET /v1.0/contact/users/{quote(user, safe='')}"
    for job, summary in (("theirs", path), ("another", f"{path}2")):
        row = {"kind": "api-call", "key": f"{user} 7", "summary": summary, "content": None}
        await office.put(JobRow, {"job": job, **row})
    exported = await office.passes.export(DataSubject(user))
    assert [each["job"] for each in exported["history"]] == ["theirs"]
    since = await office.passes.now()
    await office.passes.erase(user, app=None, since=since, tombstone=office.tombstone)
    kept = {row["job"]: (row["summary"], row["key"]) for row in await office.rows(JobRow)}
    assert kept == {"theirs": ("api-call", ""), "another": (f"{path}2", f"{user} 7")}
