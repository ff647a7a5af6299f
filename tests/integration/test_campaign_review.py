"""A second person approves a campaign before it starts, on each database."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from conftest import wait_until
from dingrelay_producers.actor import ACTOR, Actor, system_user
from dingrelay_producers.client.campaign_documents import (
    ApproveRequest,
    RejectRequest,
    StartRequest,
)
from dingrelay_producers.errors import CampaignConflict, ServiceUnavailable
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import keys
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.campaigns.personal_data import erase
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import retention
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, RunRow, UserRow
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.accepting import Acceptor
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.documents import RotationRequest
from dingrelay_workers.keys.personal_data import erase_keys
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.subjects import Erasing, Stores
from support.campaigns import put
from support.command_line import Cli
from support.databases import in_database, on_sqlite, rows
from support.gateways import Reply, gateway_thread, stored_keys
from support.rows import LONG_AGO, all_of, change
from support.rows import put as put_rows
from support.servers import free_port

Service = Callable[..., CampaignService]


@pytest.fixture
def service(valkey_url: str, database_url: str, database: Database) -> Service:
    on = {"env": "test", "redis_url": valkey_url, "database_url": database_url}

    def of(approve: str = "always", reviewers: Sequence[str] = (), **other: Any) -> CampaignService:
        campaigns = {"approve": approve, "reviewers": reviewers}
        campaigns["shell_users"] = other.pop("shell_users", {})
        return CampaignService(Settings.load(**on, campaigns=campaigns, **other))

    return of


def by(person: str, campaigns: CampaignService) -> CampaignService:
    """The campaigns as a person who is signed in uses them."""
    ACTOR.set(Actor("console", person, person=person))
    return campaigns


async def draft(database: Database, **fields: Any) -> str:
    return await put(database, state=State.DRAFT, writers=["ann"], **fields)


async def test_a_draft_starts_once_another_person_approved_it(
    database: Database, service: Service
) -> None:
    campaigns, campaign = service(), await draft(database)
    with pytest.raises(CampaignConflict, match="needs the approval of a second person"):
        await campaigns.start(campaign)
    with pytest.raises(CampaignConflict, match="was not submitted"):
        await by("bob", campaigns).approve(campaign)
    await by("cho", campaigns).submit(campaign)
    with pytest.raises(CampaignConflict, match="waits for the approval that cho asked for"):
        await campaigns.start(campaign)
    for same in ("ann", "cho"):
        with pytest.raises(CampaignConflict, match="neither wrote nor submitted"):
            await by(same, campaigns).approve(campaign)
    await by("bob", campaigns).approve(campaign)
    found = await campaigns.review(campaign)
    assert (found.state, found.asked_by, found.decided_by) == ("approved", "cho", "bob")
    await campaigns.start(campaign)
    await campaigns.start(campaign)  # its own state changes nothing
    assert (await campaigns.status(campaign)).state == State.RUNNING
    with pytest.raises(CampaignConflict, match="only one that is ready"):
        await by("ann", campaigns).submit(campaign)


async def test_who_has_left_approves_nothing(
    database: Database, service: Service, redis: Redis
) -> None:
    """A key outlives its owner's time in the organisation, and a setting names who was there once."""
    campaigns, campaign = service(), await draft(database)
    await by("ann", campaigns).submit(campaign)
    left = {"left_at": datetime.now(UTC)}
    for app in ("default", "hr"):
        await put_rows(database, UserRow, {"app": app, "userid": "bob", **left})
    key = Actor("http", "drk_1", "reviewer", person="bob")
    for actor in (key, Actor("console", "bob", person="bob")):
        ACTOR.set(actor)
        assert not (await campaigns.review(campaign)).decidable
        assert await campaigns.waiting_reviews(None) == []
        with pytest.raises(CampaignConflict, match="in the directory: bob is not"):
            await campaigns.approve(campaign)
        with pytest.raises(CampaignConflict, match="in the directory: bob is not"):
            await campaigns.reject(campaign, RejectRequest(reason="no"))
    await change(database, UserRow, UserRow.app == "hr", left_at=None)
    ACTOR.set(key)
    assert (await campaigns.approve(campaign)).state == "approved"


