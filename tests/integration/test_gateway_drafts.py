"""``/v1/campaign-drafts`` on a real socket, database and Valkey."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.http.api_keys import Grant
from gateways import GatewayClient

DRAFTS = "/v1/campaign-drafts"
TEXT = {"msgtype": "text", "text": {"content": "{name}, come!"}}
WRITE = frozenset({"campaigns:write", "campaigns:read"})
PEOPLE = {"a1": ("Ann", "13800000001"), "b1": ("Bob Lee", "13800000002"), "b2": ("Bob Lee", "")}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return (
        Grant(name="crm", scopes=WRITE | {"directory:read"}, sender="crm"),
        Grant(name="shop", scopes=WRITE, sender="shop"),
        Grant(name="hr", scopes=WRITE, apps=frozenset({"hr"})),
        Grant(name="normal", scopes=WRITE, lanes=frozenset({"normal"})),
        Grant(name="reader", scopes=frozenset({"campaigns:read"})),
    )


@pytest.fixture(autouse=True)
def directory(gateway: GatewayClient, settings: Settings) -> None:
    """Ann and two people called Bob Lee."""

    async def fill() -> None:
        database = Database(settings.database)
        store, root = AppDirectory(database, "default"), Department(1, {"name": "all"})
        await store.open_run("walk", scope="everything", roots=[root], calls=0)
        members = [
            Member(user, {"name": name, "mobile": mobile})
            for user, (name, mobile) in PEOPLE.items()
        ]
        await store.fill("walk", root, children=[], members=members, calls=1)
        await store.close_run("walk", confirm_removals=True)
        await database.dispose()

    asyncio.run(fill())


def made(gateway: GatewayClient, key: str, **content: Any) -> dict[str, Any]:
    reply = gateway.ask("POST", DRAFTS, {"name": "party", "message": TEXT, **content}, key=key)
    assert reply.status == 201, reply.content
    assert reply.headers["Location"] == f"{DRAFTS}/{reply.json['id']}"
    found: dict[str, Any] = reply.json
    return found


def test_a_draft_becomes_a_campaign(gateway: GatewayClient, keys: dict[str, str]) -> None:
    key = keys["crm"]
    draft = made(gateway, key, name="", pasted="Ann, Zed")
    place = f"{DRAFTS}/{draft['id']}"
    assert (draft["version"], draft["content"]["sender"]) == (1, "crm")
    refused = gateway.ask("GET", f"{place}/check", key=key)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/name")
    saved = gateway.ask("PATCH", place, {"version": 1, "name": "party", "rate": 60}, key=key).json
    assert (saved["version"], saved["content"]["pasted"]) == (2, "Ann, Zed")
    stale = gateway.ask("PATCH", place, {"version": 1, "name": "picnic"}, key=key)
    assert (stale.status, stale.json["type"]) == (409, "urn:dingrelay:problem:conflict")
    assert gateway.ask("PATCH", place, {"version": 2, "rate": None}, key=key).json["version"] == 3
    check = gateway.ask("GET", f"{place}/check", key=key).json
    assert (check["recipients"], [row["line"] for row in check["skipped"]]) == (1, [1])
    assert check["first"][0]["message"]["text"]["content"] == "Ann, come!"
    assert gateway.ask("POST", f"{place}/freeze", {"version": 2}, key=key).status == 409
    frozen = [gateway.ask("POST", f"{place}/freeze", {"version": 3}, key=key) for _ in range(2)]
    assert [reply.status for reply in frozen] == [201, 201]
    first, again = (reply.json for reply in frozen)
    assert (first["id"], first["sender"], first["recipients"]) == (again["id"], "crm", 1)
    assert first["preview"] == {**check, **first["preview"], "absent": check["absent"]}
    assert gateway.ask("GET", place, key=key).json["campaign"] == first["id"]
    started = gateway.ask("POST", f"{frozen[0].headers['Location']}/start", key=key)
    assert started.json["state"] == "running"
    assert gateway.ask("GET", DRAFTS, key=key).json == {"drafts": [], "next": None}
    assert gateway.ask("DELETE", place, key=key).status == 204
    assert gateway.ask("GET", place, key=key).status == 404


def test_drafts_come_in_pages(gateway: GatewayClient, keys: dict[str, str]) -> None:
    ids = [made(gateway, keys["crm"], name=str(number))["id"] for number in range(3)]
    made(gateway, keys["shop"])
    first = gateway.ask("GET", f"{DRAFTS}?limit=2", key=keys["crm"]).json
    rest = gateway.ask("GET", f"{DRAFTS}?limit=2&cursor={first['next']}", key=keys["crm"]).json
    assert [each["id"] for each in first["drafts"] + rest["drafts"]] == ids[::-1]


def test_a_draft_whose_answer_was_lost_is_made_once(
    gateway: GatewayClient, keys: dict[str, str]
) -> None:
    body = {"name": "party"}
    replies = [
        gateway.ask("POST", DRAFTS, body, key=keys["crm"], Idempotency_Key="p1") for _ in range(2)
    ]
    assert len({reply.json["id"] for reply in replies}) == 1


@pytest.mark.parametrize(
    ("key", "method", "path", "body", "status", "pointer"),
    [
        ("reader", "POST", "", {}, 403, None),
        ("normal", "POST", "", {}, 403, None),
        ("hr", "POST", "", {}, 403, "/app"),
        ("crm", "POST", "", {"sender": "shop"}, 403, "/sender"),
        ("crm", "POST", "", {"rate": 0}, 422, "/rate"),
        ("crm", "POST", "", {"departments": ["1"]}, 422, "/departments/0"),
        ("crm", "POST", "", {"without_campaigns": ["a" * 36]}, 422, "/without_campaigns/0"),
        ("shop", "GET", "/{id}", None, 404, None),
        ("hr", "PATCH", "/{id}", {"version": 1}, 404, None),
        ("crm", "PATCH", "/{id}", {"version": 1, "app": "hr", "sender": "x"}, 403, "/sender"),
        ("crm", "PATCH", "/{id}", {"version": 1, "quiet": "9"}, 422, "/quiet"),
        ("crm", "PATCH", "/{id}", {"name": "x"}, 422, "/version"),
        ("crm", "POST", "/{id}/freeze", {"version": 1}, 422, "/message/msgtype"),
        ("shop", "POST", "/{id}/freeze", {"version": 1}, 404, None),
        ("crm", "GET", "?cursor=x", None, 422, "?cursor"),
    ],
)
def test_what_a_draft_may_not_be_is_named(
    gateway: GatewayClient,
    keys: dict[str, str],
    key: str,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
    pointer: str | None,
) -> None:
    draft = made(gateway, keys["crm"], message={}, pasted="a1")
    reply = gateway.ask(method, DRAFTS + path.format(id=draft["id"]), body, key=keys[key])
    assert reply.status == status, reply.content
    assert [each["pointer"] for each in reply.json.get("errors", [])] == [pointer] * bool(pointer)
    assert gateway.ask("GET", f"{DRAFTS}/{draft['id']}", key=keys["crm"]).json == draft


def test_pasted_people_are_looked_up(gateway: GatewayClient, keys: dict[str, str]) -> None:
    text = "138-0000-0001，a1\nBob Lee\n没有"
    found = gateway.ask("POST", "/v1/directory/matches", {"text": text}, key=keys["crm"]).json
    ann = {"line": 1, "userid": "a1", "name": "Ann"}
    assert (found["people"], found["complete"]) == ([ann, ann], True)
    problems = [
        (2, "Bob Lee is the name of several people: b1 all, b2 all"),
        (3, "没有 is no person in the directory"),
    ]
    assert [(each["line"], each["problem"]) for each in found["problems"]] == problems
    many = {"text": "a1\n" * 501}
    found = gateway.ask("POST", "/v1/directory/matches", many, key=keys["crm"]).json
    assert (len(found["people"]), found["complete"]) == (500, False)
    for body, status, pointer in (
        ({"text": "a1", "app": "a b"}, 422, "/app"),
        ({"app": "default"}, 422, "/text"),
    ):
        reply = gateway.ask("POST", "/v1/directory/matches", body, key=keys["crm"])
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (status, pointer)
    assert (
        gateway.ask("POST", "/v1/directory/matches", {"text": ""}, key=keys["shop"]).status == 403
    )
