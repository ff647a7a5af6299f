"""Chaos: excuses, and thresholds of a change, of growth and of a growing set."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from redis import Redis
from sqlalchemy import text

from dingrelay_chaos.dingtalk import text_of
from dingrelay_chaos.evidence import TOO_MANY_A_DAY, Evidence, Snapshot
from dingrelay_chaos.faults import Fault
from dingrelay_chaos.invariants.campaigns import _people
from dingrelay_chaos.invariants.changes import violations
from dingrelay_chaos.invariants.month import UncertainCalls
from dingrelay_chaos.invariants.traces import MOST_RECENT, _keys
from dingrelay_chaos.operations import Send
from dingrelay_chaos.requests import FaultTime, Request, Requests
from dingrelay_chaos.soak import BOUNDS, MORE_OF_OTHERS, Sample, grown
from dingrelay_chaos.valkey import Lost, replicated_until
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import enqueue
from dingrelay_producers.store.scripts import run
from dingrelay_workers.database.database import CONNECTIONS, OVERFLOW, Database
from support.jobs import a_draft

MIDNIGHT = datetime(2026, 11, 26, 16, tzinfo=UTC).timestamp()
"""Midnight in Beijing."""


def entry(content: str, reason: str = "", at: float = MIDNIGHT + 3) -> Any:
    message = {"text": {"content": content}}
    return {"user": "u1", "at": at, "message": message, "reason": reason, "call_id": 1}


def snapshot_of(entries: list[Any]) -> Snapshot:
    snapshot = Snapshot.__new__(Snapshot)
    snapshot.entries, snapshot.calls = entries, []
    return snapshot


def excused(messages: list[Request[Send]], entries: list[Any]) -> set[str]:
    """The contents that a person may have missed in silence."""
    snapshot = snapshot_of(entries)
    schedule: Any = SimpleNamespace(setting=SimpleNamespace(recipients="5000/60s"))
    found = Evidence.__new__(Evidence)
    found.schedule, found.snapshot, found.lost = schedule, snapshot, []
    found.requests = Requests(jobs=messages)
    for content in {each.what.tag for each in messages}:
        assert found.unreachable(content, "u1") is ((content, "u1") in found.beyond_the_day)
    return {content for content, _ in found.beyond_the_day}


def plain(content: str, **more: Any) -> Request[Send]:
    return Request(1, 0.0, Send(content, **more))


@pytest.mark.parametrize(
    "how", [{"everyone": True}, {"departments": (2,)}, {"allow_duplicate": True}]
)
def test_uncounted_messages_may_be_dropped(how: dict[str, Any]) -> None:
    dropped = [entry("in any case", TOO_MANY_A_DAY), entry("counted", TOO_MANY_A_DAY)]
    messages = [plain("in any case", **how), plain("counted")]
    assert excused(messages, dropped) == {"in any case"}


def test_each_message_to_departments_that_arrived_excuses_one_other() -> None:
    messages = [plain("theirs", departments=(2,)), plain("one"), plain("two")]
    arrived, one, two = entry("theirs"), entry("one", TOO_MANY_A_DAY), entry("two", TOO_MANY_A_DAY)
    assert excused(messages, [arrived, one]) == {"one"}
    assert excused(messages, [arrived, one, two]) == set()


def test_messages_dropped_for_another_reason_are_not_excused() -> None:
    assert excused([plain("one", everyone=True)], [entry("one", "143103")]) == set()


def test_a_message_to_departments_excuses_none_of_the_next_day() -> None:
    messages = [plain("theirs", departments=(2,)), plain("one")]
    entries = [entry("theirs", at=MIDNIGHT - 3), entry("one", TOO_MANY_A_DAY)]
    assert excused(messages, entries) == set()


def test_an_equal_message_after_midnight_is_another_one() -> None:
    before, after = entry("one", at=MIDNIGHT - 3), entry("one")
    assert snapshot_of([before, after]).delivered("one", "u1") == 1
    assert snapshot_of([after, after]).delivered("one", "u1") == 2


def test_received_messages_are_counted_by_day() -> None:
    before, after = entry("one", at=MIDNIGHT - 3), entry("two")
    assert snapshot_of([before, after]).received("u1") == 1
    assert snapshot_of([after, entry("one")]).received("u1") == 2


def entry_of_chaos_campaigns(text: str, reason: str) -> dict[str, Any]:
    message = {"text": {"content": text}}
    return {"user": "u1", "message": message, "reason": reason, "call_id": "c1"}


@pytest.mark.parametrize(
    ("outcome", "entries", "excused"),
    [
        ("accepted", [entry_of_chaos_campaigns("campaign 1", TOO_MANY_A_DAY)], True),
        ("duplicate", [entry_of_chaos_campaigns("campaign 1", TOO_MANY_A_DAY)], True),
        ("accepted", [entry_of_chaos_campaigns("another", TOO_MANY_A_DAY)], False),
        (
            "cancelled",
            [
                entry_of_chaos_campaigns("campaign 1", ""),
                entry_of_chaos_campaigns("another", TOO_MANY_A_DAY),
            ],
            False,
        ),
    ],
)
def test_only_the_message_that_was_dropped_is_excused(
    outcome: str, entries: list[dict[str, Any]], *, excused: bool
) -> None:
    snapshot = SimpleNamespace(entries=entries, received=lambda user: 500)
    beyond = {(text_of(each), "u1") for each in entries if each["reason"]}
    evidence: Any = SimpleNamespace(snapshot=snapshot, uncounted=set(), beyond_the_day=beyond)
    request: Any = SimpleNamespace(job="c", what=SimpleNamespace(users=["u1"], tag="campaign 1"))
    report: Any = SimpleNamespace(people=[{"userid": "u1", "outcome": outcome}])
    assert (not list(_people(evidence, request, report))) is excused


OPENED, MIDST, LAST = (f"2026-01-01T00:00:{second:02}+00:00" for second in (0, 5, 10))


def row(event: str, *fields: str) -> dict[str, Any]:
    """A run's finding about a person, the last of it at `LAST`."""
    found = {"userid": "u1", "event": event, "fields": json.dumps(fields)}
    return {**found, "opened_at": OPENED, "at": LAST}


