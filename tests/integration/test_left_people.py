"""People who left long ago go from the directory, and nothing that refers to them minds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.organisation import Member
from dingrelay_workers import duties
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import retention
from dingrelay_workers.directory.models import ChangeRow, UserRow
from dingrelay_workers.directory.retention import Retention
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.directory.sync_schedule import SyncSchedule
from dingrelay_workers.maintenance.leader import WORK, Leader
from dingrelay_workers.store.records import Records
from leading import lead_once
from rows import all_of, change
from tables import prepare
from wakeups import Published

KEEP = timedelta(days=30)


def member(userid: str, unionid: str) -> Member:
    return Member(userid, {"name": userid, "unionid": unionid})


async def left(database: Database, app: str, userid: str, *, days: int) -> None:
    """Let a person come and leave, so many days ago."""
    directory = AppDirectory(database, app)
    await directory.put_user(f"came-{userid}", member(userid, f"union-{userid}"), calls=1)
    await directory.drop_user(f"left-{userid}", userid, calls=1)
    at = datetime.now(UTC) - timedelta(days=days)
    for table, column in ((UserRow, "left_at"), (ChangeRow, "at")):
        ours = table.app == app, table.userid == userid
        await change(database, table, *ours, **{column: at})


async def known(database: Database, table: type[UserRow] | type[ChangeRow]) -> set[str]:
    return {f"{row['app']}/{row['userid']}" for row in await all_of(database, table)}


def a_retention(database: Database) -> Retention:
    return Retention(database, KEEP, now=lambda: datetime.now(UTC))


async def test_people_who_left_long_ago_are_deleted_and_may_come_back_as_new(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for app, userid, days in (("default", "old", 31), ("default", "new", 29), ("hr", "old", 40)):
        await left(database, app, userid, days=days)
    await left(database, "default", "again", days=31)
    await AppDirectory(database, "default").put_user(
        "back", member("again", "union-again"), calls=1
    )
    steps: list[None] = []
    keeps = a_retention(database)
    await keeps.tick(lambda: steps.append(None))
    assert await known(database, UserRow) == {"default/new", "default/again"}
    assert await known(database, ChangeRow) == {"default/new", "default/again"}
    assert len(steps) == 2, "a transaction for each app"

    directory = AppDirectory(database, "default")
    # A second word of DingTalk's that they left, and then they are there again: once by their userid,
    # once under another.
    progress = await directory.drop_user("left-twice", "old", calls=1)
    assert progress.left == 0
    back = await directory.put_user("old-back", member("old", "union-old"), calls=1)
    assert (back.added, back.changed) == (1, 0)
    await left(database, "default", "third", days=31)
    monkeypatch.setattr(retention, "LOOK_EVERY", 0.0)
    await a_retention(database).tick(lambda: None)
    renamed = await directory.put_user("renamed", member("third-2", "union-third"), calls=1)
    assert renamed.added == 1
    assert "default/third" not in await known(database, ChangeRow)
    # Who left lately is still the same person under another userid.
    await directory.put_user("reunited", member("new-2", "union-new"), calls=1)
    assert "default/new" not in await known(database, UserRow)


async def test_people_who_came_back_meanwhile_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left(database, "default", "u1", days=31)
    await left(database, "default", "u2", days=31)
    real = retention._delete_some  # pyright: ignore[reportPrivateUsage]

    async def late(connection: Any, *arguments: Any) -> int:
        await connection.execute(update(UserRow).where(UserRow.userid == "u1").values(left_at=None))
        return await real(connection, *arguments)

    monkeypatch.setattr(retention, "_delete_some", late)
    await a_retention(database).tick(lambda: None)
    assert await known(database, UserRow) == {"default/u1"}


async def test_it_looks_once_an_hour_and_a_database_that_is_away_stops_no_sync(
    redis: Redis, valkey_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, sync={"keep_left": "30d"})
    records = Records(redis, settings, worker="w")
    publisher: Any = Published()
    prepare(sqlite_url)
    database = Database(sqlite_url)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 100)
    away = a_retention(Database(f"sqlite:///{broken}"))
    await redis.set(keys.DISPATCHER, "me", px=60_000)
    schedule = SyncSchedule(
        records, publisher, ["default"], 86_400_000, now=lambda: datetime.now(UTC), retention=away
    )
    schedule.begin("me")
    await schedule.tick()
    assert len(publisher.wakeups) == 1
    await redis.delete(keys.DISPATCHER)

    # Without a schedule there are no syncs; the leader deletes all the same.
    await left(database, "default", "u1", days=31)

    duty = duties.syncs(records, publisher, lambda: database, settings)
    leads = Leader(redis, WORK, [duty])
    await WORK.announce(redis)
    await lead_once(leads)
    assert await known(database, UserRow) == set()
    assert len(publisher.wakeups) == 1
    await left(database, "default", "u2", days=31)
    await WORK.announce(redis)
    await lead_once(leads)
    assert await known(database, UserRow) == {"default/u2"}, "an hour has not passed"
    await leads.stop()
    await database.dispose()
