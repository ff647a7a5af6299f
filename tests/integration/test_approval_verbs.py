"""Verbs of approvals: each has one body, which every door carries out."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis

from dingrelay_producers.client.approval_verbs import ApprovalVerbs
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys as redis_keys
from dingrelay_workers.http.api_keys import Grant
from support.databases import rows
from support.gateways import GatewayClient

VERBS = verbs_of(ApprovalVerbs)
SAID: dict[str, dict[str, Any]] = {
    "terminate": {"reason": "late"},
    "comment": {"text": "hurry", "user": "u2"},
    "agree": {"user": "u2"},
    "refuse": {"user": "u2"},
}
by_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)


@pytest.fixture
def grants() -> Sequence[Grant]:
    scopes = frozenset({"approvals:write", "audit:read"})
    return [
        Grant(name="hr", scopes=scopes, apps=frozenset({"hr"})),
        Grant(name="other", scopes=scopes, apps=frozenset({"it"})),
        Grant(name="own", scopes=scopes, apps=frozenset({"hr"}), sender="crm"),
        Grant(name="bulk", scopes=scopes, apps=frozenset({"hr"}), lanes=frozenset({"bulk"})),
    ]


@by_verb
def test_it_is_in_the_audit_by_app(
    verb: Verb, gateway: GatewayClient, keys: dict[str, str], settings: Settings
) -> None:
    path, body = verb.path.replace("{instance}", "i1"), {"app": "hr", **SAID[verb.name]}
    answer = gateway.ask("POST", path, body, key=keys["hr"])
    assert answer.status == 202, answer.content

    query = "select door, action, object, app from audit where kind = 'approval'"
    [row] = rows(settings.database, query)
    assert tuple(row.values()) == ("http", verb.name, "i1", "hr")
    for name, seen in (("hr", 1), ("other", 0)):
        page = gateway.ask("GET", "/v1/audit?kind=approval", key=keys[name]).json
        assert len(page["changes"]) == seen


@by_verb
def test_a_key_acts_on_no_approval_that_is_not_its_own(
    verb: Verb, gateway: GatewayClient, keys: dict[str, str], settings: Settings, store: Redis
) -> None:
    path, body = verb.path.replace("{instance}", "i1"), {"app": "hr", **SAID[verb.name]}
    answers = [gateway.ask("POST", path, body, key=keys[name]) for name in ("other", "bulk", "own")]
    assert [answer.status for answer in answers] == [403, 403, 404]
    named = [[error["pointer"] for error in answer.json.get("errors", [])] for answer in answers]
    assert named == [["/app"], ["/lane"], []]
    other = gateway.ask("POST", path, {**body, "sender": "shop"}, key=keys["own"])
    assert other.status == 403
    assert rows(settings.database, "select action from audit where kind = 'approval'") == []
    assert not store.exists(redis_keys.RECENT)
