"""People who left long ago go from the directory, and nothing that refers to them minds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Member
from dingrelay_workers import duties
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import retention
from dingrelay_workers.directory.models import ChangeRow, UserRow
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.maintenance.leader import WORK, Leader, LeaderParts
from dingrelay_workers.store.records import Records
from support.databases import prepare
from support.jobs import Published
from support.rows import all_of, change, put
from support.workers import lead_once


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


def cleaner(database: Database) -> CleanUp:
    parts: Any = SimpleNamespace(
        database=lambda: database, settings=Settings.load(env="test", sync={"keep_left": "30d"})
    )
    return CleanUp(parts, lambda: datetime.now(UTC))


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
    keeps = cleaner(database)
    monkeypatch.setattr(keeps, "step", lambda: steps.append(None))
    await retention.clean_up(keeps)
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
    await retention.clean_up(cleaner(database))
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
    await retention.clean_up(cleaner(database))
    assert await known(database, UserRow) == {"default/u1"}


async def test_the_leader_cleans_up_once_an_hour_without_syncs_or_a_history(
    redis: Redis, valkey_url: str, sqlite_url: str
) -> None:
    settings = Settings.load(
        env="test", redis_url=valkey_url, sync={"keep_left": "30d"}, history={"days": 0}
    )
    publisher: Any = Published()
    prepare(sqlite_url)
    database = Database(sqlite_url)
    parts = LeaderParts(
        records=Records(redis, settings, worker="w"),
        publisher=publisher,
        database=lambda: database,
        settings=settings,
        users_per_call=lambda _: 100,
    )
    led = duties.under_lease("work", parts)
    assert [duty.name for duty in led] == ["campaigns", "clean-up"]
    await left(database, "default", "u1", days=31)
    for days in (399, 401):
        await put(database, AuditRow, {"at": datetime.now(UTC) - timedelta(days=days)})
    leads = Leader(redis, WORK, led)
    await WORK.announce(redis)
    await lead_once(leads)
    assert await known(database, UserRow) == set()
    assert len(await all_of(database, AuditRow)) == 1
    await left(database, "default", "u2", days=31)
    await WORK.announce(redis)
    await lead_once(leads)
    assert await known(database, UserRow) == {"default/u2"}, "an hour has not passed"
    await leads.stop()
    await database.dispose()


async def test_a_database_without_tables_is_not_cleaned_up(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'none.db'}")
    await cleaner(database).tick()
    assert not (tmp_path / "none.db").exists()
    await database.dispose()
