"""Syncs on a schedule: one a period, however often the leader changes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import keys
from dingrelay_workers.directory.sync_schedule import SyncSchedule, period_start
from dingrelay_workers.store.records import Records
from support.jobs import Published

DAY = 86_400_000
NOON = datetime(2026, 11, 26, 4, tzinfo=UTC)
"""Noon in Beijing."""


class Fleet:
    """Leaders that come one after the other, at a time that a test sets."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.redis = redis
        self.now = NOON
        self.published = Published()
        self._records = Records(redis, Settings.load(env="test", redis_url=url), worker="w")
        self._leaders = 0

    async def lead(self, *apps: str, every: int = DAY) -> SyncSchedule:
        """The next leader, which has the lease from now on."""
        self._leaders += 1
        holder = f"leader-{self._leaders}"
        await self.redis.set(keys.DISPATCHER, holder, px=60_000)
        publisher: Any = self.published
        schedule = SyncSchedule(
            self._records, publisher, apps or ("default",), every, now=lambda: self.now
        )
        schedule.begin(holder)
        return schedule

    async def look(self, *apps: str, every: int = DAY) -> list[str]:
        """The jobs that a new leader enqueues."""
        before = len(self.published.wakeups)
        await (await self.lead(*apps, every=every)).tick()
        return [wakeup.id for wakeup in self.published.wakeups[before:]]

    async def end(self, job_id: str, state: str = "done") -> None:
        await self.redis.hset(keys.job(job_id), "state", state)


@pytest.fixture
def fleet(redis: Redis, valkey_url: str) -> Fleet:
    return Fleet(redis, valkey_url)


def test_periods_begin_at_night_in_beijing_and_not_for_all_apps_at_once() -> None:
    now = int(NOON.timestamp() * 1000)
    starts = {app: period_start(app, DAY, now) for app in ("default", "hr", "sales", "it")}
    night = datetime(2026, 11, 25, 19, tzinfo=UTC)
    for start in starts.values():
        began = datetime.fromtimestamp(start / 1000, UTC)
        assert night <= began < night + timedelta(hours=1)
        assert period_start("default", DAY, now) == starts["default"]
    assert len(set(starts.values())) == len(starts)
    assert period_start("hr", DAY, starts["hr"]) == starts["hr"]
    assert period_start("hr", DAY, starts["hr"] - 1) == starts["hr"] - DAY


async def test_an_app_has_one_sync_a_period_however_many_leaders_come(fleet: Fleet) -> None:
    first = await fleet.look("default", "hr")
    assert len(first) == 2
    assert await fleet.look("default", "hr") == []
    record = await fleet.redis.hgetall(keys.job(first[0]))
    assert record[b"kind"] == b"user-sync"
    assert record[b"sender"] == b"schedule"
    for job in first:
        await fleet.end(job)
    assert await fleet.look("default", "hr") == [], "it has ended, and the period has not"
    fleet.now += timedelta(days=1)
    second = await fleet.look("default", "hr")
    assert len({*first, *second}) == 4


@pytest.mark.parametrize("note", [True, False], ids=["its note", "its record"])
async def test_a_period_keeps_its_one_sync_that_has_lost(fleet: Fleet, note: bool) -> None:
    (job,) = await fleet.look()
    await fleet.redis.delete(keys.scheduled_sync("default") if note else keys.job(job))
    assert await fleet.look() == []
    assert await fleet.redis.exists(keys.scheduled_sync("default")), "the next one has noted it"


async def test_a_leader_whose_lease_is_anothers_enqueues_and_notes_nothing(fleet: Fleet) -> None:
    late = await fleet.lead()
    await fleet.lead()
    await late.tick()
    assert fleet.published.wakeups == []
    assert not await fleet.redis.exists(keys.scheduled_sync("default"))


async def test_after_days_without_a_worker_there_is_one_sync(fleet: Fleet) -> None:
    (job,) = await fleet.look()
    await fleet.end(job)
    fleet.now += timedelta(days=3)
    assert len(await fleet.look()) == 1
    assert await fleet.look() == []


async def test_a_sync_that_takes_longer_than_a_period_is_waited_for(fleet: Fleet) -> None:
    (job,) = await fleet.look()
    for state in ("running", "snoozed", "retrying", "queued"):
        await fleet.end(job, state)
        fleet.now += timedelta(days=1)
        assert await fleet.look() == [], state
    await fleet.end(job, "dead")
    assert len(await fleet.look()) == 1


async def test_another_period_brings_no_second_sync(fleet: Fleet) -> None:
    (job,) = await fleet.look(every=DAY)
    await fleet.end(job)
    assert await fleet.look(every=7 * DAY) == []
    assert await fleet.look(every=DAY) == []


async def test_one_leader_looks_once_a_minute(fleet: Fleet) -> None:
    schedule = await fleet.lead()
    await schedule.tick()
    (wakeup,) = fleet.published.wakeups
    await fleet.end(wakeup.id)
    fleet.now += timedelta(days=1)
    await schedule.tick()
    assert len(fleet.published.wakeups) == 1
    schedule.begin(schedule.holder)
    await schedule.tick()
    assert len(fleet.published.wakeups) == 2


@pytest.mark.parametrize(
    ("name", "length"),
    [
        *(("every", length) for length in ("24", "24h ", "1m", "29d", "-1h", "0s", "1w")),
        *(("keep_left", length) for length in ("90", "23h", "3651d", "0s")),
    ],
)
def test_a_length_that_makes_no_sense_is_refused(name: str, length: str) -> None:
    with pytest.raises(SettingsError, match=rf"^sync\.{name}: must be"):
        Settings.load(env="test", sync={name: length})


def test_lengths_that_make_sense() -> None:
    assert Settings.load(env="test").sync.every_ms == 0
    assert Settings.load(env="test", sync={"every": "24h"}).sync.every_ms == DAY
    assert Settings.load(env="test").sync.kept_left is None
    assert Settings.load(env="test", sync={"keep_left": "90d"}).sync.kept_left == timedelta(days=90)
