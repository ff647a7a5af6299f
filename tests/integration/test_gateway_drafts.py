"""``/v1/campaign-drafts`` on a real socket, database and Valkey."""

from collections.abc import Sequence
from typing import Any

import pytest

from databases import in_database
from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from gateways import Ask, GatewayClient
from organisations import organise

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

    async def fill(database: Database) -> None:
        people = [Member(user, {"name": a, "mobile": b}) for user, (a, b) in PEOPLE.items()]
        await (await organise(database, {1: people})).close_run("walk", confirm_removals=True)

    in_database(settings.database, fill)


def made(ask: Ask, **content: Any) -> dict[str, Any]:
    reply = ask("POST", DRAFTS, {"name": "party", "message": TEXT, **content})
    assert reply.status == 201, reply.content
    assert reply.headers["Location"] == f"{DRAFTS}/{reply.json['id']}"
    found: dict[str, Any] = reply.json
    return found


def test_a_draft_becomes_a_campaign(crm: Ask) -> None:
    draft = made(crm, name="", pasted="Ann, Zed")
    place = f"{DRAFTS}/{draft['id']}"
    assert (draft["version"], draft["content"]["sender"]) == (1, "crm")
    refused = crm("GET", f"{place}/check")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/name")
    saved = crm("PATCH", place, {"version": 1, "name": "party", "rate": 60}).json
    assert (saved["version"], saved["content"]["pasted"]) == (2, "Ann, Zed")
    stale = crm("PATCH", place, {"version": 1, "name": "picnic"})
    assert (stale.status, stale.json["type"]) == (409, "urn:dingrelay:problem:conflict")
    assert crm("PATCH", place, {"version": 2, "rate": None}).json["version"] == 3
    check = crm("GET", f"{place}/check").json
    assert (check["recipients"], [row["line"] for row in check["skipped"]]) == (1, [1])
    assert check["first"][0]["message"]["text"]["content"] == "Ann, come!"
    assert crm("POST", f"{place}/freeze", {"version": 2}).status == 409
    frozen = [crm("POST", f"{place}/freeze", {"version": 3}) for _ in range(2)]
    assert [reply.status for reply in frozen] == [201, 201]
    first, again = (reply.json for reply in frozen)
    assert (first["id"], first["sender"], first["recipients"]) == (again["id"], "crm", 1)
    assert first["preview"] == {**check, **first["preview"], "absent": check["absent"]}
    assert crm("GET", place).json["campaign"] == first["id"]
    started = crm("POST", f"{frozen[0].headers['Location']}/start")
    assert started.json["state"] == "running"
    assert crm("GET", DRAFTS).json == {"drafts": [], "next": None}
    assert crm("DELETE", place).status == 204
    assert crm("GET", place).status == 404


def test_drafts_come_in_pages(crm: Ask, callers: dict[str, Ask]) -> None:
    ids = [made(crm, name=str(number))["id"] for number in range(3)]
    made(callers["shop"])
    first = crm("GET", f"{DRAFTS}?limit=2").json
    rest = crm("GET", f"{DRAFTS}?limit=2&cursor={first['next']}").json
    assert [each["id"] for each in first["drafts"] + rest["drafts"]] == ids[::-1]


def test_a_draft_whose_answer_was_lost_is_made_once(crm: Ask) -> None:
    once = {"Idempotency_Key": "p1"}
    replies = [crm("POST", DRAFTS, {"name": "party"}, **once) for _ in range(2)]
    assert len({reply.json["id"] for reply in replies}) == 1


WRONG: list[tuple[str, str, str, dict[str, Any] | None, int, str | None]] = [
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
]


def test_errors_of_a_draft_name_the_field(crm: Ask, callers: dict[str, Ask]) -> None:
    draft = made(crm, message={}, pasted="a1")
    for key, method, path, body, status, pointer in WRONG:
        reply = callers[key](method, DRAFTS + path.format(id=draft["id"]), body)
        found = [each["pointer"] for each in reply.json.get("errors", [])]
        assert (reply.status, found) == (status, [pointer] * bool(pointer)), (key, path, body)
        assert crm("GET", f"{DRAFTS}/{draft['id']}").json == draft


def test_pasted_people_are_looked_up(crm: Ask, callers: dict[str, Ask]) -> None:
    text = "138-0000-0001，a1\nBob Lee\n没有"
    found = crm("POST", "/v1/directory/matches", {"text": text}).json
    ann = {"line": 1, "userid": "a1", "name": "Ann"}
    assert (found["people"], found["complete"]) == ([ann, ann], True)
    problems = [
        (2, "Bob Lee is the name of several people: b1 team 1, b2 team 1"),
        (3, "没有 is no person in the directory"),
    ]
    assert [(each["line"], each["problem"]) for each in found["problems"]] == problems
    many = {"text": "a1\n" * 501}
    found = crm("POST", "/v1/directory/matches", many).json
    assert (len(found["people"]), found["complete"]) == (500, False)
    for body, status, pointer in (
        ({"text": "a1", "app": "a b"}, 422, "/app"),
        ({"app": "default"}, 422, "/text"),
    ):
        reply = crm("POST", "/v1/directory/matches", body)
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (status, pointer)
    assert callers["shop"]("POST", "/v1/directory/matches", {"text": ""}).status == 403