async def test_a_key_that_a_leaver_issued_approves_nothing(
    database: Database, service: Service, redis: Redis
) -> None:
    """Its owner is there, and its issuer, who is not, may still have the secret."""
    campaigns, campaign, every = service(), await draft(database), frozenset({"*"})
    await by("ann", campaigns).submit(campaign)
    ACTOR.set(BOSS)
    issued = await KeyService(database).issue(Grant(name="k", scopes=every, owner="bob"))
    await put_rows(database, UserRow, {"userid": "boss", "left_at": datetime.now(UTC)})

    async def actor_of(key: str) -> Actor:
        stored = await KeyService(database).verify(key)
        assert stored is not None
        return Actor("http", stored.id, person=stored.owner, issuers=stored.issuers)

    ACTOR.set(await actor_of(issued.key))
    assert not (await campaigns.review(campaign)).decidable
    with pytest.raises(CampaignConflict, match="boss issued this one, and is not in the directory"):
        await campaigns.approve(campaign)
    for overlap, refused in (("1h", True), ("0s", False)):
        ACTOR.set(Actor("console", "cho", person="cho"))
        request = RotationRequest.parse({"overlap": overlap})
        rotated = await KeyService(database).rotate(issued.id, request)
        ACTOR.set(await actor_of(rotated.key))
        assert (await campaigns.review(campaign)).decidable != refused
    assert (await campaigns.approve(campaign)).state == "approved"


async def test_who_was_deleted_from_the_directory_approves_nothing(
    database: Database, service: Service, redis: Redis
) -> None:
    """`[sync] keep_left` deletes the rows of leavers, and their keys go on."""
    campaigns, campaign = service(), await draft(database)
    forgetful = Settings.load(env="test", sync={"keep_left": "2d"})
    parts: Any = SimpleNamespace(database=lambda: database, settings=forgetful)
    await by("ann", campaigns).submit(campaign)
    await put_rows(database, UserRow, {"userid": "boss"})
    everything = {"run": "r", "scope": "everything", "closed_at": LONG_AGO}
    for fields in ({"person": "bob"}, {"person": "boss", "issuers": ["bob"]}):
        ACTOR.set(Actor("http", "drk_1", "reviewer", **fields))
        await put_rows(database, UserRow, {"userid": "bob", "left_at": LONG_AGO})
        assert not (await campaigns.review(campaign)).decidable
        await retention.clean_up(CleanUp(parts, lambda: datetime.now(UTC)))
        assert [row["userid"] for row in await all_of(database, UserRow)] == ["boss"]
        if not await all_of(database, RunRow):
            # A directory that was never read as a whole says nothing of who is not in it.
            assert (await campaigns.review(campaign)).decidable
            await put_rows(database, RunRow, everything)
        with pytest.raises(CampaignConflict, match="bob"):
            await campaigns.approve(campaign)
    ACTOR.set(Actor("http", "drk_1", "reviewer", person="boss"))
    assert (await campaigns.approve(campaign)).state == "approved"


async def test_a_person_s_keys_without_an_owner_write_as_one(
    database: Database, service: Service
) -> None:
    campaigns = service("over 6", shell_users={"root@ops": "boss"})
    owned = {"writers": ["cho"], "issuers": ["boss"]}
    issued_by: Mapping[str, Sequence[str]] = {
        "drk_aaaaaaaaaaaa": ["boss"],
        "drk_bbbbbbbbbbbb": ["shell root@ops"],
        "drk_cccccccccccc": ["eve"],
    }
    ids = [
        await put(database, state=State.DRAFT, people=4, **fields)
        for fields in (
            *({"writers": [key], "issuers": people} for key, people in issued_by.items()),
            owned,
        )
    ]
    first, same, other, cho = ids
    await campaigns.start(first)
    for campaign, needed in ((same, True), (other, False), (cho, False)):
        assert (await campaigns.review(campaign)).needed == needed


