"""``/v1/keys``: keys that give keys, and never more than they have."""

import sqlite3
from collections.abc import Sequence

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_workers.http.api_keys import Grant, Rate
from gateways import GatewayClient

TEAM = Grant(
    name="team",
    scopes=frozenset({"keys:write", "messages:write"}),
    apps=frozenset({"hr"}),
    lanes=frozenset({"normal", "bulk"}),
    sender="team",
    rate=Rate(100, 1),
)


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [Grant(name="all", scopes=frozenset({"*"})), TEAM]


def test_a_key_is_made_rotated_and_revoked(gateway: GatewayClient, keys: dict[str, str]) -> None:
    wanted = {"name": "crm", "scopes": ["messages:write", "keys:write"], "rate": "50/1s"}
    made = gateway.ask("POST", "/v1/keys", {**wanted, "expires": "90d"}, key=keys["all"])
    assert made.status == 201, made.content
    assert set(made.json) == {"id", "key", "old_secret_until"}
    place = made.headers["Location"]
    shown = gateway.ask("GET", place, key=keys["all"]).json
    assert (shown["name"], shown["state"], shown["sender"]) == ("crm", "live", "crm")
    assert (shown["rate"], shown["apps"]) == ("50/1s", ["*"])

    own = gateway.ask("GET", "/v1/keys", key=made.json["key"])
    assert [key["name"] for key in own.json["keys"]] == ["crm"]
    names = [key["name"] for key in gateway.ask("GET", "/v1/keys", key=keys["all"]).json["keys"]]
    assert sorted(names) == ["all", "crm", "team"]

    rotated = gateway.ask("POST", f"{place}/rotate", {"overlap": "1h"}, key=keys["all"])
    assert rotated.status == 200
    assert rotated.json["old_secret_until"]
    for text in (made.json["key"], rotated.json["key"]):
        assert gateway.ask("GET", place, key=text).status == 200
    bare = gateway.ask("POST", f"{place}/rotate", key=keys["all"])
    assert bare.status == 200
    for text in (made.json["key"], rotated.json["key"], bare.json["key"]):
        assert gateway.ask("GET", place, key=text).status == 200
    ended = gateway.ask("POST", f"{place}/rotate", {"overlap": "0s"}, key=keys["all"])
    assert gateway.ask("GET", place, key=made.json["key"]).status == 401
    assert gateway.ask("GET", place, key=bare.json["key"]).status == 401

    revoked = gateway.ask("POST", f"{place}/revoke", key=keys["all"])
    assert revoked.json["state"] == "revoked"
    assert gateway.ask("GET", place, key=ended.json["key"]).status == 401
    again = gateway.ask("POST", f"{place}/rotate", key=keys["all"])
    assert (again.status, again.json["type"]) == (409, "urn:dingrelay:problem:conflict")


TOO_MUCH: list[tuple[dict[str, object], str]] = [
    ({"scopes": ["messages:write", "calls:write"]}, "/scopes"),
    ({"scopes": ["*"]}, "/scopes"),
    ({"apps": ["default"]}, "/apps"),
    ({"apps": None}, "/apps"),
    ({"lanes": ["urgent"]}, "/lanes"),
    ({"sender": "other"}, "/sender"),
    ({"sender": "*"}, "/sender"),
    ({"rate": "101/1s"}, "/rate"),
    ({"rate": None}, "/rate"),
]


def test_a_key_gives_no_more_than_it_has(gateway: GatewayClient, keys: dict[str, str]) -> None:
    fits = {
        "name": "x",
        "scopes": ["messages:write"],
        "apps": ["hr"],
        "lanes": ["bulk"],
        "rate": "5/1s",
    }
    for more, pointer in TOO_MUCH:
        refused = gateway.ask("POST", "/v1/keys", {**fits, **more}, key=keys["team"])
        assert refused.status == 403, (more, refused.content)
        assert [error["pointer"] for error in refused.json["errors"]] == [pointer]
    made = gateway.ask("POST", "/v1/keys", fits, key=keys["team"])
    assert made.status == 201
    shown = gateway.ask("GET", made.headers["Location"], key=keys["team"]).json
    assert shown["sender"] == "team"


def test_a_key_above_ones_own_is_not_there(gateway: GatewayClient, keys: dict[str, str]) -> None:
    above = keys["all"].partition(".")[0]
    for method, path in (("GET", ""), ("POST", "/rotate"), ("POST", "/revoke")):
        refused = gateway.ask(method, f"/v1/keys/{above}{path}", key=keys["team"])
        assert (refused.status, refused.json["detail"]) == (404, "no such key")
    assert gateway.ask("GET", "/v1/keys", key=keys["all"]).status == 200
    listed = gateway.ask("GET", "/v1/keys", key=keys["team"]).json["keys"]
    assert [key["name"] for key in listed] == ["team"]


def test_a_busy_database_is_reported_in_time(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings
) -> None:
    """SQLite makes a writer wait for another process, and nothing of ours ends that wait."""
    wanted = {"name": "x", "scopes": ["messages:write"]}
    text = {"msgtype": "text", "text": {"content": "hello"}}
    draft = {"name": "n", "message": text, "users": ["u1"]}
    place = gateway.ask("POST", "/v1/campaigns", draft, key=keys["all"]).headers["Location"]
    writer = sqlite3.connect(settings.database.partition("///")[2], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    # The client's patience is 30 s, as long as a writer's that is no request.
    for path, body in (("/v1/keys", wanted), (f"{place}/start", None)):
        reply = gateway.ask("POST", path, body, key=keys["all"])
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2"), reply.content
    writer.execute("ROLLBACK")
    writer.close()
    assert gateway.ask("GET", place, key=keys["all"]).json["state"] == "draft"
    assert gateway.ask("POST", "/v1/keys", wanted, key=keys["all"]).status == 201


def test_a_wrong_request_names_its_field(gateway: GatewayClient, keys: dict[str, str]) -> None:
    for body, pointer in (
        ({"name": "x", "scopes": ["messages:send"]}, "/scopes/0"),
        ({"name": "x", "scopes": ["*"], "rate": "fast"}, "/rate"),
        ({"name": "x", "scopes": "*"}, "/scopes"),
        ({"name": "x"}, "/scopes"),
    ):
        refused = gateway.ask("POST", "/v1/keys", body, key=keys["all"])
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, pointer)
    refused = gateway.ask("POST", "/v1/messages", {}, key=keys["team"])
    assert gateway.ask("GET", "/v1/keys/drk_nobodynobody", key=keys["all"]).status == 404
    assert gateway.ask("GET", "/v1/keys/'%20or%201=1", key=keys["all"]).status == 404
