"""Verbs of API keys: each has one body, which every door carries out."""

from collections.abc import Sequence

import pytest

from dingrelay_producers.actor import ACTOR, Actor, Reach
from dingrelay_producers.client.verbs import verbs_of
from dingrelay_producers.errors import KeyNotFound, NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Lane
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.documents import KeyRequest
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.roles.scopes import RolesReach
from support.command_line import Cli
from support.databases import rows
from support.gateways import Ask
from support.rows import all_of

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


def test_the_audit_has_each_change_as_it_is_declared(
    every: Ask, cli: Cli, settings: Settings
) -> None:
    made = every("POST", "/v1/keys", TEXT).json["id"]
    for verb in VERBS:
        if verb.has_object:
            assert every(verb.method, verb.path.replace("{id}", made)).status == 200
    other = cli.json("key", "create", "y", "--scope", "messages:write")["id"]
    assert cli("key", "revoke", other).exit_code == 0

    changes = rows(
        settings.database,
        "select door, action, object from audit where kind = 'key' and door <> 'python'",
    )
    assert [tuple(row.values()) for row in changes] == [
        *(("http", verb.name, made) for verb in VERBS),
        ("cli", "create", other),
        ("cli", "revoke", other),
    ]


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
