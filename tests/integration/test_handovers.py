"""A userid that DingTalk gives to another person keeps nothing of who had it before."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Member
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import retention
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.keys.documents import KeyRequest
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.roles.scopes import roles_held
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.sessions.models import ConsoleLinkRow
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks, Sessions
from support.rows import all_of, change, count

pytestmark = pytest.mark.usefixtures("program")
LANES = ["urgent", "normal", "bulk"]


def a_role(subject: str, app: str) -> RoleRequest:
    fields = {"subject": subject, "role": "admin", "directory": app, "apps": ["*"]}
    return RoleRequest.parse({**fields, "lanes": LANES})


async def met(database: Database, app: str, userid: str, unionid: str, *, read_at: int) -> None:
    """DingTalk says who has a userid."""
    member = Member(userid, {"name": unionid, "unionid": unionid, "dept_id_list": [1]})
    directory = AppDirectory(database, app, read_at=read_at)
    await directory.put_user(f"{userid} {read_at}", member, calls=1)


async def in_two_apps(database: Database) -> list[str]:
    """An administrator has everything by a userid, in two apps; the tokens of the sessions: by role, by link, by their links, of another."""
    roles, links, sessions = RoleService(database), LoginLinks(database), Sessions(database)
    for app in ("default", "hr"):
        await met(database, app, "u1", "old", read_at=1)
        await met(database, app, "u2", "other", read_at=1)
        await roles.grant(a_role("u1", app))
    await roles.grant(a_role("u2", "default"))
    begun = [
        await sessions.begin("default", "u1"),
        await sessions.sign_in(await links.create(LoginLinkRequest(user="u1", role="view"))),
    ]
    await links.create(LoginLinkRequest(user="u1"))
    actor = ACTOR.set(Actor("console", "u1", person="u1"))
    begun.append(await sessions.sign_in(await links.create(LoginLinkRequest(user="u2"))))
    await KeyService(database).issue(a_key("issued", "u2"))
    ACTOR.reset(actor)
    await KeyService(database).issue(a_key("owned", "u1"))
    await KeyService(database).issue(a_key("other", "u2"))
    begun.append(await sessions.begin("default", "u2"))
    return [session.token for session in begun if session]


def a_key(name: str, owner: str) -> Any:
    return KeyRequest.parse({"name": name, "scopes": ["campaigns:approve"], "owner": owner}).grant()


async def leavers_of_keys(database: Database) -> dict[str, list[str]]:
    return {key.name: [who[:7] for who in key.left] for key in await KeyService(database).list()}


async def test_a_userid_of_another_person_has_nothing_of_who_had_it(database: Database) -> None:
    tokens = await in_two_apps(database)
    await met(database, "default", "u1", "new", read_at=2)
    sessions = Sessions(database)
    assert await sessions.begin("default", "u1") is None, "the new person has no role"
    assert [bool(await sessions.find(token)) for token in tokens] == [False, False, False, True]
    assert await count(database, ConsoleLinkRow) == 0
    given = [(role.directory, role.subject) for role in await RoleService(database).list()]
    assert sorted(given) == [("default", "u2"), ("hr", "u1")], "another app knows the person still"
    assert await leavers_of_keys(database) == {
        "owned": ["erased-"],
        "issued": ["erased-"],
        "other": [],
    }
    audited = [row for row in await all_of(database, AuditRow) if row["reason"]]
    assert sorted((row["action"], row["kind"]) for row in audited) == [
        ("disown", "key"),
        ("disown", "key"),
        ("revoke", "role"),
    ]
    # What is given to the new person stays with them.
    await RoleService(database).grant(a_role("u1", "default"))
    await met(database, "default", "u1", "new", read_at=3)
    session = await sessions.begin("default", "u1")
    assert session
    assert roles_held(session.grants) == ["admin"]


async def test_the_former_userid_of_a_person_has_nothing(database: Database) -> None:
    tokens = await in_two_apps(database)
    await met(database, "default", "u9", "old", read_at=2)
    await met(database, "default", "u1", "new", read_at=3)
    assert [bool(await Sessions(database).find(token)) for token in tokens[:2]] == [False, False]
    assert await Sessions(database).begin("default", "u1") is None


async def test_a_directory_that_forgets_a_leaver_ends_what_they_had(database: Database) -> None:
    await in_two_apps(database)
    long_ago = datetime.now(UTC) - timedelta(days=31)
    await change(database, UserRow, UserRow.userid == "u1", UserRow.app == "hr", left_at=long_ago)
    parts: Any = SimpleNamespace(
        database=lambda: database, settings=Settings.load(env="test", sync={"keep_left": "30d"})
    )
    await retention.clean_up(CleanUp(parts, lambda: datetime.now(UTC)))
    assert not any((await leavers_of_keys(database)).values()), "who is in another directory stays"
    await change(database, UserRow, UserRow.userid == "u1", left_at=long_ago)
    await retention.clean_up(CleanUp(parts, lambda: datetime.now(UTC)))
    for app in ("default", "hr"):
        await met(database, app, "u1", "new", read_at=9)
        assert await Sessions(database).begin(app, "u1") is None
    assert (await leavers_of_keys(database))["owned"] == ["erased-"]
