"""A large history, directory and broadcast, which the database writes itself."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from sqlalchemy import Connection, insert, text

from dingrelay_producers.store import keys, record, scripts
from dingrelay_tasks import MessageSend
from dingrelay_workers.campaigns.documents import DraftContent
from dingrelay_workers.campaigns.models import CampaignRow, IndexRow, ReviewRow
from dingrelay_workers.campaigns.people_index import PeopleIndex, bits_for
from dingrelay_workers.campaigns.sources import Written
from dingrelay_workers.campaigns.store import empty_row
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.outbox.models import EndpointRow

DEAD, WAITING = 2_000, 2_000
"""Jobs in Redis."""
DEPARTMENTS, BROADCASTS, APPROVALS, ENDPOINTS = 200, 300, 20_000, 20
DAYS = 90
SIZE = 100
"""People of a call."""
DRAFT = "d0000000-0000-4000-8000-000000000000"

NUMBERS = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {})"
DIALECTS = {
    "sqlite": {
        "id": "printf('%08x-0000-4000-8000-%012x', n, n)",
        "at": "strftime('%Y-%m-%d %H\\:%M\\:%S.000000', {}, 'unixepoch')",
        "users": "group_concat('u' || (({size} * (c.n - 1)) + p.n), ',')",
        "indexes": "select name, sql from sqlite_master where type = 'index' and name like 'ix_job_%'",
    },
    "postgresql": {
        "id": "lpad(to_hex(n), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0')",
        "at": "to_timestamp({})",
        "users": "string_agg('u' || (({size} * (c.n - 1)) + p.n), ',')",
        "indexes": "select indexname, indexdef from pg_indexes where indexname like 'ix_job_%'",
    },
}
JOBS = """
    insert into job_history (job, kind, app, sender, key, lane, state, created_at, started_at, ended_at, attempts,
        throttles, error_class, error_code, ids, summary)
    {numbers} select {id}, case when n % 20 = 0 then 'robot-message' else 'message-send' end, 'app' || (n % 3),
        'sender' || (n % 20), '', case when n % 5 = 0 then 'urgent' else 'normal' end,
        case when n % 200 = 0 then 'dead' when n % 300 = 0 then 'expired' else 'done' end, {at}, {at}, {at}, 1, 0,
        case when n % 200 = 0 then 'not_found' else '' end, case when n % 200 = 0 then '60121' else '' end,
        '["1"]', 'message-send app=app' || (n % 3) || ' lane=normal 1 users text'
    from numbers
    """
RECIPIENTS = """
    insert into job_recipients (job, "user", outcome, at)
    {numbers} select {id}, 'u' || (n % {people} + 1), case when n % 50 = 0 then 'duplicate' else 'accepted' end, {at}
    from numbers
    """
CHUNKS = """
    insert into campaign_chunks (campaign, number, state, size, users, accepted, ambiguous, task_id, called_at)
    {numbers}, people(n) as (select n from numbers where n <= {size})
    select '{campaign}', c.n - 1, 'settled', {size}, {users}, {size}, false, c.n, {at}
    from numbers c cross join people p group by c.n
    """
OUTCOMES = """
    insert into campaign_outcomes (campaign, userid, chunk, outcome, reason)
    {numbers} select '{campaign}', 'u' || (n * 100), n - 1, 'duplicate', '' from numbers
    """
APPROVED = """
    insert into approvals (app, instance, job, sender, template, originator, title, business_id, link, state,
        source, created_at, known_at, changed_at, looks)
    {numbers} select 'app' || (n % 3), 'instance' || n, '', 'sender' || (n % 20), 'PROC', 'u' || n, 'Leave', 'b' || n, '',
        case when n % 9 = 0 then 'running' else 'approved' end, 'event', {at}, {at}, {at}, 1 from numbers
    """


def fill_redis(url: str) -> None:
    """Jobs that wait, and such that have failed."""
    to = {"message": {"msgtype": "text", "text": {"content": "x"}}}
    with Redis.from_url(url) as redis:
        jobs = [
            record.draft(MessageSend.parse({"to": {"users": [f"u{number}"]}, **to}))
            for number in range(DEAD + WAITING)
        ]
        scripts.run_many(redis, [record.enqueue(job) for job in jobs])
        error = json.dumps({"class": "not_found", "code": "60121", "message": "no such person"})
        now = int(time.time() * 1000)
        pipe = redis.pipeline(transaction=False)
        for job in jobs[:DEAD]:
            pipe.hset(keys.job(job.id), mapping={"state": "dead", "settled": now, "error": error})
            pipe.zadd(keys.DEAD, {job.id: now})
            pipe.zrem(keys.SCHEDULE, job.id)
        pipe.expire(keys.DEAD, DAYS * 86_400)
        pipe.execute()


def fill(database_url: str, jobs: int, people: int, campaign: int) -> None:
    """Fill an empty database; indexes are made at the end, which takes a tenth of the time."""
    engine = sync_engine(database_url)
    dialect = engine.dialect.name
    try:
        with engine.connect() as connection:
            if dialect == "sqlite":
                connection.exec_driver_sql("pragma foreign_keys = off")
                connection.exec_driver_sql("begin")
            else:
                connection.exec_driver_sql("set session_replication_role = replica")
            indexes = connection.execute(text(DIALECTS[dialect]["indexes"])).all()
            for name, _ in indexes:
                connection.exec_driver_sql(f"drop index {name}")
            _run(connection, JOBS, jobs)
            _run(connection, RECIPIENTS, jobs, people=people)
            for _, made in indexes:
                connection.exec_driver_sql(made)
            _directory(connection, people)
            broadcasts = min(BROADCASTS, jobs // 100)
            for number in range(broadcasts):
                _broadcast(connection, number, campaign if number == broadcasts - 1 else 5 * SIZE)
            _draft(connection, broadcasts, campaign)
            _run(connection, APPROVED, min(jobs, APPROVALS))
            connection.commit()
        if dialect != "sqlite":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("vacuum analyze")
    finally:
        engine.dispose()


def _run(connection: Connection, statement: str, rows: int, **more: object) -> None:
    words = DIALECTS[connection.dialect.name]
    # The last one is of now, and the first one of the days before.
    at = words["at"].format(f"{time.time():.1f} - {DAYS * 86_400}.0 * ({rows} - {{n}}) / {rows}")
    values = {
        "id": words["id"],
        "at": at.format(n="c.n" if statement is CHUNKS else "n"),
        "users": words["users"].format(size=SIZE),
        "numbers": NUMBERS.format(rows),
        "size": SIZE,
    }
    connection.execute(text(statement.format(**values, **more)))


def _add(connection: Connection, table: type[Base], *rows: dict[str, Any]) -> None:
    connection.execute(insert(table), rows)


def _directory(connection: Connection, people: int) -> None:
    of: dict[str, Any] = {"app": "app1", "met_in": 1}
    users = [f"u{number + 1}" for number in range(people)]
    numbers = range(1, DEPARTMENTS + 1)
    departments = ({"id": each, "parent": 1, "name": f"部门{each - 1}"} for each in numbers)
    _add(connection, DepartmentRow, *(of | {"fields": {}} | each for each in departments))
    named = ({"userid": user, "name": f"员工{user[1:]}", "fields": {}} for user in users)
    _add(connection, UserRow, *(of | each for each in named))
    places = ({"userid": user, "department": int(user[1:]) % DEPARTMENTS + 1} for user in users)
    _add(connection, MembershipRow, *(of | each for each in places))
    lists: dict[str, Any] = {name: [] for name in ("types", "apps", "senders", "kinds", "secrets")}
    moments = dict.fromkeys(("created_at", "changed_at", "enabled_at"), datetime.now(UTC))
    endpoint = {"url": "https://example.com/", "state": "enabled", "reason": "", **lists, **moments}
    named = ({"id": f"drw_{number}", "name": f"e{number}"} for number in range(ENDPOINTS))
    _add(connection, EndpointRow, *(endpoint | each for each in named))


def _draft(connection: Connection, number: int, people: int) -> None:
    """A draft, and a broadcast like it that is ready and waits for its approval."""
    text = {"msgtype": "text", "text": {"content": "x"}}
    content = {"name": "draft", "app": "app1", "message": text, "everyone": True}
    draft = empty_row(DRAFT, Written(DraftContent.parse(content)), "u1")
    _add(connection, CampaignRow, draft)
    campaign = _broadcast(connection, number, people, "draft", content=draft["content"])
    now = datetime.now(UTC)
    asked = {"campaign": campaign, "digest": "", "asked_by": "u1", "asked_at": now}
    _add(connection, ReviewRow, asked | {"decision": "", "decided_by": "", "reason": ""})


def _broadcast(
    connection: Connection, number: int, people: int, state: str = "", **fields: Any
) -> str:
    campaign = f"{number:08x}-0000-4000-8000-{number:012x}"
    chunks, bits = people // SIZE, bits_for(people)
    row = {
        "id": campaign,
        "app": "app1",
        "name": f"broadcast {number}",
        "state": state or ("running" if people > 5 * SIZE else "done"),
        "reason": "",
        "message": {"msgtype": "text", "text": {"content": "x"}},
        "created_at": datetime.now(UTC),
        "started_at": None if state else datetime.now(UTC),
        "quiet": "",
        "weight": 1,
        "error_share": 0.2,
        "index_bits": bits,
        **dict.fromkeys(("recipients", "accepted"), people),
        **dict.fromkeys(("chunks", "settled", "calls"), chunks),
        **dict.fromkeys(("duplicates", "malformed", "left_out", "failed"), 0),
        **fields,
    }
    _add(connection, CampaignRow, row)
    _run(connection, CHUNKS, chunks, campaign=campaign)
    _run(connection, OUTCOMES, chunks, campaign=campaign)
    index = PeopleIndex(campaign, bits)
    for chunk in range(chunks):
        index.add(chunk, [f"u{SIZE * chunk + person + 1}" for person in range(SIZE)])
    _add(connection, IndexRow, *index.rows())
    return campaign
