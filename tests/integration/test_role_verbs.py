"""Verbs of roles, links and the audit: each has one body, which every door carries out."""

import pytest

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.client.verbs import verbs_of
from dingrelay_producers.errors import NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError, Lane
from dingrelay_workers.audit import service as audit
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.roles.scopes import RolesReach, roles_held
from dingrelay_workers.roles.service import RoleRequest, RoleService, grants_of
from dingrelay_workers.sessions.models import ConsoleLinkRow
from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks
from support.rows import all_of, put

VERBS = verbs_of(RoleService)
PLACES: tuple[tuple[str, Lane], ...] = (("hr", "bulk"), ("it", "urgent"))
PERSON = Actor(
    "console",
    "u1",
    reach=RolesReach(
        [
            Grant(
                name="u1",
                scopes=frozenset({"*"}),
                apps=frozenset({app}),
                lanes=frozenset[Lane]({lane}),
            )
            for app, lane in PLACES
        ]
    ),
)


def a_role(directory: str, app: str, lane: str) -> RoleRequest:
    fields = {"subject": "u2", "role": "view", "directory": directory}
    return RoleRequest.parse({**fields, "apps": [app], "lanes": [lane]})


@pytest.mark.usefixtures("program")
async def test_an_actor_gives_and_takes_no_role_that_it_does_not_have(
    database: Database, settings: Settings
) -> None:
    for app, _ in PLACES:
        await put(database, UserRow, {"app": app, "userid": "u2"})
    roles = RoleService(database)
    await roles.grant(a_role("hr", "hr", "urgent"))
    stored = await all_of(database, RoleRow)
    ACTOR.set(PERSON)
    for verb in VERBS:
        with pytest.raises(NotPermitted):
            await verb.body(roles, a_role("hr", "hr", "urgent"))
    with pytest.raises(NotPermitted):  # it would be replaced
        await roles.grant(a_role("hr", "hr", "bulk"))
    assert await all_of(database, RoleRow) == stored
    for verb in VERBS:
        await verb.body(roles, a_role("it", "it", "urgent"))
    ACTOR.set(None)
    changes = await AuditService(settings, database).list(AuditFilter(kind="role"), limit=9)
    assert [(entry.action, entry.object) for entry in reversed(changes)] == [
        ("grant", "u2"),
        *((verb.name, "u2") for verb in VERBS),
    ]


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("subject", ["department:007", "department:７"])
async def test_a_role_of_a_department_counts_however_its_id_was_typed(
    database: Database, subject: str
) -> None:
    await put(database, UserRow, {"app": "it", "userid": "u2"})
    await put(database, DepartmentRow, {"app": "it", "id": 7})
    await put(database, MembershipRow, {"app": "it", "userid": "u2", "department": 7})
    roles = RoleService(database)
    await roles.grant(a_role("it", "it", "bulk").model_copy(update={"subject": subject}))
    async with database.read() as connection:
        grants = await grants_of(connection, [("it", "u2")])
    assert roles_held(grants["it", "u2"]) == ["view"]
    assert [role.subject for role in await roles.list()] == ["department:7"]


@pytest.mark.usefixtures("program")
async def test_an_export_of_the_audit_is_in_it_and_shows_the_apps_of_its_reader(
    database: Database, settings: Settings
) -> None:
    async with database.write("tests") as connection:
        for app in ("hr", "sales"):
            await audit.record(connection, "cancel", "job", app, app=app)
    service = AuditService(settings, database)
    ACTOR.set(PERSON)
    assert [entry.object async for entry in service.export(AuditFilter())] == ["hr"]
    ACTOR.set(None)
    changes = [entry async for entry in service.export(AuditFilter(kind="audit"))]
    assert [(entry.action, entry.object) for entry in changes] == [("export", "audit")] * 2
    (verb,) = verbs_of(AuditService)
    assert (verb.name, verb.noun) == ("export", "audit")


@pytest.mark.usefixtures("program")
async def test_a_link_gives_no_role_that_its_maker_does_not_have(
    database: Database, settings: Settings
) -> None:
    links, request = LoginLinks(database), LoginLinkRequest(user="u2", role="view")
    ACTOR.set(PERSON)
    with pytest.raises(NotPermitted):
        await links.create(request)
    assert await all_of(database, ConsoleLinkRow) == []
    ACTOR.set(None)
    assert await links.create(request)
    changes = await AuditService(settings, database).list(AuditFilter(), limit=9)
    assert [(entry.kind, entry.action, entry.object) for entry in changes] == [
        (verb.noun, verb.name, "u2") for verb in verbs_of(LoginLinks)
    ]
    with pytest.raises(ContractError, match="role: must be one of view"):
        LoginLinkRequest(user="u2", role="boss")
