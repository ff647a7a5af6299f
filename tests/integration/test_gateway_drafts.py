"""``/v1/campaigns`` before their start, on a real socket, database and Valkey."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_tasks.organisation import Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import Grant
from support.databases import in_database
from support.directories import organise
from support.gateways import Ask, GatewayClient

CAMPAIGNS = "/v1/campaigns"
DRAFTS = f"{CAMPAIGNS}/drafts"
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
    assert reply.headers["Location"] == f"{CAMPAIGNS}/{reply.json['id']}"
    found: dict[str, Any] = reply.json
    return found


def test_a_draft_becomes_a_campaign(crm: Ask) -> None:
    draft = made(crm, name="", pasted="Ann, Zed")
    place = f"{CAMPAIGNS}/{draft['id']}"
    assert (draft["version"], draft["stage"], draft["content"]["sender"]) == (1, "draft", "crm")
    refused = crm("GET", f"{place}/preview")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/name")
    saved = crm("PATCH", place, {"version": 1, "name": "party", "rate": 60}).json
    assert (saved["version"], saved["content"]["pasted"]) == (2, "Ann, Zed")
    stale = crm("PATCH", place, {"version": 1, "name": "picnic"})
    assert (stale.status, stale.json["type"]) == (409, "urn:dingrelay:problem:conflict")
    assert crm("PATCH", place, {"version": 2, "rate": None}).json["version"] == 3
    check = crm("GET", f"{place}/preview").json
    assert (check["recipients"], [row["line"] for row in check["skipped"]]) == (1, [1])
    assert check["first"][0]["message"]["text"]["content"] == "Ann, come!"
    assert crm("POST", f"{place}/start").status == 409
    assert crm("POST", f"{place}/freeze", {"version": 2}).status == 409
    for frozen in [crm("POST", f"{place}/freeze", {"version": 3}) for _ in range(2)]:
        assert (frozen.status, frozen.json["id"]) == (200, draft["id"])
        assert (frozen.json["stage"], frozen.json["sender"]) == ("ready", "crm")
        preview = frozen.json["preview"]
        assert preview == {**check, **preview, "absent": check["absent"]}
    assert crm("PATCH", place, {"version": 3, "rate": 9}).json["stage"] == "draft"
    assert crm("POST", f"{place}/freeze", {"version": 4}).json["stage"] == "ready"
    assert crm("POST", f"{place}/start").json["stage"] == "running"
    assert crm("PATCH", place, {"version": 4, "rate": 8}).status == 409
    assert crm("DELETE", place).status == 409
    copied = crm("POST", f"{place}/copy")
    assert copied.headers["Location"] == f"{CAMPAIGNS}/{copied.json['id']}"
    content = crm("GET", f"{place}/draft").json["content"]
    assert copied.json["content"] == {**content, "name": f"{content['name']} (copy)"}
    alone = crm("POST", f"{place}/copy", {"people": False}).json["content"]
    assert (alone["message"], alone["pasted"]) == (TEXT, "")
    assert crm("POST", f"{place}/copy", {"people": "x"}).status == 422
    copy = copied.headers["Location"]
    assert crm("DELETE", copy).status == 204
    assert crm("GET", copy).status == 404


def test_lists_hold_no_content_and_cursors_nothing_of_others(
    crm: Ask, callers: dict[str, Ask]
) -> None:
    long = "a1 " * 100_000
    ids = [made(crm, name=str(number), pasted=long)["id"] for number in range(3)]
    theirs = made(callers["shop"])["id"]
    ids.append(made(crm)["id"])
    first = crm("GET", f"{CAMPAIGNS}?limit=2")
    assert len(first.content) < 5_000
    rest = crm("GET", f"{CAMPAIGNS}?limit=2&cursor={first.json['next']}").json
    listed = first.json["campaigns"] + rest["campaigns"]
    assert [each["id"] for each in listed] == ids[::-1]
    assert {(each["state"], each["stage"]) for each in listed} == {("draft", "draft")}
    cursors = [crm("GET", f"{CAMPAIGNS}?limit={most}").json["next"] for most in (1, 2, 3)]
    assert not [each for each in cursors if theirs in str(paging.decode(each, datetime, str))]


def test_a_draft_whose_answer_was_lost_is_made_once(crm: Ask) -> None:
    once = {"Idempotency_Key": "p1"}
    replies = [crm("POST", DRAFTS, {"name": "party"}, **once) for _ in range(2)]
    assert len({reply.json["id"] for reply in replies}) == 1


WRONG: list[tuple[str, str, str, dict[str, Any] | None, int, str | None]] = [
    ("normal", "POST", "/drafts", {}, 403, "/lane"),
    ("hr", "POST", "/drafts", {}, 403, "/app"),
    ("crm", "POST", "/drafts", {"sender": "shop"}, 403, "/sender"),
    ("crm", "POST", "/drafts", {"without_campaigns": ["a" * 36]}, 422, "/without_campaigns/0"),
    ("shop", "GET", "/{id}", None, 404, None),
    ("shop", "GET", "/{id}/draft", None, 404, None),
    ("reader", "GET", "/{id}/draft", None, 403, None),
    ("crm", "PATCH", "/{id}", {"version": 1, "app": "hr", "sender": "x"}, 403, "/sender"),
    ("crm", "PATCH", "/{id}", {"version": 1, "quiet": "9"}, 422, "/quiet"),
    ("crm", "POST", "/{id}/freeze", {"version": 1}, 422, "/message/msgtype"),
    ("crm", "GET", "?cursor=x", None, 422, "?cursor"),
]


def test_errors_of_a_draft_name_the_field(crm: Ask, callers: dict[str, Ask]) -> None:
    draft = made(crm, message={}, pasted="a1")
    for key, method, path, body, status, pointer in WRONG:
        reply = callers[key](method, CAMPAIGNS + path.format(id=draft["id"]), body)
        found = [each["pointer"] for each in reply.json.get("errors", [])]
        assert (reply.status, found) == (status, [pointer] * bool(pointer)), (key, path, body)
        assert crm("GET", f"{CAMPAIGNS}/{draft['id']}/draft").json == draft


def test_pasted_people_are_looked_up(crm: Ask, callers: dict[str, Ask]) -> None:
    text = "138-0000-0001，a1\nBob Lee\n没有"
    found = crm("POST", "/v1/directory/matches", {"text": text}).json
    ann = {"line": 1, "userid": "a1", "name": "Ann"}
    assert (found["people"], found["complete"]) == ([ann], True)
    problems = [
        (2, "Bob Lee is the name of several people: team 1 (b1), team 1 (b2)"),
        (3, "没有 is no person in the directory"),
    ]
    assert [(each["line"], each["problem"]) for each in found["problems"]] == problems
    many = {"text": "\n".join(["a1", *["没有"] * 500])}
    found = crm("POST", "/v1/directory/matches", many).json
    assert (len(found["problems"]), found["complete"]) == (499, False)
    for body, status, pointer in (
        ({"text": "a1", "app": "a b"}, 422, "/app"),
        ({"app": "default"}, 422, "/text"),
    ):
        reply = crm("POST", "/v1/directory/matches", body)
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (status, pointer)
    assert callers["shop"]("POST", "/v1/directory/matches", {"text": ""}).status == 403
