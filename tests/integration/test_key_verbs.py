"""Verbs of API keys: each has one body, which every door carries out."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from dingrelay_producers.actor import ACTOR, Actor, Reach
from dingrelay_producers.client.verbs import verbs_of
from dingrelay_producers.errors import KeyNotFound, NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Lane
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.documents import KeyRequest, RotationRequest
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.roles.scopes import RolesReach
from support.command_line import Cli
from support.databases import on_sqlite, rows
from support.gateways import Ask
from support.rows import all_of, put

VERBS = verbs_of(KeyService)
TEXT = {"name": "x", "scopes": ["messages:write"]}
PLACES: tuple[tuple[str, Lane], ...] = (("hr", "bulk"), ("it", "urgent"))
HR, IT = (
    Grant(name="u1", scopes=frozenset({"*"}), apps=frozenset({app}), lanes=frozenset[Lane]({lane}))
    for app, lane in PLACES
)
BELOW: dict[str, Reach] = {
    "key": HR.model_copy(update={"scopes": frozenset({"keys:write", "messages:write"})}),
    "person": RolesReach([HR, IT]),
}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [Grant(name="all", scopes=frozenset({"*"}))]


def test_the_audit_has_each_change_as_it_is_declared(every: Ask, settings: Settings) -> None:
    made = every("POST", "/v1/keys", TEXT).json["id"]
    for verb in VERBS:
        if verb.has_object:
            assert every(verb.method, verb.path.replace("{id}", made)).status == 200

    changes = rows(
        settings.database,
        "select door, action, object from audit where kind = 'key' and door <> 'python'",
    )
    assert [tuple(row.values()) for row in changes] == [("http", verb.name, made) for verb in VERBS]


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("actor", BELOW)
async def test_an_actor_gives_and_changes_no_more_than_it_has(
    actor: str, database: Database
) -> None:
    keys = KeyService(database, timeout=30)
    above = await keys.create(KeyRequest.parse({**TEXT, "apps": ["hr"], "lanes": ["urgent"]}))
    stored = await all_of(database, ApiKeyRow)
    ACTOR.set(Actor("http", "x", reach=BELOW[actor]))
    with pytest.raises(NotPermitted):
        await keys.create(KeyRequest.parse({**TEXT, "apps": ["hr"], "lanes": ["urgent"]}))
    assert await keys.list() == []
    for verb in VERBS:
        if verb.has_object:
            with pytest.raises(KeyNotFound):
                await verb.body(keys, above.id)
    assert await all_of(database, ApiKeyRow) == stored
    assert (await keys.create(KeyRequest.parse({**TEXT, "apps": ["hr"], "lanes": ["bulk"]}))).id
    assert len(await keys.list()) == 1


@on_sqlite
async def test_a_key_names_its_people_who_have_left(
    database: Database, settings: Settings, every: Ask, cli: Cli
) -> None:
    """They may still have a secret of it, and the programs that use it go on."""
    ACTOR.set(Actor("console", "boss", person="boss"))
    keys = KeyService(database)
    issued = await keys.issue(Grant(name="k", scopes=frozenset({"jobs:read"}), owner="bob"))
    assert (await keys.get(issued.id)).left == []
    for person, left, advice in (
        ("boss", ["boss"], "boss, not in the directory, issued it: give it a new secret"),
        ("bob", ["bob", "boss"], "its owner bob is not in the directory: give it another owner"),
    ):
        await put(database, UserRow, {"userid": person, "left_at": datetime.now(UTC)})
        key = await keys.get(issued.id)
        assert key.left == left
        assert advice in str(key.warning)
        printed = await asyncio.to_thread(cli, "key", "list")
        assert str(key.warning) in " ".join(printed.output.split())
    assert await keys.verify(issued.key)
    listed = await asyncio.to_thread(every, "GET", "/v1/keys")
    shown = [key for key in listed.json["keys"] if key["id"] == issued.id]
    assert [(key["left"], key["warning"]) for key in shown] == [(["bob", "boss"], key.warning)]
    ACTOR.set(Actor("console", "cho", person="cho"))
    await keys.rotate(issued.id, RotationRequest.parse({"overlap": "0s"}))
    assert (await keys.get(issued.id)).left == ["bob"]
    await keys.rotate(issued.id, RotationRequest.parse({"overlap": "0s", "owner": "cho"}))
    key = await keys.get(issued.id)
    assert (key.left, key.warning) == ([], None)


@on_sqlite
async def test_a_rotation_gives_a_key_another_owner(database: Database, cli: Cli) -> None:
    """The one before may have the old secret, and so acts with the key as long as that is taken."""
    ACTOR.set(Actor("console", "boss", person="boss"))
    keys = KeyService(database)
    scopes = frozenset({"keys:write"})
    issued = await keys.issue(Grant(name="k", scopes=scopes, owner="bob"))
    for overlap, owner, issuers in (
        ("1h", "cho", ["boss", "bob"]),
        ("1h", None, ["boss", "bob"]),
        ("0s", "dan", ["boss"]),
    ):
        request = RotationRequest.parse({"overlap": overlap, "owner": owner})
        await keys.rotate(issued.id, request)
        key = await keys.get(issued.id)
        assert (key.owner, key.issuers) == (owner or "cho", issuers)
    await asyncio.to_thread(cli.json, "key", "rotate", issued.id, "--owner", "bob")
    handed = [
        ((row["before"] or {}).get("owner"), row["after"].get("owner"))
        for row in await all_of(database, AuditRow)
        if row["action"] == "rotate"
    ]
    assert handed == [("bob", "cho"), (None, None), ("cho", "dan"), ("dan", "bob")]
    # The owner is one that the actor may give, as with a new key.
    ACTOR.set(Actor("http", "k", reach=Grant(name="k", scopes=scopes, owner="bob")))
    with pytest.raises(NotPermitted, match="this key is not cho's"):
        await keys.rotate(issued.id, RotationRequest(owner="cho"))
    assert (await keys.get(issued.id)).owner == "bob"
