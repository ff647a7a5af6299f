"""Notices are committed with what they tell of, or not at all."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.outbox import notice_types, outbox
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice, id_of
from support import campaigns
from support.webhooks import subscribe, taken

NOW = datetime.now(UTC)


class _Failed(Exception):
    """The error that the change meets."""


def a_notice(**fields: Any) -> Notice:
    defaults = {"type": "directory.user.left", "app": "default", "data": {"userid": "u1"}}
    return Notice(**{"at": NOW, **defaults, **fields})


async def written(connection: AsyncConnection) -> list[Notice]:
    rows = await connection.execute(select(NoticeRow.__table__).order_by(NoticeRow.number))
    return [Notice.of(row) for row in rows.mappings()]


async def test_a_notice_is_read_as_it_was_written(database: Database) -> None:
    await subscribe(database)
    odd = {"text": "你好 \0 \ud83d", "n": [1, None]}
    notices = [
        a_notice(data=odd, sender="crm", kind="message-send"),
        a_notice(type="dingtalk.user_add_org", id=id_of("event", "1")),
    ]
    async with database.write("tests") as connection:
        await outbox.write(connection, notices)
    async with database.read() as connection:
        assert await written(connection) == notices


async def test_a_notice_has_a_delivery_for_each_endpoint_that_takes_it(database: Database) -> None:
    await subscribe(database, id="drw_all")
    await subscribe(database, id="drw_jobs", types=["job.*"])
    await subscribe(database, id="drw_paused", state="paused", apps=["default"])
    many = [a_notice(data={"n": number}) for number in range(1_200)]
    for _ in range(2):  # a second time changes nothing
        async with database.write("tests") as connection:
            await outbox.write(connection, many)
            await outbox.write(connection, [a_notice(type="campaign.paused", app="hr")])
    async with database.read() as connection:
        query = select(DeliveryRow.endpoint, NoticeRow.type, func.count()).join(
            NoticeRow, NoticeRow.number == DeliveryRow.notice
        )
        rows = await connection.execute(query.group_by(DeliveryRow.endpoint, NoticeRow.type))
        assert {tuple(row) for row in rows} == {
            ("drw_all", "directory.user.left", 1_200),
            ("drw_paused", "directory.user.left", 1_200),
            ("drw_all", "campaign.paused", 2),
        }
        assert [notice.id for notice in await written(connection)][:1_200] == [
            notice.id for notice in many
        ]


async def test_a_notice_of_no_endpoint_or_of_what_is_rolled_back_is_none(
    database: Database,
) -> None:
    async with database.write("tests") as connection:
        await outbox.write(connection, [a_notice()])
    await subscribe(database)
    assert await taken(database) == []
    with suppress(_Failed):
        async with database.write("tests") as connection:
            await outbox.write(connection, [a_notice()])
            assert len(await written(connection)) == 1
            raise _Failed
    assert await taken(database) == []


async def test_a_notice_of_no_known_type_is_refused(database: Database) -> None:
    async with database.write("tests") as connection:
        with pytest.raises(ValueError, match=r"job\.finished"):
            await outbox.write(connection, [a_notice(type="job.finished")])


def test_a_notice_that_may_be_written_twice_has_one_id() -> None:
    assert id_of("a", "b") == id_of("a", "b") != id_of("ab")
    assert a_notice().id != a_notice().id


def test_patterns_take_what_they_say() -> None:
    assert notice_types.matches("*", "job.done")
    assert notice_types.matches("directory.*", "directory.user.left")
    assert not notice_types.matches("directory.user.*", "directory.department.added")
    assert not notice_types.matches("job.*", "jobs.done")
    assert notice_types.matches("job.dead", "job.dead")


def person(userid: str, **fields: Any) -> Member:
    return Member(userid, {"name": userid.title(), **fields})


async def test_people_who_come_change_and_go_are_notices(database: Database) -> None:
    await subscribe(database)
    directory = AppDirectory(database, "default")
    await directory.put_user("1", person("ann", title="chief"), calls=1)
    assert await taken(database) == [("directory.user.added", {"userid": "ann", "name": "Ann"})]
    await directory.put_user("2", person("ann", title="chief"), calls=1)
    assert await taken(database) == []
    await directory.put_user("3", person("ann", title="boss"), calls=1)
    assert await taken(database) == [
        ("directory.user.changed", {"userid": "ann", "name": "Ann", "changed": ["title"]})
    ]
    for run in ("4", "5"):
        await directory.drop_user(run, "ann", calls=1)
    assert await taken(database) == [("directory.user.left", {"userid": "ann", "name": "Ann"})]


async def test_somebody_who_is_gone_has_left_once_the_walk_is_over(database: Database) -> None:
    await subscribe(database)
    directory = AppDirectory(database, "default")
    root = Department(1, {"name": "Org"})
    for run, members in (("1", [person("ann"), person("bob")]), ("2", [person("bob")])):
        await directory.open_run(run, scope="everything", roots=[root], calls=1)
        await directory.fill(run, Department(1, {}), children=[], members=members, calls=1)
        if run == "1":
            await directory.close_run(run, confirm_removals=True)
            await taken(database)
    await directory.note_users("2", met=[], hidden=[], gone=["ann"])
    assert await taken(database) == []
    for _ in range(2):
        await directory.close_run("2", confirm_removals=True)
    assert await taken(database) == [("directory.user.left", {"userid": "ann", "name": "Ann"})]


async def test_departments_that_come_change_and_go_are_notices(database: Database) -> None:
    await subscribe(database)
    directory = AppDirectory(database, "default")

    async def fill(run: str, children: list[Department]) -> list[tuple[str, dict[str, Any]]]:
        await directory.open_run(run, scope="everything", roots=[Department(1, {})], calls=1)
        root = Department(1, {"name": "Org"})
        await directory.fill(run, root, children=children, members=[], calls=1)
        return await taken(database)

    kind = "directory.department"
    assert await fill("1", [Department(5, {"name": "Sales"})]) == [
        (f"{kind}.added", {"id": 1, "name": "Org", "parent": None}),
        (f"{kind}.added", {"id": 5, "name": "Sales", "parent": 1}),
    ]
    assert await fill("2", [Department(5, {"name": "Sales", "order": 3})]) == []
    assert await fill("3", [Department(5, {"name": "Markets"})]) == [
        (f"{kind}.changed", {"id": 5, "name": "Markets", "parent": 1, "changed": ["name"]})
    ]
    for run in ("3", "3"):
        await directory.note_departments(run, met=[], hidden=[], gone=[5])
    assert await taken(database) == [(f"{kind}.removed", {"id": 5, "name": "Markets", "parent": 1})]
    assert await fill("4", [Department(5, {"name": "Markets"})]) == [
        (f"{kind}.added", {"id": 5, "name": "Markets", "parent": 1})
    ]


async def test_each_move_of_a_campaign_is_one_notice(
    settings: Settings, database: Database
) -> None:
    await subscribe(database)
    campaign = await campaigns.put(database, state=State.DRAFT, sender="crm")
    for verb in ("start", "pause", "resume", "cancel"):
        for _ in range(2):
            await campaigns.move(settings, database, campaign, verb)
    notices = await taken(database)
    verbs = [event.removeprefix("campaign.") for event, _ in notices]
    assert verbs == ["started", "paused", "resumed", "cancelled"]
    assert [data["state"] for _, data in notices] == ["running", "paused", "running", "cancelled"]
    assert notices[1][1]["reason"] == "asked for"
    assert {data["id"] for _, data in notices} == {campaign}
