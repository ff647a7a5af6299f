"""Verbs of campaigns: each has one body, which every door carries out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from dingrelay_producers import CampaignNotFound, Client
from dingrelay_producers.actor import Reach
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.errors import NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.roles.scopes import ROLES, RolesReach
from support import campaigns
from support.campaigns import acting
from support.databases import in_database, on_sqlite, rows
from support.gateways import Ask
from support.rows import all_of, change

NOUNS = CampaignService, Drafts
VERBS = [verb for noun in NOUNS for verb in verbs_of(noun)]
ON_ONE = [verb for verb in VERBS if verb.has_object]
BODIES: Mapping[str, Any] = {
    "test": {"users": ["u8"]},
    "reject": {"reason": "too early"},
    "save": {"version": 1, "rate": 5},
    "freeze": {"version": 1},
}
"""Verb → what is said with it."""
STAGES: Mapping[str, str] = {
    "start": "ready",
    "pause": "running",
    "resume": "paused",
    "cancel": "paused",
    "delete": "done",
    "test": "ready",
    "recall": "done",
    "confirm": "done",
    "submit": "ready",
    "approve": "submitted",
    "reject": "submitted",
    "save": "ready",
    "copy": "done",
    "freeze": "draft",
}
"""Verb → where a campaign stands to which it can be done."""
NOT_THERE = CampaignNotFound
APPROVER, WRITER = frozenset({"campaigns:approve"}), frozenset({"campaigns:write"})


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"}), owner="u8"),
        Grant(name="hr", scopes=frozenset({"audit:read"}), apps=frozenset({"hr"})),
        Grant(name="other", scopes=frozenset({"*"}), apps=frozenset({"it"})),
        Grant(name="sender", scopes=frozenset({"*"}), sender="shop"),
    ]


async def stands(settings: Settings, database: Database, stage: str) -> str:
    """A campaign of app hr in this stage; its id."""
    if stage == "draft":
        content = {"name": "n", "app": "hr", "pasted": "u1"}
        message = {"msgtype": "text", "text": {"content": "x"}}
        writers = campaigns.Writers(settings, database)
        return (await writers.create({**content, "message": message, "sender": "crm"}, "ann")).id
    state = {"ready": "draft", "submitted": "draft"}.get(stage, stage)
    campaign = await campaigns.put(database, state=state, app="hr", sender="crm", writers=["ann"])
    if stage == "submitted":
        with acting("ann"):
            await CampaignService(settings, database).submit(campaign)
    if stage == "done":
        called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
        own = ChunkRow.campaign == campaign
        await change(database, ChunkRow, own, state=ChunkState.SETTLED, **called)
    return campaign


@pytest.mark.parametrize("verb", ON_ONE, ids=lambda verb: verb.name)
def test_a_verb_is_in_the_audit_by_app_and_lane_and_hidden_from_others(
    verb: Verb, settings: Settings, callers: dict[str, Ask]
) -> None:
    async def put(database: Database) -> str:
        return await stands(settings, database, STAGES[verb.name])

    async def stored(database: Database) -> list[Any]:
        return [await all_of(database, table) for table in (CampaignRow, ChunkRow)]

    callers["all"]("GET", "/v1/campaigns")  # makes the tables
    campaign = in_database(settings.database, put)
    before, body = in_database(settings.database, stored), BODIES.get(verb.name)
    path = verb.path.replace("{id}", campaign)
    for key in ("other", "sender"):
        refused = callers[key](verb.method, path, body)
        if key == "sender" and verb.name in {"approve", "reject"}:
            continue  # reviewers of an app see what any sender has submitted
        assert (refused.status, campaign in str(refused.json)) == (404, False)
        assert in_database(settings.database, stored) == before
    assert callers["all"](verb.method, path, body).status in {200, 201, 202, 204}
    actions = "select action, app, lane from audit where door = 'http'"
    [row] = rows(settings.database, actions)
    assert tuple(row.values()) == (verb.name, "hr", "bulk")
    for key, seen in (("hr", 1), ("other", 0)):
        found = callers[key]("GET", f"/v1/audit?kind=campaign&action={verb.name}").json["changes"]
        assert len(found) == seen


@pytest.mark.parametrize(
    ("reach", "refusal"),
    [
        (RolesReach([Grant(name="u", scopes=ROLES["write"], apps=frozenset({"it"}))]), NOT_THERE),
        (
            RolesReach([Grant(name="u", scopes=ROLES["write"], lanes=frozenset({"normal"}))]),
            NOT_THERE,
        ),
        (Grant(name="k", scopes=WRITER, lanes=frozenset({"normal"})), NotPermitted),
        (Grant(name="k", scopes=APPROVER), NOT_THERE),
    ],
    ids=["role of another app", "role in another lane", "key in another lane", "key that approves"],
)
@pytest.mark.parametrize("noun", NOUNS)
@on_sqlite
async def test_an_actor_changes_what_is_theirs(
    noun: type, reach: Reach, refusal: type[Exception], settings: Settings, database: Database
) -> None:
    campaign = await stands(settings, database, "ready")
    for verb in verbs_of(noun):
        if not verb.has_object or verb.scope != "campaigns:write":
            continue
        said = [verb.request.parse(BODIES.get(verb.name, {}))] if verb.request else []
        with acting("cho", reach=reach), pytest.raises(refusal):
            await verb.body(noun(settings, database), campaign, *said)


def test_what_python_does_is_in_the_audit(client: Client, settings: Settings) -> None:
    plan = client.campaign(
        name="n", message={"msgtype": "text", "text": {"content": "x"}}, users=["u1"]
    )
    campaign = plan.create()
    called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 1}

    async def send(database: Database) -> None:
        await change(database, ChunkRow, state=ChunkState.SETTLED, **called)

    in_database(settings.database, send)
    assert (campaign.confirm(), campaign.recall()) == (1, 1)
    actions = rows(settings.database, "select action, door from audit order by number")
    assert [row["action"] for row in actions] == ["create", "confirm", "recall"]
    assert {row["door"] for row in actions} == {"python"}