async def test_the_key_of_an_erased_person_has_no_owner(database: Database, redis: Redis) -> None:
    keys_of_all = KeyService(database)
    ACTOR.set(Actor("console", "bob", person="bob"))
    issued = await keys_of_all.issue(Grant(name="k", scopes=frozenset({"*"}), owner="bob"))
    now = datetime.now(UTC)
    erasing = Erasing("bob", since=now, tombstone="erased-1", now=now)
    await erase_keys(Stores(database, redis), erasing)
    found = await keys_of_all.verify(issued.key)
    assert found is not None
    assert (found.owner, found.issuers) == ("", ["erased-1"])


async def test_only_the_version_that_was_read_is_approved_and_started(
    database: Database, service: Service
) -> None:
    campaigns, campaign = service(), await draft(database)
    await by("ann", campaigns).submit(campaign)
    await change(database, CampaignRow, CampaignRow.id == campaign, version=2)
    await by("ann", campaigns).submit(campaign)
    with pytest.raises(CampaignConflict, match="was changed since it was read"):
        await by("bob", campaigns).approve(campaign, ApproveRequest(version=1))
    await by("bob", campaigns).approve(campaign, ApproveRequest(version=2))
    with pytest.raises(CampaignConflict, match="was changed since it was read"):
        await campaigns.start(campaign, StartRequest(version=1))
    await campaigns.start(campaign, StartRequest(version=2))


@pytest.mark.parametrize("approve", ["always", "off"])
async def test_a_rejected_draft_stays_with_its_reason(
    database: Database, service: Service, approve: str
) -> None:
    """Also where the approval was not needed: it was asked for, and the answer was no."""
    campaigns, campaign = service(approve), await draft(database)
    await by("ann", campaigns).submit(campaign)
    await by("bob", campaigns).reject(campaign, RejectRequest(reason="wrong date"))
    with pytest.raises(CampaignConflict, match="was rejected by bob: wrong date"):
        await campaigns.start(campaign)
    with pytest.raises(CampaignConflict, match="bob decided it already"):
        await by("dan", campaigns).approve(campaign)
    await by("ann", campaigns).submit(campaign)
    await by("dan", campaigns).approve(campaign)
    await campaigns.start(campaign)


async def test_an_approval_is_of_these_people(
    database: Database, redis: Redis, service: Service
) -> None:
    campaigns, campaign = service(), await draft(database, first=7)
    await by("ann", campaigns).submit(campaign)
    await by("bob", campaigns).approve(campaign)
    now = datetime.now(UTC)
    await erase(Stores(database, redis), Erasing("u8", since=now, tombstone="gone-1", now=now))
    assert (await campaigns.review(campaign)).state == "outdated"


@pytest.mark.parametrize("before", [True, False])
async def test_a_change_voids_the_approval(
    database: Database, service: Service, before: bool
) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"message": {"msgtype": "text", "text": {"content": "other"}}},
        {"start_at": datetime(2026, 12, 24, tzinfo=UTC)},
        {"people_digest": "of others"},
    )
    campaigns = service()
    for changed in changes:
        campaign = await draft(database)
        await by("ann", campaigns).submit(campaign)
        if not before:
            await by("bob", campaigns).approve(campaign)
        await change(database, CampaignRow, CampaignRow.id == campaign, **changed)
        assert (await campaigns.review(campaign)).state == "outdated", changed
        with pytest.raises(CampaignConflict, match="was not submitted for approval as it is now"):
            await by("dan", campaigns).approve(campaign)
        with pytest.raises(CampaignConflict, match="was changed since"):
            await campaigns.start(campaign)


@on_sqlite
async def test_the_settings_say_which_need_one(database: Database, service: Service) -> None:
    campaign = await draft(database, people=4)
    rules = {"off": False, "over 3": True, "over 4": False, "always": True}
    for approve, needed in rules.items():
        assert (await service(approve).review(campaign)).needed == needed, approve


async def sent(redis: Redis) -> list[dict[str, Any]]:
    """The jobs that were accepted."""
    ids = [name async for name in redis.scan_iter(keys.job("*"))]
    return [json.loads(await redis.hget(name, "payload") or b"") for name in ids]


