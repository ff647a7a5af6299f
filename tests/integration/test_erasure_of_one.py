"""An erasure changes what names its person, and not one byte of what is about others, whatever the userid is."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns.models import CampaignRow, ReviewRow
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.outbox.models import NoticeRow
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.subjects import DataSubject
from support.databases import on_sqlite
from support.examples import either
from support.personal_data import Office
from support.rows import LONG_AGO

FIELD_NAMES = [
    "text",
    "users",
    "to",
    "content",
    "default",
    "userid",
    "done",
    "message-send",
    "null",
]
"""Words that stand in every job, and may be userids all the same."""
USERS = st.one_of(
    st.sampled_from(FIELD_NAMES),
    st.integers(min_value=1, max_value=2_000).map(str),
    st.text("abc1", min_size=1, max_size=3),
    st.text("\"'\\%_/*[]{}:$<张é👩", min_size=1, max_size=4),
)
"""Userids, many of them equal to other words or parts of each other."""


@st.composite
def worlds(draw: st.DrawFn) -> tuple[str, Sequence[tuple[str, dict[str, Any], set[str]]]]:
    """The person that is erased, and things: kind, fields, and their people."""
    people = draw(st.lists(USERS, min_size=2, max_size=5, unique=True))
    user, word = st.sampled_from(people), st.sampled_from(people)
    things: list[tuple[str, dict[str, Any], set[str]]] = []
    numbers: set[str] = set()
    for kind in draw(st.lists(st.sampled_from(sorted(THINGS)), min_size=3, max_size=9)):
        named = draw(st.lists(user, min_size=1, max_size=2, unique=True))
        fields = {"users": named, "word": draw(word)}
        if kind in {"a_draft", "a_colleague"}:
            # A job number that two people have does not say which of them a draft names: the userid may be meant.
            if fields["word"] in numbers:
                continue
            numbers.add(fields["word"])
        things.append((kind, fields, set(named)))
    return people[0], things


Thing = dict[str, Any]


async def a_message(office: Office, thing: Thing) -> None:
    """A message whose link, text and job number are other words."""
    word = thing["word"]
    link = {"title": word, "text": word, "messageUrl": f"https://x.example/orders/{word}"}
    await office.ended(
        to={"users": thing["users"], "job_numbers": ["4711"]},
        message={"msgtype": "link", "link": {**link, "picUrl": f"https://x.example/{word}/a.png"}},
        steps={
            "addresses": {"users": [], "unresolved": [{"job_number": word, "reason": "unknown"}]}
        },
        idempotency_key=f"{word}-{len(await office.redis.keys('*job:*'))}",
    )


async def a_call(office: Office, thing: Thing) -> None:
    """A call of any API, with its people in the fields that DingTalk calls so."""
    word = thing["word"]
    job = await office.ended()
    body = {"userid_list": ",".join(thing["users"]), "title": word, "orderId": word, word: [word]}
    payload = {"method": "POST", "path": "/v1.0/orders/1001", "body": body}
    fields = {"kind": "api-call", "payload": json.dumps(payload)}
    await office.redis.hset(keys.job(job), mapping=fields)


async def an_event(office: Office, thing: Thing) -> None:
    """An event of DingTalk's, passed on to subscribers."""
    word, number = thing["word"], len(await office.rows(NoticeRow))
    event = {"userId": thing["users"], "title": word, "deptId": [word], "processCode": word}
    row = {"id": f"msg_{number}", "type": "dingtalk.user_leave_org", "data": {"event": event}}
    await office.put(NoticeRow, row)


async def a_kept_job(office: Office, thing: Thing) -> None:
    """A job in the history, with what it asked for, and its recipients."""
    word, number = thing["word"], len(await office.rows(JobRow))
    job = f"kept {number}"
    asked = {"to": {"users": thing["users"]}, "message": {"text": {"content": word}}}
    row = {"job": job, "kind": "message-send", "key": word, "content": json.dumps(asked)}
    await office.put(JobRow, row)
    for user in thing["users"]:
        await office.put(RecipientRow, {"job": job, "user": user, "outcome": "accepted"})