def notice(what: str, at: str, *changed: str, name: str = "A") -> dict[str, Any]:
    data = {"userid": "u1", "name": name, **({"changed": [*changed]} if changed else {})}
    return {"type": f"directory.user.{what}", "at": at, "data": data}


NAME = notice("changed", LAST, "name")
ADDED, LEFT = notice("added", LAST), notice("left", LAST)


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), [NAME]),
        (row("changed", "name"), [notice("changed", MIDST, "name", name="B"), NAME]),
        (row("changed", "name", "title"), [notice("changed", MIDST, "title"), NAME]),
        (row("added"), [ADDED]),
        (row("added"), [notice("added", MIDST), NAME]),
        (row("left"), [notice("added", MIDST), LEFT]),
        (row("left"), [notice("changed", MIDST, "name"), LEFT]),
        (row("gone"), []),
    ],
)
def test_true_notices_pass(found: dict[str, Any], notices: list[dict[str, Any]]) -> None:
    assert not list(violations([found], notices, 0))


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), []),
        (row("changed", "name"), [NAME, NAME]),
        (row("changed", "name"), [notice("changed", MIDST, "name"), NAME]),
        (row("changed", "name", "title"), [NAME]),
        (row("added"), [ADDED, ADDED]),
        (row("added"), [notice("added", MIDST), ADDED]),
        (row("added"), [NAME]),
        (row("left"), [LEFT, LEFT]),
        (row("left"), [notice("left", MIDST), LEFT]),
        (row("gone"), [NAME, NAME]),
    ],
)
def test_wrong_notices_are_found(found: dict[str, Any], notices: list[dict[str, Any]]) -> None:
    assert len(list(violations([found], notices, 0))) == 1


@pytest.mark.parametrize(("more", "grows"), [(0, False), (MOST_RECENT, True)])
def test_untrimmed_jobs_are_no_growth(valkey_url: str, more: int, *, grows: bool) -> None:
    with Redis.from_url(valkey_url) as redis:
        older = {f"old{number}": number for number in range(keys.RECENT_JOBS)}
        redis.zadd(keys.RECENT, older)
        redis.pexpire(keys.RECENT, keys.RECENT_TTL_MS)  # trimmed just now
        run(redis, enqueue(a_draft()))
        if more:
            redis.zadd(keys.RECENT, {f"more{number}": number for number in range(more)})
        assert bool([*_keys(redis)]) is grows


def series(what: str, before: float, after: float) -> list[Sample]:
    """Ten samples of a worker, of which the last three show the later value."""
    return [Sample(at, "w1", what, before if at < 7 else after) for at in range(10)]


@pytest.mark.parametrize(("what", "most"), BOUNDS.items())
def test_a_pool_may_grow_to_its_bound_and_no_further(what: str, most: float) -> None:
    assert grown(series(what, 12, most)) == []
    assert grown(series(what, 12, most + 1)) == [f"w1: {what} from 12 to {most + 1:.0f}"]