async def test_reviewers_get_a_link(database: Database, service: Service, redis: Redis) -> None:
    campaign = await draft(database)
    await by("ann", service()).submit(campaign)
    assert await sent(redis) == []
    console = {"console_url": "https://relay.test/", "language": "zh"}
    await by("ann", service(reviewers=("bob", "ann"), **console)).submit(campaign)
    [asked] = await sent(redis)
    assert (asked["lane"], asked["sender"]) == ("urgent", "dingrelay")
    assert asked["to"] == {"users": ["bob"]}
    card = asked["message"]["action_card"]
    assert card["single_url"] == f"https://relay.test/campaigns/{campaign}"
    assert card["markdown"] == (
        f"### 有一条群发等待你审批\n\n**news**\n\nnews {campaign}\n\n提交人：ann\n\n共 4 人\n\n确认发送后立即发送"
    )


async def organise(database: Database) -> None:
    """Put the writer into the directory, with a name and a department."""
    await put_rows(database, UserRow, {"userid": "ann", "name": "张三"})
    await put_rows(database, DepartmentRow, {"id": 7, "name": "人事部"})
    await put_rows(database, MembershipRow, {"userid": "ann", "department": 7})


async def test_what_no_reviewer_could_be_told_of_is_not_submitted(
    database: Database, database_url: str
) -> None:
    nowhere = {"env": "test", "redis_url": f"redis://127.0.0.1:{free_port()}/0"}
    review = {"approve": "always", "reviewers": ("bob",)}
    settings = Settings.load(database_url=database_url, campaigns=review, **nowhere)
    campaigns, campaign = CampaignService(settings, database), await draft(database)
    with pytest.raises(ServiceUnavailable):
        await by("ann", campaigns).submit(campaign)
    assert (await campaigns.review(campaign)).state == "none"
    assert await all_of(database, AuditRow) == []


async def test_a_submission_holds_no_transaction_while_its_card_is_sent(
    database: Database, valkey_url: str, database_url: str, redis: Redis
) -> None:
    on = {"env": "test", "redis_url": valkey_url, "database_url": database_url}
    settings = Settings.load(campaigns={"reviewers": ("bob",)}, **on)
    campaign, own = await draft(database), CampaignRow.id

    class Slow(Acceptor):
        async def accept(self, jobs: Sequence[Contract]) -> list[JobStatus]:
            async with asyncio.timeout(5):
                await change(database, CampaignRow, own == campaign, people_digest="of others")
            return await super().accept(jobs)

    campaigns = by("ann", CampaignService(settings, database, Slow(settings)))
    # What another person has changed since is not what the card says.
    with pytest.raises(CampaignConflict, match="was changed since it was read"):
        await campaigns.submit(campaign)
    assert (await campaigns.review(campaign)).state == "none"
    await campaigns.submit(campaign)
    assert (await campaigns.review(campaign)).state == "asked"


async def test_a_reviewer_reads_what_there_is_to_decide(
    database: Database, service: Service, redis: Redis
) -> None:
    await organise(database)
    text = "## 年会\n\n[点我](https://evil.example)" + "长" * 200
    message = {"msgtype": "markdown", "markdown": {"title": "年会", "text": text}}
    checked = {"calls": 12, "minutes": 2.0, "quota_share": 0.005}
    start_at = datetime(2099, 12, 24, 1, tzinfo=UTC)
    campaign = await draft(database, message=message, checked=checked, start_at=start_at)
    await by("ann", service(reviewers=("bob",), language="en")).submit(campaign)
    [job] = await sent(redis)
    text = job["message"]["markdown"]["text"]
    for words in (
        "Submitted by 张三 (人事部)",
        "年会 点我 (https://evil.example)" + "长" * 90,
        "To 4 people",
        "Not before 2099-12-24",
        "12 calls, about 2 min of sending; 0.5% of the month's calls",
    ):
        assert words in text
    assert ("…" in text, "长" * 100 in text, "](" in text) == (True, False, False)