async def a_kept_call(office: Office, thing: Thing) -> None:
    """A call in the history without what it asked for: the path in its summary names a person."""
    word, number = thing["word"], len(await office.rows(JobRow))
    del thing["users"][1:]
    user = quote(thing["users"][0], safe="")
    row = {"job": f"called {number}", "kind": "api-call", "key": word, "content": None}
    await office.put(JobRow, {**row, "summary": f"GET /v1.0/contact/users/{user}"})


async def an_unresolved_job(office: Office, thing: Thing) -> None:
    """A job to an unknown job number, which identifies no person."""
    number = len(await office.rows(JobRow))
    await office.put(JobRow, {"job": f"unresolved {number}", "kind": "message-send"})
    row = {"job": f"unresolved {number}", "user": thing["word"], "outcome": "unresolved"}
    await office.put(RecipientRow, row)
    thing["users"].clear()


async def an_approval(office: Office, thing: Thing) -> None:
    """An approval that has ended, with another word as its number."""
    asks, decides = thing["users"][0], thing["users"][-1]
    instance = f"i{len(await office.rows(ApprovalRow))}"
    about = {"business_id": thing["word"], "template": thing["word"], "state": "approved"}
    await office.put(ApprovalRow, {"instance": instance, "originator": asks, **about})
    task = {"instance": instance, "task": thing["word"], "user": decides}
    await office.put(ApprovalTaskRow, task)


async def a_change(office: Office, thing: Thing) -> None:
    """A change in the audit, of an object that is called like a person."""
    word = thing["word"]
    about = {"name": word, "state": word, "people": [word]}
    for door, actor in (("console", thing["users"][0]), ("cli", word)):
        row = {"door": door, "actor": actor, "kind": "campaign", "object": word, "after": about}
        await office.put(AuditRow, row)
    after = {"user": thing["users"][-1], "reason": word}
    row = {"door": "http", "actor": word, "kind": "approval", "object": word, "after": after}
    await office.put(AuditRow, row)


async def a_draft(office: Office, thing: Thing) -> None:
    """A draft whose text and name are other words, and whose people are named by a job number."""
    by, word, number = thing["users"][0], thing["word"], len(await office.rows(CampaignRow))
    owner = {"userid": f"owner {number}", "job_number": word, "fields": {"job_number": word}}
    await office.put(UserRow, owner)
    content = {"name": word, "text": word, "pasted": word}
    about = {"content": content, "name": word, "message": {"text": word}, "state": "draft"}
    who = {"created_by": by, "updated_by": by, "writers": thing["users"]}
    await office.put(CampaignRow, {"id": f"c{number}", "updated_at": LONG_AGO, **about, **who})


async def a_campaign(office: Office, thing: Thing) -> None:
    """A campaign with its writers, its review and a check that names people."""
    word, number = thing["word"], len(await office.rows(CampaignRow))
    skipped = [{"line": 1, "problem": word, "users": thing["users"]}, {"line": 2, "problem": word}]
    row = {"id": f"c{number}", "name": word, "state": "done", "message": {"text": word}}
    named = {"skipped": skipped, "absent": thing["users"]}
    await office.put(CampaignRow, {**row, "writers": thing["users"], "named": named})
    review = {"asked_by": thing["users"][0], "decided_by": thing["users"][-1], "reason": word}
    await office.put(ReviewRow, {"campaign": f"c{number}", "digest": word[:64], **review})


async def a_colleague(office: Office, thing: Thing) -> None:
    """People of the directory whose superior is the person; their job numbers are other words."""
    number, word = len(await office.rows(UserRow)), thing["word"]
    fields = {"manager_userid": thing["users"][0], "job_number": word, "title": word}
    row = {"userid": f"colleague {number}", "job_number": word, "name": word, "fields": fields}
    await office.put(UserRow, row)
    leads = {"dept_manager_userid_list": thing["users"], "name": word, "code": word}
    await office.put(DepartmentRow, {"id": number + 1, "name": word, "fields": leads})


async def a_visitor(office: Office, thing: Thing) -> None:
    """People with roles, sessions and links of the console."""
    for user in thing["users"]:
        number = len(await office.rows(ConsoleSessionRow))
        await office.put(RoleRow, {"directory": "default", "subject": user, "role": f"r{number}"})
        issuers = {"issuers": thing["users"][-1:]}
        await office.put(ConsoleSessionRow, {"digest": f"s{number}", "user": user, **issuers})
        await office.put(ConsoleLinkRow, {"digest": f"l{number}", "user": user, **issuers})


