"""Permissions of a key on every route: derived from its grant, and compared with the answers."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record, scripts
from dingrelay_tasks.contract import LANES
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.database.database import Database
from dingrelay_workers.gateway.server import ROUTES
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import SCOPES, ApiKey, Grant
from dingrelay_workers.http.routes import NDJSON, Route
from dingrelay_workers.keys.service import KeyService
from support import campaigns as campaign_rows
from support.databases import in_database
from support.examples import either
from support.gateways import GatewayClient, Reply, gateway_thread, stored_keys
from support.jobs import a_draft
from support.rows import change

SENDERS = ("crm", "shop")
APPS = ("default", "hr")
STATES = ("queued", "dead", "unknown", "done")
TEXT = {"msgtype": "text", "text": {"content": "你好"}}
JOBS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "sendMessage": ("message-send", {"to": {"users": ["u1"]}, "message": TEXT}),
    "createApproval": (
        "approval-create",
        {"process_code": "P", "originator": "u1", "form": {"a": "b"}},
    ),
    "callApi": ("api-call", {"method": "POST", "path": "/topapi/x", "body": {"userid": "u1"}}),
    "createRobotMessage": ("robot-message", {"to": {"robot": "ops"}, "message": TEXT}),
    "syncUsers": ("user-sync", {}),
}
"""Operation → the kind of its jobs, and one of them."""
BODIES: Mapping[str, dict[str, Any]] = {
    "resolveJob": {"sent": True},
    "postponeJob": {"until": "2100-01-01T00:00:00Z"},
    "testCampaign": {"users": ["u1"]},
    "confirmCampaign": {},
    "rejectCampaign": {"reason": "too early"},
    "terminateApproval": {},
    "agreeApproval": {"user": "u1"},
    "refuseApproval": {"user": "u1"},
    "commentApproval": {"user": "u1", "text": "x"},
    "resumeWebhook": {},
    "saveDraft": {"version": 1, "rate": 5},
    "freezeDraft": {"version": 1},
}
"""Operations on what is there → what they ask for."""
DRAFTING = {"createDraft", "getDraft", "saveDraft", "freezeDraft", "copyCampaign"}
"""Operations on campaigns that are written."""
NOUNS = {
    "campaign-previews": "campaigns",
    "templates": "campaigns",
    "dead": "jobs",
    "people": "directory",
    "lanes": "limits",
    "queue": "limits",
    "robot-messages": "robots",
    "user-syncs": "syncs",
    "workers": "limits",
}
"""The beginning of a path → the noun of its scope, where it is another one."""
NEEDS = {
    "showPerson": "jobs:read",
    "matchPeople": "directory:read",
    **dict.fromkeys(("listDrafts", "getDraft", "checkDraft"), "campaigns:write"),
    **dict.fromkeys(("approveCampaign", "rejectCampaign"), "campaigns:approve"),
    **dict.fromkeys(("listKeys", "getKey"), "keys:write"),
}
"""Operation → its scope, where it is not that of its noun for reading or writing."""
SIGNED = {"receiveEvent", "receiveRobotMessage"}
"""DingTalk signs these, and no key is a signature."""
FREE = {"sendJobs", "getOpenApi", "showDocs", "getHealth", "getReadiness", *SIGNED}
SCOPED = [route for route in ROUTES if route.operation not in FREE]
REFUSED = {403, 404}
PROBE = "drk_aaaaaaaaaaaa"


def needed(route: Route) -> str:
    """The scope that the guide asks for."""
    noun = route.path.split("/")[2]
    verb = "read" if route.method == "GET" else "write"
    return NEEDS.get(route.operation, f"{NOUNS.get(noun, noun)}:{verb}")


SCOPE_OF = {JOBS[route.operation][0]: needed(route) for route in ROUTES if route.operation in JOBS}


class Keys(KeyService):
    """Keys in SQL, and one that a test has made up."""

    made_up: ApiKey | None = None

    async def verify(self, presented: str) -> ApiKey | None:
        if presented == f"{PROBE}.x":
            return self.made_up
        return await super().verify(presented)


@dataclass
class Deployment:
    """A gateway, and what others have there: by id, the sender and app of each."""

    gateway: GatewayClient
    redis: Redis
    keys: Keys
    admin: str
    jobs: dict[str, dict[bytes, bytes]]
    campaigns: dict[str, tuple[str, str]]
    approvals: dict[str, tuple[str, str]]
    others: dict[str, Grant]

    def ask(self, grant: Grant, request: "Request", method: str) -> Reply:
        """Make a request with a key of this grant."""
        self.keys.made_up = ApiKey(
            id=PROBE, **{name: getattr(grant, name) for name in Grant.model_fields}
        )
        return self.gateway.ask(
            method, request.path, request.body, key=f"{PROBE}.x", **request.headers
        )

    def records(self) -> dict[str, dict[bytes, bytes]]:
        found = [key.decode() for key in self.redis.scan_iter("dingrelay:job:*", count=1000)]
        pipe = self.redis.pipeline()
        for key in found:
            pipe.hgetall(key)
        return dict(zip(found, pipe.execute(), strict=True))

    def restore(self, now: Mapping[str, Any]) -> None:
        """The jobs as they were before the request."""
        pipe = self.redis.pipeline()
        for key in now.keys() - self.jobs.keys():
            pipe.delete(key)
        for key, fields in self.jobs.items():
            if now.get(key) != fields:
                pipe.delete(key, key.replace(":job:", ":tombstone:"))
                pipe.hset(key, mapping=fields)  # type: ignore[arg-type]
                pipe.expire(key, 3_600)
        pipe.execute()

    def add_webhook(self, body: Mapping[str, Any]) -> str:
        """An endpoint of another key's; its id."""
        made = self.gateway.ask("POST", "/v1/webhooks", body, key=self.admin)
        assert made.status == 201, made.content
        return str(made.json["id"])

    def add_draft(self, body: Mapping[str, Any]) -> str:
        """A draft; its id."""
        made = self.gateway.ask("POST", "/v1/campaigns/drafts", body, key=self.admin)
        assert made.status == 201, made.content
        return str(made.json["id"])

    def listed(self, noun: str) -> dict[str, Any]:
        """An administrator's view of all campaigns or keys."""
        query = "?limit=500" if noun == "campaigns" else ""
        found = self.gateway.ask("GET", f"/v1/{noun}{query}", key=self.admin).json[noun]
        return {each["id"]: {**each, "last_used_at": None} for each in found}


