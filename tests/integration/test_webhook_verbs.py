"""Verbs of webhooks: each has one body, which every door carries out."""

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from dingrelay_producers.actor import ACTOR, Actor, Reach
from dingrelay_producers.client.verbs import verbs_of
from dingrelay_producers.errors import EndpointNotFound, NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow
from dingrelay_workers.roles.scopes import RolesReach
from dingrelay_workers.webhooks.documents import EndpointRequest
from dingrelay_workers.webhooks.service import WebhookService
from support.databases import rows
from support.gateways import Ask
from support.rows import all_of

VERBS = verbs_of(WebhookService)
CHANGES = [verb for verb in VERBS if verb.name != "test"]
"""Verbs that are in the audit: a test changes nothing."""
WANTED = {"url": "https://crm.example.com/dingrelay", "types": ["job.*"], "apps": ["hr"]}
SCOPES = frozenset({"webhooks:read", "webhooks:write", "jobs:read", "audit:read"})


def grant(*apps: str, scopes: frozenset[str] = SCOPES, sender: str = "*") -> Grant:
    return Grant(name="-".join(apps), scopes=scopes, apps=frozenset(apps), sender=sender)


BELOW: dict[str, Reach] = {
    "a key of another app": grant("it"),
    "a key with a sender": grant("hr", sender="crm"),
    "a key that reads no jobs": grant("hr", scopes=SCOPES - {"jobs:read"}),
    "a person": RolesReach([grant("it")]),
}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [grant("hr"), grant("it")]


def test_it_is_in_the_audit_by_app(callers: dict[str, Ask], settings: Settings) -> None:
    made = callers["hr"]("POST", "/v1/webhooks", WANTED).json["id"]
    for verb in CHANGES:
        if not verb.creates:
            answer = callers["hr"](verb.method, verb.path.replace("{id}", made))
            assert answer.status in {200, 204}, answer.content

    query = "select door, action, object, app from audit where kind = 'webhook' order by number"
    assert [tuple(row.values()) for row in rows(settings.database, query)] == [
        ("http", verb.name, made, "hr") for verb in CHANGES
    ]
    for name, seen in (("hr", len(CHANGES)), ("it", 0)):
        page = callers[name]("GET", "/v1/audit?kind=webhook").json
        assert len(page["changes"]) == seen


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("actor", BELOW)
async def test_an_endpoint_that_receives_more_than_an_actor_may_read_is_not_there_for_it(
    actor: str, database: Database, redis: Redis, settings: Settings
) -> None:
    webhooks = WebhookService(database, redis, settings)
    above = (await webhooks.add(EndpointRequest.parse(WANTED))).id
    stored = await all_of(database, EndpointRow)
    ACTOR.set(Actor("http", "x", reach=BELOW[actor]))
    with pytest.raises(NotPermitted):
        await webhooks.add(EndpointRequest.parse({**WANTED, "senders": ["shop"]}))
    assert await webhooks.list() == []
    for verb in VERBS:
        if not verb.creates:
            with pytest.raises(EndpointNotFound):
                await verb.body(webhooks, above)
    for read in (webhooks.get, webhooks.find):
        with pytest.raises(EndpointNotFound):
            await read(above)
    with pytest.raises(EndpointNotFound):
        await webhooks.deliveries(above, limit=1)
    assert await all_of(database, EndpointRow) == stored
    assert await all_of(database, DeliveryRow) == []
    ACTOR.set(Actor("http", "x", reach=grant("hr")))
    assert [endpoint.id for endpoint in await webhooks.list()] == [above]
    await webhooks.remove(above)


@pytest.mark.usefixtures("program")
async def test_a_role_for_all_apps_that_only_looks_widens_no_role_that_changes(
    database: Database, redis: Redis, settings: Settings
) -> None:
    webhooks = WebhookService(database, redis, settings)
    above = (await webhooks.add(EndpointRequest.parse(WANTED))).id
    looks = grant("*", scopes=SCOPES - {"webhooks:write"})
    ACTOR.set(Actor("console", "u1", reach=RolesReach([looks, grant("it")])))
    assert not webhooks.may_change(await webhooks.get(above))
    with pytest.raises(EndpointNotFound):
        await webhooks.pause(above)