async def a_session(office: Office, thing: Thing) -> None:
    """A message to a robot that can be replied to."""
    key = keys.robot_session(f"{len(await office.redis.keys('*robot-session*')):032x}")
    kept = {"app": "default", "senderStaffId": thing["users"][0], "conversationId": thing["word"]}
    await office.redis.set(key, json.dumps(kept), px=60_000)


THINGS = {
    each.__name__: each
    for each in (
        a_message,
        a_call,
        an_event,
        a_kept_job,
        a_kept_call,
        an_unresolved_job,
        an_approval,
        a_change,
        a_draft,
        a_campaign,
        a_colleague,
        a_visitor,
        a_session,
    )
}


Bytes = dict[str, bytes]


def opened(office: Office) -> "closing[sqlite3.Connection]":
    """The database's file, without what SQLAlchemy costs: it is read thousands of times."""
    return closing(sqlite3.connect(office.settings.database.removeprefix("sqlite:///")))


async def snapshot(office: Office) -> Bytes:
    """Every row of every table, and every value of Redis, by where it is."""
    kept: Bytes = {}
    with opened(office) as file:
        for table in Base.metadata.tables.values():
            names = [column.name for column in table.primary_key]
            key = ", ".join(f'"{name}"' for name in names)
            for row in file.execute(f"select {key}, * from {table.name}"):
                kept[f"{table.name} {row[: len(names)]!r}"] = repr(row[len(names) :]).encode()
    async for key in office.redis.scan_iter("*"):
        kept[key.decode()] = await office.redis.dump(key) or b""
    return kept


async def emptied(office: Office) -> None:
    await office.redis.flushdb()
    with opened(office) as file:
        for table in Base.metadata.tables:
            file.execute(f"delete from {table}")
        file.commit()


@pytest.fixture
def office(redis: Redis, each_settings: Settings, database: Database) -> Office:
    return Office(redis, database, each_settings)


@on_sqlite
@settings(
    max_examples=either(40, 2_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(worlds())
@example(("1001", [("a_message", {"users": ["u7"], "word": "1001"}, {"u7"})]))
@example(("text", [("a_call", {"users": ["u7"], "word": "text"}, {"u7"})]))
@example(("7", [("an_unresolved_job", {"users": ["7"], "word": "7"}, set())]))
@example(("张%_", [("a_kept_call", {"users": ["张%_"], "word": "x"}, {"张%_"})]))
@example(("a", [("a_visitor", {"users": ["ab", "a"], "word": "x"}, {"ab", "a"})]))
@example(("a", [("a_visitor", {"users": ["ab"], "word": "x"}, {"ab"})]))
@example(("text", [("a_draft", {"users": ["u7"], "word": "text"}, {"u7"})]))
@example(("a", [("a_change", {"users": ["ab"], "word": "a"}, {"ab"})]))
async def test_what_is_about_others_stays_as_it_was(
    office: Office, world: tuple[str, Sequence[tuple[str, dict[str, Any], set[str]]]]
) -> None:
    person, things = world
    await emptied(office)
    before: Bytes = {}
    others: Bytes = {}
    for kind, fields, _ in things:
        thing = {**fields, "users": list(fields["users"])}
        await THINGS[kind](office, thing)
        after = await snapshot(office)
        added = {place: value for place, value in after.items() if before.get(place) != value}
        if person not in thing["users"]:
            others |= {place: value for place, value in added.items() if not _is_index(place)}
        before = after
    since = datetime.now(UTC)
    erasing = await office.passes.erase(person, app=None, since=since, tombstone=office.tombstone)
    assert erasing.left == []
    left = await snapshot(office)
    assert {place: left.get(place) for place in others} == others
    exported = await office.passes.export(DataSubject(person))
    assert not any(exported.values()), exported
    again = await office.passes.erase(person, app=None, since=since, tombstone=office.tombstone)
    assert (again.changed.total(), await snapshot(office)) == (0, left)
    assert since > LONG_AGO


def _is_index(place: str) -> bool:
    """Whether it is one key for all jobs, from which those that are discarded go."""
    return place.startswith(keys.PREFIX) and not place.startswith(
        (keys.job(""), keys.robot_session(""))
    )
