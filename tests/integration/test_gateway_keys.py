"""``/v1/keys``: keys that give keys, and never more than they have."""

import sqlite3
from collections.abc import Sequence

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_workers.http.api_keys import Grant, Rate
from support.gateways import Ask, GatewayClient, Reply

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


def names(ask: Ask) -> list[str]:
    """Names of the keys that a key sees."""
    return sorted(key["name"] for key in ask("GET", "/v1/keys").json["keys"])


def test_a_key_is_made_rotated_and_revoked(gateway: GatewayClient, every: Ask) -> None:
    wanted = {"name": "crm", "scopes": ["messages:write", "keys:write"], "rate": "50/1s"}
    made = every("POST", "/v1/keys", {**wanted, "expires": "90d"})
    assert made.status == 201, made.content
    assert set(made.json) == {"id", "key", "old_secret_until"}
    place = made.headers["Location"]
    shown = every("GET", place).json
    assert (shown["name"], shown["state"], shown["sender"]) == ("crm", "live", "crm")
    assert (shown["rate"], shown["apps"]) == ("50/1s", ["*"])
    assert names(gateway.by(made.json["key"])) == ["crm"]
    assert names(every) == ["all", "crm", "team"]

    def taken(*replies: Reply) -> set[int]:
        return {gateway.ask("GET", place, key=each.json["key"]).status for each in replies}

    rotated = every("POST", f"{place}/rotate", {"overlap": "1h"})
    assert rotated.status == 200
    assert rotated.json["old_secret_until"]
    bare = every("POST", f"{place}/rotate")
    assert bare.status == 200
    assert taken(made, rotated, bare) == {200}
    ended = every("POST", f"{place}/rotate", {"overlap": "0s"})
    assert taken(made, bare) == {401}
    assert taken(ended) == {200}

    assert every("POST", f"{place}/revoke").json["state"] == "revoked"
    assert taken(ended) == {401}
    again = every("POST", f"{place}/rotate")
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


def test_a_key_gives_no_more_than_it_has(callers: dict[str, Ask]) -> None:
    team = callers["team"]
    fits = {"name": "x", "scopes": ["messages:write"], "apps": ["hr"], "lanes": ["bulk"]}
    fits["rate"] = "5/1s"
    for more, pointer in TOO_MUCH:
        refused = team("POST", "/v1/keys", {**fits, **more})
        assert refused.status == 403, (more, refused.content)
        assert [error["pointer"] for error in refused.json["errors"]] == [pointer]
    made = team("POST", "/v1/keys", fits)
    assert made.status == 201
    assert team("GET", made.headers["Location"]).json["sender"] == "team"


def test_a_key_above_ones_own_is_not_there(callers: dict[str, Ask], keys: dict[str, str]) -> None:
    refused = callers["team"]("GET", f"/v1/keys/{keys['all'].partition('.')[0]}")
    assert (refused.status, refused.json["detail"]) == (404, "no such key")
    assert names(callers["team"]) == ["team"]


def test_a_busy_database_is_reported_in_time(every: Ask, settings: Settings) -> None:
    """SQLite makes a writer wait for another process, and nothing of ours ends that wait."""
    wanted = {"name": "x", "scopes": ["messages:write"]}
    text = {"msgtype": "text", "text": {"content": "hello"}}
    draft = {"name": "n", "message": text, "users": ["u1"]}
    place = every("POST", "/v1/campaigns", draft).headers["Location"]
    writer = sqlite3.connect(settings.database.partition("///")[2], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    # The client's timeout is 30 s, as long as a writer's that is no request.
    for path, body in (("/v1/keys", wanted), (f"{place}/start", None)):
        reply = every("POST", path, body)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2"), reply.content
    writer.execute("ROLLBACK")
    writer.close()
    assert every("GET", place).json["state"] == "draft"
    assert every("POST", "/v1/keys", wanted).status == 201


def test_a_key_that_is_not_there_is_not_found(every: Ask) -> None:
    for name in ("drk_nobodynobody", "'%20or%201=1"):
        assert every("GET", f"/v1/keys/{name}").status == 404