@pytest.mark.parametrize("decision", ["approved", "rejected"])
async def test_the_writers_learn_how_it_was_decided(
    database: Database, service: Service, redis: Redis, decision: str
) -> None:
    await organise(database)
    campaigns = service(language="en", console_url="https://relay.test")
    campaign = await draft(database)
    await by("cho", campaigns).submit(campaign)
    assert await by("ann", campaigns).decided_reviews() == []
    if decision == "approved":
        await by("bob", campaigns).approve(campaign)
        words = "bob approved it."
    else:
        await by("bob", campaigns).reject(campaign, RejectRequest(reason="wrong date"))
        words = "bob rejected it: wrong date"
    [job] = await sent(redis)
    assert job["to"] == {"users": ["ann"]}  # no directory has cho
    card = job["message"]["action_card"]
    assert words in card["markdown"]
    assert card["single_url"] == f"https://relay.test/campaigns/{campaign}"
    for person, is_told in (("ann", True), ("cho", True), ("bob", False)):
        reviews = await by(person, campaigns).decided_reviews()
        assert [row[:3] for row in reviews] == [(campaign, "news", decision)] * is_told


async def test_without_reviewers_people_with_the_role_get_it(
    database: Database, service: Service, redis: Redis
) -> None:
    for subject, apps in (("bob", ["*"]), ("ann", ["*"]), ("dan", ["hr"]), ("department:1", ["*"])):
        role = {"directory": "default", "subject": subject, "role": "approve", "apps": apps}
        await put_rows(database, RoleRow, {**role, "lanes": ["bulk"]})
    await by("cho", service()).submit(await draft(database))
    [job] = await sent(redis)
    assert job["to"] == {"users": ["bob"]}


@on_sqlite
def test_a_rule_that_is_none_is_refused(service: Service) -> None:
    for approve in ("on", "over", "over -1", "over 1 000"):
        with pytest.raises(SettingsError, match=r"campaigns.*approve"):
            service(approve)


TEXT = {"msgtype": "text", "text": {"content": "hello"}}
BOSS = Actor("console", "boss", person="boss")


def test_keys_approve_what_other_keys_wrote(
    settings: Settings, redis: Redis, sqlite_url: str
) -> None:
    campaigns = {"approve": "over 1", "reviewers": ("bob",)}
    on = {"redis_url": settings.redis_url, "database_url": sqlite_url}
    reviewed = Settings.load(env="test", campaigns=campaigns, **on)
    scopes = frozenset({"campaigns:write", "campaigns:read", "campaigns:approve"})
    other = Grant(name="other", scopes=scopes - {"campaigns:approve"})
    texts = stored_keys(reviewed, [Grant(name="writer", scopes=scopes, owner="ann"), other])
    owners = {"reviewer": "bob", "second": "ann", "unowned": ""}
    grants = [Grant(name=name, scopes=scopes, owner=owner) for name, owner in owners.items()]
    texts |= stored_keys(reviewed, grants, BOSS)
    with gateway_thread(reviewed, Services(reviewed)) as gateway:

        def ask(verb: str, key: str, body: object = None, method: str = "POST") -> Reply:
            return gateway.ask(method, f"/v1/campaigns/{campaign}{verb}", body, key=texts[key])

        plan = {"name": "n", "message": TEXT, "users": ["u1", "u2"]}
        campaign = gateway.ask("POST", "/v1/campaigns", plan, key=texts["writer"]).json["id"]
        refused = ask("/start", "writer")
        assert refused.status == 409
        assert "approval of a second person" in refused.json["detail"]
        assert "approval" in ask("", "writer", method="GET").json["waits"]
        assert ask("/review", "other").json["state"] == "asked"
        assert ask("/approve", "other").status == 403
        for same in ("writer", "second"):
            assert "neither wrote nor submitted" in ask("/approve", same).json["detail"]
        assert "has no owner" in ask("/approve", "unowned").json["detail"]
        assert ask("/reject", "reviewer", {}).status == 422
        for verb, why in (("/approve", {}), ("/reject", {"reason": "no"})):
            later = ask(verb, "reviewer", {"version": 2, **why})
            assert (later.status, "changed since" in later.json["detail"]) == (409, True)
        assert ask("/reject", "reviewer", {"reason": "no"}).json["state"] == "rejected"
        assert ask("/review", "writer").json["asked_by"] == "ann"
        assert ask("/approve", "reviewer").json["state"] == "approved"
        assert ask("/start", "writer").json["state"] == "running"
    jobs = rows(sqlite_url, "select action from audit where kind = 'campaign' order by number")
    actions = ["create", "submit", "reject", "submit", "approve", "start"]
    assert [row["action"] for row in jobs] == actions


