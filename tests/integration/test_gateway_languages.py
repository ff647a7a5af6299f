"""Refusals of the gateway, at every operation and for every reason, in Chinese."""

import itertools
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from dingrelay_workers.http.api_keys import Grant
from support.foreign_words import foreign_words
from support.gateways import CONTENT_TYPE, GatewayClient, form

GRANTS = (
    Grant(name="all", scopes=frozenset({"*"})),
    Grant(name="few", scopes=frozenset({"limits:read"})),
    Grant(
        name="narrow",
        scopes=frozenset({"*"}),
        sender="crm",
        apps=frozenset({"hr"}),
        lanes=frozenset({"bulk"}),
    ),
)
MESSAGE = {"msgtype": "text", "text": {"content": "x"}}
CAMPAIGN = {"name": "n", "message": MESSAGE}
JOB = {"to": {"users": ["u1"]}, "message": MESSAGE}
BROKEN = (b"{", b"\xff", b"[]", b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": "\\ud800"}')
BODIES: Mapping[str, Sequence[Any]] = {
    "/v1/messages": (
        *BROKEN,
        *(JOB | {"to": to} for to in ("u1", {}, {"users": ["u 1"]}, {"mobiles": ["1"]})),
        *(JOB | {"message": {"msgtype": each}} for each in ("text", "x", 1)),
        *(JOB | {"lane": "fast"}, JOB | {"send_at": "2026-01-01T09:00"}, JOB | {"sender": "x"}),
    ),
    "/v1/robot-messages": (JOB | {"to": {}},),
    "/v1/keys": (
        {"name": "n"},
        {"name": "n", "scopes": ["mesages:write"], "rate": "1/x"},
        {"name": "n", "scopes": ["*"], "expires_at": "2020-01-01T00:00:00Z"},
    ),
    "/v1/campaigns": (
        {**CAMPAIGN, "users": ["u1"], "rate": 0, "quiet": "8-22"},
        {**CAMPAIGN, "departments": [9]},
        {
            **CAMPAIGN,
            "message": {"msgtype": "text", "text": {"content": "{stranger}"}},
            "users": ["u1"],
        },
        CAMPAIGN,
        {"name": "n"},
    ),
    "/v1/webhooks": (
        {"url": "http://x y", "types": ["job.*"]},
        {"url": "https://127.0.0.1/x", "types": ["jobb.*"]},
    ),
    "/v1/approvals": ({"process_code": "P", "originator": "u1", "form": {"": 1}},),
    "/v1/user-syncs": ({"scope": "user"},),
    "/v1/calls": ({"method": "GET", "path": "//x"},),
    "/v1/jobs/{id}/resolve": ({"instance": "x", "sent": True},),
    "/v1/campaigns/{id}/test": ({"to": ["u1"], "fields": {"x": 1}},),
}
"""Wrong bodies, by path."""
QUERIES = (
    "?nonsense=1",
    "?limit=0",
    "?cursor=x",
    "?since=x",
    "?state=x",
    "?kind=X",
    "?wait=x",
    "?wait=99",
)
FILES = (
    *(b"", b"name\nx\n", b"userid\nu 1\n\n,\n", b"\xff\xfeu\0", b"\x89PNG", b"PK\x03\x04x"),
    "工号\n7\n".encode(),
)


@pytest.fixture
def grants() -> Sequence[Grant]:
    return GRANTS


def texts(document: Any) -> Iterator[str]:
    """The sentences of a problem."""
    yield from (document[name] for name in ("title", "detail") if name in document)
    for each in document.get("errors", ()):
        yield each["detail"]


def wrong(path: str, verb: str) -> Iterator[tuple[str, Any]]:
    """Queries and bodies with which this operation is refused."""
    posted = verb == "POST"
    if verb == "GET" or path.endswith(("/messages", "/test")):
        yield from ((query, {} if posted else None) for query in QUERIES)
    if posted:
        yield from (("", body) for body in (None, {}, {"nonsense": 1}, *BODIES.get(path, ())))


def test_every_refusal_is_said_in_chinese(gateway: GatewayClient, keys: dict[str, str]) -> None:
    said: dict[str, str] = {}
    kinds: set[str] = set()

    def look(method: str, path: str, body: object = None, key: str = "all", **headers: str) -> None:
        headers.setdefault("Accept_Language", "zh-CN")
        reply = gateway.ask(method, path, body, key=keys.get(key, key), **headers)
        if reply.status < 400:
            return
        assert reply.headers["Content-Language"] == "zh-CN"
        kinds.add(reply.json["type"].rpartition(":")[2])
        said.update((text, f"{method} {path} {body!r:.80}") for text in texts(reply.json))

    paths = gateway.ask("GET", "/openapi.json").json["paths"]
    for path, operations in paths.items():
        nothing = re.sub(r"\{[^}]*\}", "nothing", path)
        look("PATCH", nothing)
        for method in operations:
            verb = method.upper()
            for key in ("", "drk_wrong", "few", "narrow"):
                look(verb, nothing, {"app": "x"} if verb == "POST" else None, key)
            for query, body in wrong(path, verb):
                look(verb, nothing + query, body)
            look(verb, nothing, {}, Idempotency_Key="订单".encode().decode("latin-1"))
            look(verb, nothing, b"<a/>", Content_Type="text/xml")
    for path, file in itertools.product(("/v1/campaigns", "/v1/campaign-previews"), FILES):
        body = b"".join(form({"name": "n", "message": MESSAGE}, recipients=file))
        look("POST", path, body, Content_Type=CONTENT_TYPE)
    for message in (JOB, JOB | {"to": {}}):
        look("POST", "/v1/messages", message, Idempotency_Key="once")
    look("GET", "/nowhere")
    look("GET", "/v1/../metrics")
    assert len(said) > 100
    foreign = [f"{text} of {said[text]}" for text in said if foreign_words(text)]
    assert not foreign, "\n".join(foreign)
    assert kinds >= {
        *("malformed-request", "unauthorized", "forbidden", "not-found", "method-not-allowed"),
        *("unsupported-media-type", "invalid", "idempotency-key-reused"),
    }


@pytest.mark.parametrize(("header", "language"), [(None, "zh-CN"), ("en", None), ("fr", None)])
def test_a_caller_that_names_no_language_gets_the_gateways(
    gateway: GatewayClient,
    monkeypatch: pytest.MonkeyPatch,
    header: str | None,
    language: str | None,
) -> None:
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "zh")
    headers = {"Accept_Language": header} if header else {}
    refusal = gateway.ask("GET", "/v1/jobs", key="drk_wrong", **headers)
    assert refusal.headers.get("Content-Language") == language
    assert bool(foreign_words(refusal.json["detail"])) == (language is None)


def test_a_url_that_is_not_encoded_is_refused_in_the_language_of_the_gateway(
    gateway: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "zh")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall("GET /v1/people?q=张 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 ")
    assert json.loads(body)["detail"] == (
        "请求不是可以读取的 HTTP；URL 必须经过百分号编码（`curl -G --data-urlencode q=…`）"
    )