@pytest.fixture(scope="module")
def deployment(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    database_url = f"sqlite:///{tmp_path_factory.mktemp('keys') / 'keys.db'}"
    configured = Settings.load(env="test", redis_url=shared_url, database_url=database_url)
    others = {
        "all": Grant(name="all", scopes=frozenset({"*"})),
        "shop": Grant(name="shop", scopes=frozenset({"messages:write"}), sender="shop"),
        "crm": Grant(name="crm", scopes=frozenset({"jobs:read"}), apps=frozenset({"hr"})),
    }
    texts = stored_keys(configured, others.values())
    kept = Services(configured)
    keys = kept.by_class[KeyService] = Keys(kept._database, timeout=30)
    with Redis.from_url(shared_url) as redis, gateway_thread(configured, kept) as gateway:
        redis.flushall()
        yield Deployment(
            gateway,
            redis,
            keys,
            texts["all"],
            seeded(redis),
            *in_database(configured.database, stored),
            {texts[name].partition(".")[0]: others[name] for name in SENDERS},
        )


Owned = dict[str, tuple[str, str]]


async def stored(database: Database) -> tuple[Owned, Owned]:
    """A draft and a sent campaign, and an approval, of each sender and app; approvals of no sender, too."""
    owners = [(sender, app) for sender in SENDERS for app in APPS]
    called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
    campaigns, approvals = Owned(), Owned()
    for state in ("done", "draft"):
        for sender, app in owners:
            campaign = await campaign_rows.put(database, sender=sender, app=app, state=state)
            campaigns[campaign] = (sender, app)
            if state == "done":
                theirs = ChunkRow.campaign == campaign
                await change(database, ChunkRow, theirs, state=ChunkState.SETTLED, **called)
    for sender, app in [*owners, *(("", app) for app in APPS)]:
        named = {"job": "j", "template": "P", "originator": "u1", "at": datetime.now(UTC)}
        await ApprovalStore(database, app).open(f"{sender}-{app}", sender=sender, **named)
        approvals[f"{sender}-{app}"] = (sender, app)
    return campaigns, approvals


def seeded(redis: Redis) -> dict[str, dict[bytes, bytes]]:
    """Records of every sender, app and state."""
    jobs: dict[str, dict[bytes, bytes]] = {}
    for sender, app, state in itertools.product((*SENDERS, ""), APPS, STATES):
        draft = a_draft(sender=sender, app=app)
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

    def names(self, app: str, lane: str, sender: str = "") -> bool:
        """Whether what it asks for may be of these."""
        return self.app(app) and lane in self.grant.lanes and (not sender or self.sender(sender))

    def gives(
        self, scopes: Iterable[str], apps: Iterable[str], lanes: Iterable[str], sender: str
    ) -> bool:
        """Whether it may make or change a key of these."""
        every = "*" in self.grant.scopes
        return (
            (every or set(scopes) <= self.grant.scopes)
            and all(map(self.app, apps))
            and set(lanes) <= self.grant.lanes
            and (every or self.sender(sender))
        )


@dataclass(frozen=True)
class Request:
    """A request, and whether the guide permits it to a key that has the route's scope."""

    path: str
    body: object = None
    permitted: bool = True
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Pick = Callable[[Iterable[str]], str]


def owner(fields: Mapping[bytes, bytes]) -> tuple[str, str]:
    """Sender and app of a job."""
    return fields.get(b"sender", b"").decode(), fields[b"app"].decode()


def request_of(  # noqa: C901, PLR0912, PLR0915 - a table of operations
    deployment: Deployment, held: Held, route: Route, pick: Pick, scopes: Iterable[str] = ("*",)
) -> Request:
    """A request to a route, of an app, a lane and a sender, about what is there or something new."""
    operation, path = route.operation, route.path
    app, lane, sender = pick(APPS), pick(LANES), pick(["", *SENDERS])
    if operation == "createRobotMessage":
        app = "robots"  # the only one that its jobs can have
    names = {"app": app, "lane": lane} | ({"sender": sender} if sender else {})
    if operation in JOBS:
        return Request(path, JOBS[operation][1] | names, held.names(**names))
    if operation == "sendJobs":
        kind, job = JOBS[pick(JOBS.keys() - {"createRobotMessage"})]
        line = json.dumps({"kind": kind, **job, **names}).encode()
        # Of each line `check_jobs` answers.
        return Request(path, line, headers={"Content_Type": NDJSON})
    if path.startswith("/v1/jobs/{id}"):
        job = pick(deployment.jobs)
        seen = held.sees(*owner(deployment.jobs[job])) and (
            operation != "requeueJob" or "normal" in held.grant.lanes
        )
        return Request(path.replace("{id}", job.rpartition(":")[2]), BODIES.get(operation), seen)
    if operation in {"createCampaign", "previewPlan"}:
        permitted = held.names(**names | {"lane": "bulk"})
        del names["lane"]
        return Request(path, {"name": "n", "message": TEXT, "users": ["u1"], **names}, permitted)
    if operation in DRAFTING:
        names = {"app": app, "sender": sender or SENDERS[0]}
        content = {"name": "n", "message": TEXT, "pasted": "u1", **names}
        if operation == "createDraft":
            return Request(path, content, held.names(**names, lane="bulk"))
        path = path.replace("{id}", deployment.add_draft(content))
        seen = held.sees(names["sender"], app) and "bulk" in held.grant.lanes
        return Request(path, BODIES.get(operation), seen)
    if path.startswith("/v1/templates"):
        template = {"name": "n", "message": TEXT, "app": app, "sender": sender or SENDERS[0]}
        if operation == "keepTemplate":
            names = {"app": app, "sender": template["sender"], "lane": "bulk"}
            return Request(path, template, held.names(**names))
        if "{id}" in path:
            made = deployment.gateway.ask("POST", "/v1/templates", template, key=deployment.admin)
            path = path.replace("{id}", made.json["id"])
        seen = held.sees(str(template["sender"]), app) or "{id}" not in route.path
        return Request(
            path, None, seen and (operation != "deleteTemplate" or "bulk" in held.grant.lanes)
        )
    if path.startswith("/v1/campaigns/{id}"):
        campaign = pick(deployment.campaigns)
        takes_lane = needed(route) != "campaigns:write" or "bulk" in held.grant.lanes
        seen = held.sees(*deployment.campaigns[campaign])
        return Request(path.replace("{id}", campaign), BODIES.get(operation), seen and takes_lane)
    if path.startswith("/v1/approvals/{instance}"):
        instance = pick(deployment.approvals)
        path, (sender_of, app) = (
            path.replace("{instance}", instance),
            deployment.approvals[instance],
        )
        seen = held.sees(sender_of, app)
        if operation == "getApproval":
            return Request(f"{path}?app={app}", None, seen)
        names["app"] = app
        return Request(path, BODIES[operation] | names, seen and held.names(**names))
    if operation == "addWebhook" or path.startswith("/v1/webhooks/{id}"):
        endpoint = {"url": "http://127.0.0.1:9/", "types": ["job.*"], "apps": [app]}
        if sender:
            endpoint["senders"] = [sender]
        # An endpoint without a sender gets everybody's jobs; a new one has the key's own.
        its_own = held.sender(sender) if sender else operation == "addWebhook"
        permitted = (
            (its_own or held.grant.sender == "*") and held.scope("jobs:read") and held.app(app)
        )
        if operation == "addWebhook":
            return Request(path, endpoint, permitted)
        path = path.replace("{id}", deployment.add_webhook(endpoint))
        return Request(
            path + "?wait=1" * (operation == "testWebhook"), BODIES.get(operation), permitted
        )
    if operation == "createKey":
        wanted = {"scopes": sorted(scopes), "apps": [app], "lanes": [lane]}
        permitted = held.gives(**wanted, sender=sender or held.grant.sender)
        return Request(
            path, {"name": "n", **wanted} | ({"sender": sender} if sender else {}), permitted
        )
    if path.startswith("/v1/keys/{id}"):
        key = pick(deployment.others)
        other = deployment.others[key]
        permitted = held.gives(other.scopes, other.apps, other.lanes, other.sender)
        return Request(path.replace("{id}", key), None, permitted)
    if operation == "matchPeople":
        return Request(path, {"app": app, "text": "u1"}, held.app(app))
    if path.startswith("/v1/lanes/{id}"):
        # A lane is only whose all its senders are.
        permitted = held.names(app, lane, sender or "*")
        name = ":".join(filter(None, (app, lane, sender)))
        return Request(path.replace("{id}", name), {}, permitted)
    if path.startswith("/v1/directory/"):
        return Request(f"{path}?app={app}", None, held.app(app))
    return Request(path.replace("{app}", app).replace("{userid}", "u1"))


def check_jobs(
    held: Held, operation: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Nothing of what changed is above the grant."""
    for key in after.keys() - before.keys():
        (sender, app), kind = owner(after[key]), after[key][b"kind"].decode()
        assert after[key][b"lane"].decode() in held.grant.lanes
        assert held.sees(sender, app)
        acts = operation.endswith("Approval")
        scope = "approvals:write" if acts else SCOPE_OF.get(kind, "campaigns:write")
        assert held.scope(scope) or held.scope("campaigns:write")
    for key, fields in before.items():
        if after.get(key) != fields:
            assert held.scope("jobs:write")
            assert held.sees(*owner(fields))
            requeued = after.get(key, {}).get(b"state") == b"queued"
            assert "normal" in held.grant.lanes or not requeued


def check_answer(held: Held, reply: Reply) -> None:
    """Nothing is shown that the key may not see."""
    if (
        reply.status not in range(200, 300)
        or reply.headers.get_content_type() != "application/json"
    ):
        return
    answer = reply.json
    lists = [answer.get(name) for name in ("jobs", "campaigns", "approvals")]
    for each in itertools.chain([answer], *(found for found in lists if isinstance(found, list))):
        if "app" in each and each.keys() & {"kind", "weight", "originator"}:
            assert held.sees(each.get("sender", ""), each["app"])
    for each in answer.get("drafts", []):
        assert held.sees(each["content"]["sender"], each["content"]["app"])
    for each in answer.get("keys", []):
        assert held.scope("*") or set(each["scopes"]) <= held.grant.scopes


def check_campaigns(
    held: Held, operation: str, deployment: Deployment, before: Mapping[str, Any]
) -> None:
    after = deployment.listed("campaigns")
    for campaign, row in after.items():
        if before.get(campaign) != row:
            assert held.scope("campaigns:write")
            assert "bulk" in held.grant.lanes
            assert held.sees(row["sender"], row["app"]) or not row["sender"]
            deployment.campaigns.setdefault(campaign, (row["sender"], row["app"]))
    # One that an earlier request has copied can be deleted.
    deleted = before.keys() - after.keys()
    assert not deleted or (operation, len(deleted)) == ("deleteCampaign", 1)
    for campaign in deleted:
        assert held.scope("campaigns:write")
        assert held.sees(before[campaign]["sender"], before[campaign]["app"])
        del deployment.campaigns[campaign]


def check_keys(held: Held, deployment: Deployment, before: Mapping[str, Any]) -> None:
    for key, row in deployment.listed("keys").items():
        if before.get(key) != row:
            assert held.scope("keys:write")
            assert held.scope("*") or set(row["scopes"]) <= held.grant.scopes
            assert all(map(held.app, row["apps"]))
            assert set(row["lanes"]) <= held.grant.lanes


@settings(max_examples=either(30, 600), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), grant=grants, route=st.sampled_from(ROUTES))
def test_routes_check_grants(
    deployment: Deployment, data: st.DataObject, grant: Grant, route: Route
) -> None:
    def pick(values: Iterable[str]) -> str:
        return data.draw(st.sampled_from(sorted(values)))

    held, scopes = Held(grant), data.draw(grants).scopes
    request = request_of(deployment, held, route, pick, scopes)
    campaigns, keys = deployment.listed("campaigns"), deployment.listed("keys")
    reply = deployment.ask(grant, request, route.method)
    after = deployment.records()
    try:
        assert reply.status < 500, reply.content
        check_jobs(held, route.operation, deployment.jobs, after)
        check_answer(held, reply)
        check_campaigns(held, route.operation, deployment, campaigns)
        check_keys(held, deployment, keys)
        scoped = route.operation in FREE or held.scope(needed(route))
        expected = scoped and request.permitted and route.operation not in SIGNED
        assert (reply.status not in REFUSED) == expected, (route.operation, reply.content)
        if not expected:
            assert after == deployment.jobs
            assert deployment.listed("campaigns") == campaigns
    finally:
        deployment.restore(after)


@pytest.mark.parametrize("route", SCOPED, ids=lambda route: route.operation)
def test_each_route_refuses_other_scopes_senders_and_apps(
    deployment: Deployment, route: Route
) -> None:
    every = frozenset(SCOPES)
    for grant in (
        Grant(name="scopes", scopes=every - {needed(route)}),
        Grant(name="sender", scopes=every, sender="elsewhere"),
        Grant(name="apps", scopes=every, apps=frozenset({"it"})),
        Grant(name="lanes", scopes=every, lanes=frozenset({"urgent"})),
    ):
        request = request_of(deployment, Held(grant), route, min)
        expected = grant.name != "scopes" and request.permitted
        reply = deployment.ask(grant, request, route.method)
        assert (reply.status not in REFUSED) == expected, (grant, reply.content)
        assert grant.name != "scopes" or reply.status == 403
    deployment.restore(deployment.records())


def test_strangers_learn_nothing(deployment: Deployment) -> None:
    every = Held(Grant(name="all", scopes=frozenset({"*"})))
    for route in [*SCOPED, *(route for route in ROUTES if route.operation == "sendJobs")]:
        request = request_of(deployment, every, route, min)
        for header in ({}, {"Authorization": "Bearer drk_no.no"}, {"Authorization": "Basic x"}):
            sent = {**request.headers, **header, "Idempotency_Key": "once"}
            reply = deployment.gateway.ask(route.method, request.path, request.body, **sent)
            assert reply.status == 401, (route.operation, reply.content)
            assert reply.headers["WWW-Authenticate"].startswith("Bearer ")
    assert deployment.records() == deployment.jobs
    assert deployment.redis.keys("dingrelay:idempotency:*") == []


def test_every_route_is_in_the_matrix() -> None:
    # Which scope a call of DingTalk's APIs needs depends on its path.
    assert {route.operation for route in ROUTES if not route.scope} == FREE | {"callApi"}
