"""The table of approvals on real databases: what comes late, twice and in any order."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import LOOKS
from dingrelay_tasks.context import ApprovalChange, ApprovalTask
from dingrelay_workers.approvals.models import ApprovalTaskRow
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.approvals.store import KEPT, ApprovalStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.store.wakeup import LONGEST_ID
from support.examples import either
from support.rows import all_of

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIRST_LOOK = timedelta(seconds=LOOKS[0])


def task(number: int, state: str, user: str = "boss") -> ApprovalTask:
    ended = None if state == "running" else AT + MINUTE
    return ApprovalTask(id=str(number), user=user, state=state, since=AT, ended=ended)  # type: ignore[arg-type]


def a_change(source: str = "event", **fields: object) -> ApprovalChange:
    return ApprovalChange(instance="i1", source=source, **fields)  # type: ignore[arg-type]


@pytest.fixture
def empty(database: Database) -> ApprovalStore:
    return ApprovalStore(database, "default")


@pytest.fixture
async def store(empty: ApprovalStore) -> ApprovalStore:
    """It follows the approval."""
    await opened(empty)
    return empty


async def opened(store: ApprovalStore, at: datetime = AT) -> None:
    await store.open("i1", job="j1", template="PROC-1", originator="u1", sender="crm", at=at)


STORY: Sequence[ApprovalChange] = [
    a_change(state="running", title="Trip", business_id="2026", created=AT),
    a_change(tasks=[task(1, "running"), task(2, "running", "other")]),
    a_change(tasks=[task(1, "agreed")]),
    a_change(tasks=[task(2, "cancelled", "other")]),
    a_change(state="approved", finished=AT + MINUTE),
]


@pytest.mark.parametrize("seed", range(either(2, 6)))
async def test_the_order_of_events_does_not_matter(
    database: Database, store: ApprovalStore, seed: int
) -> None:
    events = [*STORY, *STORY]
    random.Random(seed).shuffle(events)
    for index, event in enumerate(events):
        assert await store.record(event, at=AT + index * MINUTE) is not None
    row = await store.find("i1")
    assert (row["state"], row["title"], row["business_id"]) == ("approved", "Trip", "2026")
    assert (row["created_at"], row["finished_at"]) == (AT, AT + MINUTE)
    assert row["look_at"] is None
    tasks = {each["task"]: each["state"] for each in await all_of(database, ApprovalTaskRow)}
    assert tasks == {"1": "agreed", "2": "cancelled"}


async def test_only_what_is_new_counts_as_moved(store: ApprovalStore) -> None:
    first = await store.record(STORY[1], at=AT)
    assert first is not None
    assert [each.id for each in first.tasks] == ["1", "2"]
    again = await store.record(STORY[1], at=AT)
    assert (again.state, list(again.tasks)) == (None, [])
    end = await store.record(a_change(state="refused"), at=AT)
    assert (end.state, list(end.tasks)) == ("refused", [])
    late = await store.record(a_change(state="approved"), at=AT)
    assert (late.state, late.row["state"]) == (None, "refused")
    gone = await store.record(a_change(state="deleted"), at=AT)
    assert gone.state == "deleted"


async def test_the_decider_is_never_guessed(store: ApprovalStore) -> None:
    await store.record(STORY[1], at=AT)
    end = await store.record(a_change(state="refused"), at=AT)
    assert end.row["look_at"] == AT + FIRST_LOOK
    late = await store.record(a_change(tasks=[task(1, "refused")]), at=AT + MINUTE)
    assert late is not None
    assert [(each.id, each.state) for each in late.tasks] == [("1", "refused")]
    assert late.row["look_at"] == AT + FIRST_LOOK
    # One that was asked before the end, and one that was asked after it.
    stale = await store.record(a_change("look", state="running", tasks=[task(2, "running")]), at=AT)
    assert list(stale.tasks) == []
    assert stale.row["look_at"] == AT + FIRST_LOOK
    last = await store.record(a_change("look", state="refused"), at=AT + FIRST_LOOK)
    assert last is not None
    assert [(each.id, each.state) for each in last.tasks] == [("2", "cancelled")]
    assert last.row["look_at"] is None
    # A task that starts after the end is ignored.
    again = await store.record(a_change(tasks=[task(3, "running")]), at=AT + FIRST_LOOK)
    assert (list(again.tasks), again.row["look_at"]) == ([], None)


async def test_nothing_is_recorded_of_what_nobody_follows(database: Database) -> None:
    store = ApprovalStore(database, "default")
    assert await store.record(STORY[0], at=AT) is None
    await opened(store)
    assert await ApprovalStore(database, "other").find("i1") is None


async def test_a_job_that_comes_after_the_event_gives_the_row_its_name(
    empty: ApprovalStore,
) -> None:
    await empty.open("i1", job="", template="PROC-1", originator="", sender="", at=AT)
    await opened(empty, AT + MINUTE)
    row = await empty.find("i1")
    assert (row["job"], row["sender"], row["originator"]) == ("j1", "crm", "u1")
    assert row["known_at"] == AT


async def test_the_job_may_have_the_longest_id_that_there_is(empty: ApprovalStore) -> None:
    job = "x" * LONGEST_ID
    row = await empty.open("i1", job=job, template="PROC-1", originator="u1", sender="", at=AT)
    assert row["job"] == job


async def test_each_look_without_an_end_makes_the_next_one_later(store: ApprovalStore) -> None:
    at, delays = AT, list[timedelta]()
    for _ in range(5):
        moved = await store.record(a_change("look", state="running"), at=at)
        delays.append(moved.row["look_at"] - at)
        at = moved.row["look_at"]
    assert [delay.total_seconds() for delay in delays] == [*LOOKS[1:], LOOKS[-1], LOOKS[-1]]
    recorded = await store.record(replace(STORY[0], title="x"), at=at)
    assert recorded.row["looks"] == 5, "an event costs no call"


async def test_approvals_that_ended_long_ago_go_with_their_tasks(database: Database) -> None:
    store, other = ApprovalStore(database, "default"), ApprovalStore(database, "hr")
    names = {"template": "PROC-1", "originator": "u1", "sender": ""}

    async def add(instance: str, at: datetime, state: str, ended: datetime) -> None:
        await store.open(instance, job="", at=at, **names)
        change = replace(a_change(tasks=[task(1, "agreed")]), instance=instance, state=state)
        await store.record(change, at=ended)

    late = AT + KEPT + timedelta(days=1)
    await other.open("another app's", job="", at=AT, **names)
    await other.record(replace(a_change(state="approved"), instance="another app's"), at=AT)
    await add("old", AT, "approved", AT)
    await add("withdrawn", AT, "terminated", AT)
    await add("runs still", AT, "running", AT)
    await add("ended late", AT, "refused", late - timedelta(days=1))
    await store.open("new", job="", at=late, **names)

    assert await store.find("old") is None
    assert await store.find("withdrawn") is None
    assert not await all_of(database, ApprovalTaskRow, ApprovalTaskRow.instance == "old")
    for instance in ("runs still", "ended late", "new"):
        assert await store.find(instance) is not None
    assert await other.find("another app's") is not None


async def test_any_text_may_be_asked_for_as_an_approval(
    each_settings: Settings, database: Database, store: ApprovalStore
) -> None:
    approvals = ApprovalService(each_settings, database)
    assert (await approvals.get("default", "i1")) is not None
    for unknown in ("i1\0", "\0", "é👩'\\%", "i" * 10_000):
        assert await approvals.get("default", unknown) is None
