"""A test of a campaign goes to its writers and reviewers, and is no broadcast; on each database."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client import campaign_documents
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.audit import service as audit
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState, State
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from support.campaigns import put
from support.rows import all_of, change
from support.servers import free_port

Service = Callable[..., CampaignService]
Send = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def service(valkey_url: str, database_url: str, database: Database) -> Service:
    def of(*reviewers: str) -> CampaignService:
        campaigns = {"reviewers": reviewers, "shell_users": {"alice@host": "ann"}}
        on = {"redis_url": valkey_url, "database_url": database_url}
        return CampaignService(Settings.load(env="test", campaigns=campaigns, **on))

    return of


async def draft(database: Database, **fields: Any) -> str:
    return await put(database, state=State.DRAFT, writers=["ann", "bob"], **fields)


@pytest.fixture
def send(redis: Redis) -> Send:
    """Sends a test, and returns its job."""

    async def send(campaigns: CampaignService, campaign: str, *users: str) -> dict[str, Any]:
        job = await campaigns.test(campaign, campaign_documents.TestRequest(users=[*users]))
        payload: dict[str, Any] = json.loads(await redis.hget(keys.job(job.id), "payload") or b"")
        return payload

    return send


def act(person: str) -> None:
    ACTOR.set(Actor("console", person, person=person))


async def test_testers_are_writers_and_reviewers(
    database: Database, service: Service, send: Send
) -> None:
    act("cho")
    campaigns, campaign = service("rev"), await draft(database)
    job = await send(campaigns, campaign, "ann", "rev", "cho")
    assert job["to"] == {"users": ["ann", "rev", "cho"]}
    with pytest.raises(ContractError, match="users: u1 is neither a writer nor a reviewer"):
        await send(campaigns, campaign, "ann", "u1")
    assert (await send(campaigns, campaign))["to"] == {"users": ["cho"]}
    audited = [row["after"] for row in await all_of(database, AuditRow) if row["action"] == "test"]
    assert [after["people"] for after in audited] == [3, 1]


async def test_a_campaign_has_five_testers_in_all(
    database: Database, service: Service, send: Send
) -> None:
    act("cho")
    reviewers = [f"rev{number}" for number in range(9)]
    campaigns, campaign = service(*reviewers), await draft(database)
    for number in range(4):
        await send(campaigns, campaign, f"rev{number}")
    await send(campaigns, campaign, "rev3", "cho")
    with pytest.raises(ContractError, match="5 people at most get tests of a campaign: rev0, rev1"):
        await send(campaigns, campaign, "rev4")
    await send(campaigns, campaign, "rev0")
    await send(campaigns, await draft(database), "rev4")


async def test_what_bears_no_mark_goes_to_oneself_only(
    database: Database, service: Service, send: Send
) -> None:
    act("ann")
    full = {"msgtype": "text", "text": {"content": "x" * 5_000}}
    for message in ({"msgtype": "file", "file": {"media_id": "@x"}}, full):
        campaigns, campaign = service("rev"), await draft(database, message=message)
        for users in (["rev"], ["ann", "rev"]):
            with pytest.raises(ContractError, match="goes to oneself only"):
                await send(campaigns, campaign, *users)
        assert (await send(campaigns, campaign))["message"] == message


async def test_oneself_is_a_person(database: Database, service: Service, send: Send) -> None:
    campaigns, campaign = service(), await draft(database)
    for unknown in (Actor("http", "drk_aaaaaaaaaaaa"), Actor("cli", "root@host")):
        ACTOR.set(unknown)
        with pytest.raises(ContractError, match=f"not known which person {unknown.id} is"):
            await send(campaigns, campaign)
        assert (await send(campaigns, campaign, "bob"))["to"] == {"users": ["bob"]}
    for person in (Actor("http", "drk_aaaaaaaaaaaa", person="cho"), Actor("cli", "alice@host")):
        ACTOR.set(person)
        await send(campaigns, campaign)


async def test_what_is_not_accepted_is_not_in_the_audit(
    database: Database, database_url: str
) -> None:
    act("ann")
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    settings = Settings.load(env="test", redis_url=nowhere, database_url=database_url)
    campaigns, campaign = CampaignService(settings, database), await draft(database)
    await called(database)
    for verb in with_jobs(campaigns, campaign):
        with pytest.raises(ServiceUnavailable):
            await verb
    assert await all_of(database, AuditRow) == []


async def test_what_is_accepted_is_in_the_audit_with_its_jobs(
    database: Database, each_settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    act("ann")
    campaigns, campaign = CampaignService(each_settings, database), await draft(database)
    await called(database)

    async def away(*_: Any, **__: Any) -> None:
        raise ServiceUnavailable("the audit can't be written")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", away)
        for verb in with_jobs(campaigns, campaign):
            with pytest.raises(ServiceUnavailable):
                await verb
    assert await redis.keys(keys.job("*")) == []
    for verb in with_jobs(campaigns, campaign):
        await verb
    audited = {row["action"]: row["after"] for row in await all_of(database, AuditRow)}
    assert sorted(audited) == ["confirm", "recall", "test"]
    accepted = {keys.job(job).encode() for after in audited.values() for job in after["jobs"]}
    assert accepted == {*await redis.keys(keys.job("*"))}


async def called(database: Database) -> None:
    """DingTalk has taken its call."""
    call = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
    await change(database, ChunkRow, state=ChunkState.SETTLED, **call)


def with_jobs(campaigns: CampaignService, campaign: str) -> list[Awaitable[Any]]:
    return [
        campaigns.test(campaign, campaign_documents.TestRequest.parse({"users": ["ann"]})),
        campaigns.confirm(campaign),
        campaigns.recall(campaign),
    ]