def test_who_issued_a_key_may_act_with_it(
    settings: Settings, redis: Redis, sqlite_url: str
) -> None:
    """The owner of a key is what its issuer says, who was shown its secret as well."""
    scopes = frozenset({"campaigns:write", "campaigns:read", "campaigns:approve", "keys:write"})
    on = {"redis_url": settings.redis_url, "database_url": sqlite_url}
    people = {"approve": "always", "shell_users": {"root@ops": "ann"}}
    reviewed = Settings.load(env="test", campaigns=people, **on)

    def issued(issuer: Actor, **owners: str) -> dict[str, str]:
        grants = [
            Grant(name=name, sender="crm", scopes=scopes, owner=owner)
            for name, owner in owners.items()
        ]
        return stored_keys(reviewed, grants, issuer)

    texts = {
        **issued(Actor("console", "ann", person="ann"), ann="ann", bob="bob"),
        **issued(Actor("cli", "root@ops"), root="eve"),
        **issued(Actor("console", "cho", person="cho"), cho="cho", dan="dan"),
        **issued(Actor("cli", "eve@ops"), unknown="zoe"),
    }
    with gateway_thread(reviewed, Services(reviewed)) as gateway:

        def ask(path: str, key: str, body: object = None) -> Reply:
            return gateway.ask("POST", path, body, key=texts[key])

        def submitted(key: str) -> str:
            plan = {"name": "n", "message": TEXT, "users": ["u1", "u2"]}
            campaign = f"/v1/campaigns/{ask('/v1/campaigns', key, plan).json['id']}"
            assert ask(f"{campaign}/review", key).json["state"] == "asked"
            return campaign

        def refusal(campaign: str, key: str) -> str:
            reply = ask(f"{campaign}/approve", key)
            assert reply.status == 409, reply.json
            return str(reply.json["detail"])

        written = submitted("ann")
        for key in ("bob", "root"):
            assert "ann issued the key" in refusal(written, key)
        assert "does not say who that is" in refusal(written, "unknown")
        issuer = ask("/v1/keys", "bob", {"name": "x", "scopes": [*scopes], "owner": "bob"})
        texts["handed on"] = issuer.json["key"]
        assert "ann issued the key" in refusal(written, "handed on")
        assert ask(f"{written}/approve", "dan").json["state"] == "approved"

        by_program = submitted("dan")
        assert "cho issued the key" in refusal(by_program, "cho")
        assert ask(f"{by_program}/approve", "bob").json["state"] == "approved"

        async def rotate(database: Database) -> str:
            ACTOR.set(Actor("console", "ann", person="ann"))
            return (await KeyService(database).rotate(texts["dan"].partition(".")[0])).key

        texts["dan"] = in_database(sqlite_url, rotate)
        wait_until(lambda: ask("/v1/campaigns/none/approve", "dan").status == 404, timeout=10)
        assert "ann issued the key" in refusal(submitted("ann"), "dan")


