"""How long lists of jobs and of what a person got take beside millions of rows of history.

    python -m bench.history sqlite:////tmp/history.db --rows 5000000
    python -m bench.history postgresql://… --rows 5000000

The tables are made if they are not there, and filled inside the database, which must be empty or hold what
an earlier run has made. Apps, senders, kinds and states are as uneven as they are in practice: one app and
one state have most of the rows, one sender has none for months.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text

from dingrelay_producers.client.history_backend import JobFilter
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import State
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import upgrade
from dingrelay_workers.history.backend import SqlHistory
from dingrelay_workers.history.models import JobRow, RecipientRow

DAYS = 90
PEOPLE = 20_000
LIMIT = 50
"""Rows that are asked for: what the commands show if nobody says otherwise."""
TIMES = 7

JOBS = """
insert into job_history (job, kind, app, sender, key, lane, state, created_at, started_at, ended_at,
  attempts, throttles, error_class, error_code, ids, summary, content)
select {job}, case when n % 50 = 0 then 'approval-create' else 'message-send' end,
  case when n % 20 = 0 then 'hr' else 'default' end,
  case when n < 1000 then 'rare' when n % 7 = 0 then 'crm' else '' end, '',
  case when n % 10 = 0 then 'urgent' when n % 3 = 0 then 'bulk' else 'normal' end,
  case when n % 1000 = 0 then 'dead' else 'done' end,
  {moment}, {moment}, {moment}, 1, 0, case when n % 1000 = 0 then 'permission' else '' end,
  case when n % 1000 = 0 then '60011' else '' end, '["256000000001"]',
  'message-send app=default lane=normal text to 1 user', null
from {numbers}
"""
RECIPIENTS = """
insert into job_recipients (job, "user", outcome, at)
select {job}, 'u' || (n % {people}), case when n % 1000 = 0 then 'not_sent' else 'accepted' end, {moment}
from {numbers}
"""
SPELLED = {
    "sqlite": {
        "job": "printf('00000000-0000-4000-8000-%012d', n)",
        "moment": "strftime('%Y-%m-%d %H:%M:%f000', {began}+n*{step}, 'unixepoch')",
        "numbers": "(with recursive c(n) as (select {first} union all select n+1 from c where n<{last})"
        " select n from c) s",
    },
    "postgresql": {
        "job": "'00000000-0000-4000-8000-' || lpad(n::text, 12, '0')",
        "moment": "to_timestamp({began}+n*{step})",
        "numbers": "generate_series({first}, {last}) s(n)",
    },
}
AT_ONCE = 500_000


async def fill(database: Database, rows: int) -> None:
    """Make so many jobs of the last `DAYS`, one person each."""
    spelled = SPELLED["sqlite" if database.is_sqlite else "postgresql"]
    async with database.read() as connection:
        known = await connection.scalar(select(func.count()).select_from(JobRow)) or 0
    began = (datetime.now(UTC) - timedelta(days=DAYS)).timestamp()
    if known < rows:
        await _index(database, there=False)
    for first in range(known, rows, AT_ONCE):
        values = {
            "began": round(began),
            "step": DAYS * 86_400 / rows,
            "first": first,
            "last": min(first + AT_ONCE, rows) - 1,
            "people": PEOPLE,
        }
        parts = {name: part.format(**values) for name, part in spelled.items()}
        async with database.write("bench") as connection:
            if not database.is_sqlite:
                # The keys of others need no look: these rows are made together.
                await connection.execute(text("set local session_replication_role = replica"))
            for statement in (JOBS, RECIPIENTS):
                await connection.execute(text(statement.format(**parts, **values)))
        print(f"{values['last'] + 1:,} rows", flush=True)
    await _index(database, there=True)
    async with database.write("bench") as connection:
        await connection.execute(text("analyze"))


async def _index(database: Database, *, there: bool) -> None:
    """Make the indexes anew, or drop them: it takes a tenth to make them once all rows are there."""
    for table in (JobRow, RecipientRow):
        for index in sorted(table.__table__.indexes, key=lambda each: str(each.name)):
            async with database.write("bench") as connection:
                act = index.create if there else index.drop
                await connection.run_sync(act, checkfirst=True)


def questions(history: SqlHistory) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What is asked, by its name."""
    now = datetime.now(UTC)
    filters: dict[str, dict[str, Any]] = {
        "list": {},
        "list --state dead": {"state": State.DEAD},
        "list --state expired (none)": {"state": State.EXPIRED},
        "list --app hr": {"app": "hr"},
        "list --kind approval-create": {"kind": "approval-create"},
        "list --sender crm": {"sender": "crm"},
        "list --sender rare (90 days ago)": {"sender": "rare"},
        "list --lane urgent": {"lane": "urgent"},
        "list --app hr --state dead": {"app": "hr", "state": State.DEAD},
        "list --sender rare --state dead": {"sender": "rare", "state": State.DEAD},
        "list --app nobody": {"app": "nobody"},
        "list --lane none": {"lane": "none"},
        "list --to u7": {"to": "u7"},
        "list --to u7 --state dead": {"to": "u7", "state": State.DEAD},
        "list --to nobody": {"to": "nobody"},
        "list --since 1d --state dead": {"since": now - timedelta(days=1), "state": State.DEAD},
        "list --until 60d --app hr": {"until": now - timedelta(days=60), "app": "hr"},
    }

    def ask(fields: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: history.list(JobFilter(**fields), before=None, limit=LIMIT)

    found = {name: ask(fields) for name, fields in filters.items()}
    found["who u7"] = lambda: history.person("u7", app=None, limit=LIMIT)
    found["who u7 --app hr"] = lambda: history.person("u7", app="hr", limit=LIMIT)
    found["who nobody"] = lambda: history.person("nobody", app=None, limit=LIMIT)
    found["find one"] = lambda: history.find(["00000000-0000-4000-8000-000000000007"])
    found["find by prefix"] = lambda: history.beginning("00000000-0000-4000-8000-0000000000", 10)
    return found


async def measure(settings: Settings, database: Database | None) -> dict[str, float]:
    """Milliseconds of each question, the median of some.

    Args:
        settings: where the history is.
        database: already open, as a gateway has it; None opens one each time, as a command does.
    """
    found: dict[str, float] = {}
    for name, ask in questions(SqlHistory(settings, database)).items():
        await ask()
        times: list[float] = []
        for _ in range(TIMES):
            began = time.perf_counter()
            await ask()
            times.append((time.perf_counter() - began) * 1000)
        found[name] = round(statistics.median(times), 1)
        print(f"{found[name]:8.1f} ms  {name}", flush=True)
    return found


async def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--most", type=float, help="end with an error if one takes longer (ms)")
    given = parser.parse_args()
    settings = Settings.load(env="test", database_url=given.url)
    await asyncio.to_thread(upgrade, given.url)
    database = Database(given.url)
    await fill(database, given.rows)
    async with database.read() as connection:
        sizes = [
            await connection.scalar(select(func.count()).select_from(table))
            for table in (JobRow, RecipientRow)
        ]
    print(f"{sizes[0]:,} jobs, {sizes[1]:,} recipients")
    found = await measure(settings, database)
    await database.dispose()
    print("with a connection of its own:")
    own = await measure(settings, None)
    print(json.dumps({"open": found, "own": own}))
    if given.most and max(found.values()) > given.most:
        raise SystemExit(f"some take longer than {given.most:g} ms")


if __name__ == "__main__":
    asyncio.run(main())
