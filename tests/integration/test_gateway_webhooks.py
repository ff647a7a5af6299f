"""``/v1/webhooks``: endpoints that get no more than the key that asks for them may read."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from dingrelay_producers.settings import Settings
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.models import EndpointRow
from support.gateways import Ask, Reply, gateway_thread, stored_keys

URL = "https://crm.example.com/dingrelay"
BOTH = frozenset({"webhooks:read", "webhooks:write"})

EVERYTHING = frozenset({"jobs:read", "campaigns:read", "approvals:read", "directory:read"})

GRANTS = [
    Grant(name="all", scopes=frozenset({"*"})),
    Grant(name="team", scopes=BOTH | {"jobs:read"}, apps=frozenset({"hr"}), sender="team"),
    Grant(name="people", scopes=BOTH | {"directory:read"}),
    Grant(name="crm", scopes=BOTH | EVERYTHING, sender="crm"),
    Grant(name="robots", scopes=BOTH | {"directory:read", "jobs:read"}),
    Grant(name="oncall", scopes=BOTH | {"jobs:read"}, apps=frozenset({"group:oncall"})),
]


@pytest.fixture
def grants() -> Sequence[Grant]:
    return GRANTS


def add(ask: Ask, **fields: Any) -> Reply:
    return ask("POST", "/v1/webhooks", {"url": URL, "types": ["job.*"], **fields})


def test_an_endpoint_from_its_making_to_its_end(
    every: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = add(every, name="crm", senders=["crm"], kinds=["message-send"])
    assert made.status == 201, made.content
    assert made.json["secret"].startswith("whsec_")
    place = made.headers["Location"]

    def ask(method: str, path: str = "", body: object = None) -> Reply:
        return every(method, place + path, body)

    shown = ask("GET").json
    assert (shown["url"], shown["types"], shown["senders"]) == (URL, ["job.*"], ["crm"])
    assert (shown["state"], shown["health"]["backlog"]) == ("enabled", 0)
    (listed,) = every("GET", "/v1/webhooks").json["webhooks"]
    assert listed["id"] == made.json["id"]

    assert ask("POST", "/pause").json["state"] == "paused"
    since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    assert ask("POST", "/resume", {"skip": True}).json["state"] == "enabled"
    ask("POST", "/pause")
    replayed = ask("POST", "/resume", since | {"until": datetime.now(UTC).isoformat()}).json
    assert (replayed["state"], replayed["notices"]) == ("enabled", 0)
    assert ask("POST", "/resume", {"numbers": [12345]}).status == 409
    rotated = ask("POST", "/rotate", {"overlap": "1h"})
    assert rotated.json["secret"] not in {made.json["secret"], None}
    assert rotated.json["old_secret_until"]
    pending = ask("POST", "/test?wait=1")
    assert (pending.status, pending.json["state"]) == (202, "test")
    assert ask("DELETE").status == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/test?wait=1")):
        assert ask(method, path).status == 404
    for secret in (made.json["secret"], rotated.json["secret"]):
        assert secret not in caplog.text + str(shown)


WRONG: list[tuple[dict[str, object], str]] = [
    ({"url": "ftp://a/"}, "/url"),
    ({"url": "https://"}, "/url"),
    ({"url": "https://user:secret@a.example/"}, "/url"),
    ({"url": "https://@a.example/"}, "/url"),
    ({"url": "https://a.example/#x"}, "/url"),
    ({"url": "https://a.example:99999/"}, "/url"),
    ({"url": "https://a.example:0/"}, "/url"),
    ({"url": "https://bücher.example/"}, "/url"),
    ({"url": "https://a.example/ b"}, "/url"),
    ({"url": "celery://"}, "/url"),
    ({"url": "celery://crm"}, "/url"),
    ({"url": "celery://dingrelay.bulk/crm.on"}, "/url"),
    ({"url": "celery://crm/dingrelay.message-send"}, "/url"),
    ({"url": "celery://crm/celery.backend_cleanup"}, "/url"),
    ({"types": []}, "/types"),
    ({"types": ["job.finished"]}, "/types/0"),
    ({"types": ["job"]}, "/types/0"),
    ({"types": ["jobs.*"]}, "/types/0"),
    ({"types": ["webhook.test"]}, "/types/0"),
    ({"apps": ["*"]}, "/apps/0"),
    ({"kinds": ["approval-follow"]}, "/kinds/0"),
    ({"secret": "whsec_mine"}, "/secret"),
]


def test_errors_are_named(every: Ask) -> None:
    for fields, pointer in WRONG:
        refused = add(every, **fields)
        assert refused.status == 422, (fields, refused.content)
        (error,) = refused.json["errors"]
        assert error["pointer"] == pointer, fields
        assert "secret" not in error["detail"].replace("/secret", ""), fields
    for host in ("10.0.0.1", "169.254.169.254", "[fd00::1]:8080", "[::ffff:169.254.169.254]"):
        refused = add(every, url=f"http://{host}/")
        (error,) = refused.json["errors"]
        assert (refused.status, error["pointer"]) == (422, "/url"), host
        assert "not public" in error["detail"], host
    refused = add(every, types=["job.died"])
    assert 'did you mean "job.dead"?' in refused.json["errors"][0]["detail"]


TOO_MUCH: list[tuple[str, dict[str, object], str]] = [
    ("team", {"types": ["*"]}, "/types"),
    ("team", {"types": ["job.done", "directory.user.left"]}, "/types"),
    ("team", {"types": ["campaign.*"]}, "/types"),
    ("team", {"apps": ["default"]}, "/apps"),
    ("team", {"apps": ["hr", "default"]}, "/apps"),
    ("team", {"senders": ["other"]}, "/senders"),
    ("team", {"senders": ["team", "other"]}, "/senders"),
    ("team", {"url": "celery://crm/crm.on_notice"}, "/url"),
    ("people", {"types": ["job.*"]}, "/types"),
    ("people", {"types": ["dingtalk.user_add_org"]}, "/types"),
    ("people", {"types": ["approval.*"]}, "/types"),
    ("people", {"types": ["robot.message"]}, "/types"),
    # A key with a sender of its own sees its own approvals only, and DingTalk's events have no sender.
    ("crm", {"types": ["*"]}, "/types"),
    ("crm", {"types": ["dingtalk.*"]}, "/types"),
    ("crm", {"types": ["dingtalk.bpms_instance_change"]}, "/types"),
    ("crm", {"types": ["dingtalk.bpms_task_change", "job.*"]}, "/types"),
]


def test_an_endpoint_needs_its_scopes(callers: dict[str, Ask]) -> None:
    for name, fields, pointer in TOO_MUCH:
        refused = add(callers[name], **fields)
        assert refused.status == 403, (name, fields, refused.content)
        assert [error["pointer"] for error in refused.json["errors"]] == [pointer], (name, fields)


def test_every_type_can_be_subscribed_to_and_is_listed(callers: dict[str, Ask], every: Ask) -> None:
    families = [f"{name}.*" for name in notice_types.FAMILIES]
    chosen = [*notice_types.TYPES, *families, "dingtalk.user_add_org", "*"]
    for type_ in chosen:
        made = add(every, types=[type_])
        assert made.status == 201, (type_, made.content)
    assert len(every("GET", "/v1/webhooks").json["webhooks"]) == len(chosen)
    mine = callers["robots"]("GET", "/v1/webhooks")
    assert mine.status == 200, mine.content
    shown = {type_ for endpoint in mine.json["webhooks"] for type_ in endpoint["types"]}
    assert shown == {t for t in chosen if t.startswith(("robot.", "directory.", "job."))}


def test_an_endpoint_of_a_newer_release_is_listed_for_keys_that_may_do_all(
    callers: dict[str, Ask], every: Ask, settings: Settings
) -> None:
    made = add(every).json["id"]
    with sync_engine(settings.database).begin() as connection:
        connection.execute(update(EndpointRow).values(types=["invoice.paid"]))
    assert [each["id"] for each in every("GET", "/v1/webhooks").json["webhooks"]] == [made]
    assert callers["people"]("GET", "/v1/webhooks").json["webhooks"] == []


def test_a_key_for_a_group_adds_an_endpoint_for_it(callers: dict[str, Ask], every: Ask) -> None:
    for fields in ({}, {"apps": ["group:oncall"]}):
        made = add(callers["oncall"], **fields)
        assert made.status == 201, made.content
        assert every("GET", made.headers["Location"]).json["apps"] == ["group:oncall"]
    refused = add(callers["oncall"], apps=["group:other"])
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (403, "/apps")
    assert add(every, apps=["robot:ops", "hr"]).status == 201
    assert len(callers["oncall"]("GET", "/v1/webhooks").json["webhooks"]) == 2


def test_an_endpoint_inherits_app_and_sender(callers: dict[str, Ask]) -> None:
    made = add(callers["team"])
    assert made.status == 201, made.content
    shown = callers["team"]("GET", made.headers["Location"]).json
    assert (shown["apps"], shown["senders"]) == (["hr"], ["team"])


def test_a_senders_key_may_have_directory(callers: dict[str, Ask]) -> None:
    made = add(callers["crm"], types=["dingtalk.user_add_org", "directory.*", "approval.*"])
    assert made.status == 201, made.content


def test_production_needs_https_and_a_key(valkey_url: str, sqlite_url: str) -> None:
    production = {
        "env": "production", "redis_url": valkey_url, "database_url": sqlite_url,
        "apps": {"default": {"app_key": "k", "app_secret": "s"}},
    }  # fmt: skip
    settings = Settings.load(**production)
    keys = stored_keys(settings, GRANTS[:1])
    with gateway_thread(settings, Services(settings)) as gateway:
        without = add(gateway.by(keys["all"]))
    assert without.status == 503
    assert "DINGRELAY_WEBHOOK_KEY" in without.json["detail"]
    settings = Settings.load(**production, webhook_key="k" * 32)
    with gateway_thread(settings, Services(settings)) as gateway:
        ask = gateway.by(keys["all"])
        assert add(ask).status == 201
        plain = add(ask, url="http://crm.example.com/")
        assert plain.status == 422
        assert "https" in plain.json["errors"][0]["detail"]
        assert add(ask, url="https://127.0.0.1/").status == 422