def test_a_key_that_approves_sees_what_was_submitted_in_its_apps(
    settings: Settings, redis: Redis, sqlite_url: str
) -> None:
    scopes = frozenset({"campaigns:read", "campaigns:approve"})
    writer = Grant(name="crm", sender="crm", scopes=frozenset({"*"}), owner="ann")
    grants = [
        Grant(name="reviewer", sender="reviewer", scopes=scopes, owner="bob"),
        Grant(name="reader", sender="reader", scopes=frozenset({"campaigns:read"})),
        Grant(name="hr", sender="hr", apps=frozenset({"hr"}), scopes=scopes, owner="cho"),
    ]
    on = {"redis_url": settings.redis_url, "database_url": sqlite_url}
    reviewed = Settings.load(env="test", campaigns={"approve": "always"}, **on)
    texts = stored_keys(reviewed, grants) | stored_keys(reviewed, [writer], BOSS)
    with gateway_thread(reviewed, Services(reviewed)) as gateway:

        def ask(key: str, path: str, method: str = "GET", body: object = None) -> Reply:
            return gateway.ask(method, f"/v1/campaigns{path}", body, key=texts[key])

        def listed(key: str) -> list[str]:
            return [each["id"] for each in ask(key, "").json["campaigns"]]

        plan = {"name": "n", "message": TEXT, "users": ["u1", "u2"]}
        campaign, other = (ask("crm", "", "POST", plan).json["id"] for _ in range(2))
        assert (listed("reviewer"), ask("reviewer", f"/{campaign}").status) == ([], 404)
        ask("crm", f"/{campaign}/review", "POST")
        assert listed("reviewer") == [campaign]
        assert ask("reviewer", f"/{campaign}").json["id"] == campaign
        assert ask("reviewer", f"/{campaign}/preview").json["recipients"] == 2
        assert ask("reviewer", f"/{other}").status == 404
        for key in ("reader", "hr"):
            assert (listed(key), ask(key, f"/{campaign}").status) == ([], 404)
        assert ask("hr", f"/{campaign}/approve", "POST").status == 404
        assert ask("reviewer", f"/{campaign}/start", "POST").status == 403
        assert ask("reviewer", f"/{campaign}/approve", "POST").json["state"] == "approved"
        assert ask("crm", f"/{campaign}/start", "POST", {"version": 2}).status == 409
        started = ask("crm", f"/{campaign}/start", "POST", {"version": 1}).json
        assert started["stage"] == "running"


def test_a_command_approves_as_the_person_whom_the_settings_name(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user of the shell is that of the process: its environment can say anything."""
    me = system_user()
    settings = tmp_path / "settings.toml"
    cli.variables["DINGRELAY_CONFIG"] = str(settings)

    def say(**people: str) -> None:
        named = "".join(f'"{user}" = "{person}"\n' for user, person in people.items())
        rule = '[campaigns]\napprove = "always"\n'
        settings.write_text(f"{rule}[campaigns.shell_users]\n{named}")

    say()
    draft = cli.json("campaign", "create", "n", "--text", "hello", "--to", "u1,u2")["id"]
    refused = cli("campaign", "start", draft)
    assert (refused.exit_code, "needs the approval" in refused.stderr) == (2, True)
    assert cli.json("campaign", "review", draft)["asked_by"] == me
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "bob")
        cli.variables[name] = "bob"
    say(bob="u8")
    other = cli("campaign", "review", draft, "--approve", "--version", "1")
    assert (other.exit_code, f"does not say who {me} is" in other.stderr) == (2, True)
    say(**{me: "u7"})
    mine = cli.json("campaign", "create", "mine", "--text", "hello", "--to", "u1")["id"]
    assert cli.json("campaign", "review", mine)["asked_by"] == "u7"
    own = cli("campaign", "review", mine, "--approve", "--version", "1")
    assert (own.exit_code, "neither wrote nor submitted" in own.stderr) == (2, True)
    rest = cli.json(
        *("campaign", "create", "rest", "--text", "x", "--to", "u1,u3"),
        *("--except", f"campaign={draft}", "--dry-run"),
    )
    assert (rest["recipients"], rest["excluded"]) == (1, 1)
    unknown = cli("campaign", "create", "n", "--text", "x", "--to", "u1", "--except", "campaign=x")
    assert (unknown.exit_code, "no campaign x" in unknown.stderr) == (2, True)
    say(**{me.partition("@")[0]: "u8"})
    unread = cli("campaign", "review", mine, "--approve")
    assert (unread.exit_code, "--version" in unread.stderr) == (2, True)
    assert "version" in cli("campaign", "show", mine).stdout
    later = cli("campaign", "start", mine, "--version", "2")
    assert (later.exit_code, "was changed since it was read" in later.stderr) == (2, True)
    assert "approved" in cli("campaign", "review", mine, "--approve", "--version", "1").stdout
    assert cli.json("campaign", "start", mine, "--version", "1")["state"] == "running"


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the user of a container that runs as a number."""
    monkeypatch.setattr("os.getuid", lambda: 54_321)
    assert system_user() == f"uid:54321@{socket.gethostname()}"