@pytest.mark.parametrize("what", ["descriptors", "threads"])
def test_samples_without_a_bound_may_not_grow(what: str) -> None:
    assert grown(series(what, 40, 40 + MORE_OF_OTHERS)) == []
    assert grown(series(what, 40, 41 + MORE_OF_OTHERS)) == [f"w1: {what} from 40 to 49"]


async def test_a_busy_moment_opens_as_many_files_as_the_bound_says(tmp_path: Path) -> None:
    file = tmp_path / "dingrelay.db"
    database = Database(f"sqlite:///{file}")
    async with database.write("app") as connection:
        await connection.execute(text("create table people (name)"))
    ended = asyncio.Event()
    open_now = asyncio.Semaphore(0)

    async def read() -> None:
        async with database.read() as connection:
            await connection.execute(text("select * from people"))
            open_now.release()
            await ended.wait()

    readers = [asyncio.create_task(read()) for _ in range(CONNECTIONS + OVERFLOW + 1)]
    for _ in range(CONNECTIONS + OVERFLOW):
        await open_now.acquire()
    assert open_files(file) == BOUNDS["database files"]
    ended.set()
    await asyncio.gather(*readers)
    await database.dispose()
    assert open_files(file) == 0


def open_files(file: Path) -> int:
    """How many descriptors of this process are of the database."""
    return sum(each.path.startswith(str(file)) for each in psutil.Process().open_files())


def a_call(number: float, *, connection: int = 1, closed: float | None = None, **more: Any) -> Any:
    """A counted call at so many seconds, answered at once."""
    row = {"id": number, "answered": float(number), "closed": closed, "connection": connection}
    return {**row, "fault": "", "counted": True, **more}


def month_of(calls: list[Any], *faults: FaultTime, lost: tuple[Lost, ...] = ()) -> UncertainCalls:
    found: Any = Evidence.__new__(Evidence)
    found.snapshot = SimpleNamespace(calls=calls)
    found.requests, found.lost = Requests(faults=[*faults]), lost
    found.system = SimpleNamespace(began=0.0)
    return UncertainCalls(found)


def fault_at(name: str, began: float, ended: float) -> FaultTime:
    return FaultTime(Fault(name, ended - began, {"worker": 0}), began, ended)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (a_call(5), ""),
        (a_call(5, closed=36.0), ""),
        (a_call(5, closed=8.2), "given up"),
        (a_call(5, closed=4.9), "given up"),
        (a_call(5, fault="lost_answer"), "spoilt"),
        (a_call(5, answered=None), "under way"),
    ],
)
def test_a_call_that_was_given_up_may_be_missing_from_the_month(call: Any, reason: str) -> None:
    month = month_of([call])
    assert dict(month.missed) == ({reason: 1} if reason else {})
    assert not month.excess


def test_a_call_that_dingtalk_does_not_count_may_be_counted_only_if_its_answer_was_spoilt() -> None:
    calls = [a_call(1, counted=False), a_call(2, counted=False, fault="wrong_types")]
    month = month_of(calls)
    assert (dict(month.missed), dict(month.excess)) == ({}, {"spoilt": 1})


def test_a_killed_worker_may_have_reported_none_of_its_last_second() -> None:
    calls = [a_call(1), a_call(8), a_call(9, closed=9.7), a_call(9.1, connection=2)]
    kill = fault_at("kill", 9.6, 12)
    month = month_of(calls, kill)
    assert dict(month.missed) == {"given up": 1}
    month = month_of([a_call(9), *calls], kill)
    assert dict(month.missed) == {"given up": 1, "of a worker that ended": 1}


def test_a_worker_that_ends_while_redis_is_away_has_reported_nothing_since() -> None:
    calls = [a_call(1), a_call(5), a_call(7), a_call(9, closed=9.7)]
    ended = fault_at("terminate", 8, 12)
    assert dict(month_of(calls, ended).missed) == {"given up": 1}
    month = month_of(calls, ended, fault_at("valkey_freeze", 6, 8))
    assert dict(month.missed) == {"given up": 1, "of a worker that ended": 2}


def test_a_failover_may_lose_the_reports_of_its_last_moments() -> None:
    calls = [a_call(1), a_call(4.5), a_call(5.5), a_call(7)]
    month = month_of(calls, lost=(Lost(5, 6),))
    assert dict(month.missed) == {"reported to a Redis that was lost": 2}


def test_what_a_failover_loses_begins_where_the_replica_ends() -> None:
    written = [(1.0, 0), (1.1, 500), (1.2, 900), (1.9, 1_400)]
    assert replicated_until(written, 1_400) == 1.9
    assert replicated_until(written, 899) == 1.1
