"""``Idempotency-Key`` on every route that changes something, also where gateways die and requests meet."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from conftest import wait_until
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.store import keys as redis_keys
from dingrelay_producers.store import scripts
from dingrelay_producers.store.scripts import Call
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.http import idempotency as module
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.webhooks.service import WebhookService
from support.gateways import BOUNDARY, Ask, GatewayClient, Reply, form

ENTRY = "dingrelay:idempotency:drk_crm000000000:x"

TEXT = {"msgtype": "text", "text": {"content": "hello"}}
MESSAGE = {"to": {"users": ["u1"]}, "message": TEXT}
NEWS = {"name": "news", "message": TEXT, "users": ["u1", "u2"]}
KEY = {"name": "shop", "scopes": ["messages:write"]}
WEBHOOK = {"name": "shop", "url": "https://shop.example/", "types": ["job.done"]}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="crm", scopes=frozenset({"*"}), sender="crm"),
    ]


def begin(store: Redis, digest: str, attempt: str) -> list[bytes]:
    call = module._begin_attempt(
        entry=ENTRY, attempt=attempt, digest=digest, lease=60_000, life=100_000
    )
    answer: list[bytes] = scripts.run(store, call)
    return answer


def fail(attempt: str, *, refused: bool = False) -> Call:
    return module._fail_attempt(entry=ENTRY, attempt=attempt, refused=refused)


def answer(attempt: str) -> Call:
    return module._answer_attempt(
        entry=ENTRY, attempt=attempt, status=200, headers="{}", body=b"answer", people="[]"
    )


def end(store: Redis, call: Call) -> None:
    assert scripts.run(store, call) == 1


def test_a_request_that_lost_the_answer_of_redis_has_begun(store: Redis) -> None:
    assert begin(store, "request", "mine") == [b"begun", b"mine"]
    assert begin(store, "request", "mine") == [b"begun", b"mine"]
    assert begin(store, "request", "another's") == [b"under way"]
    assert begin(store, "another", "another's") == [b"other"]


def test_objects_of_a_key_keep_one_name_until_the_key_ends(store: Redis) -> None:
    begin(store, "request", "first")
    end(store, fail("first"))
    assert begin(store, "request", "second") == [b"begun", b"first"]
    # Nothing says that the first attempt made nothing, so the key still names this request.
    end(store, fail("second", refused=True))
    assert begin(store, "another", "third") == [b"other"]
    assert begin(store, "request", "third") == [b"begun", b"first"]
    end(store, answer("third"))
    assert begin(store, "request", "fourth") == [b"done", b"first", b"200", b"{}", b"answer"]
    store.delete(ENTRY)
    begin(store, "wrong", "fifth")
    end(store, fail("fifth", refused=True))
    assert begin(store, "right", "sixth") == [b"begun", b"sixth"]


def upload(ask: Ask, rows: bytes, boundary: bytes, once: str) -> Reply:
    fields = {name: value for name, value in NEWS.items() if name != "users"}
    body = b"".join(form(fields, recipients=rows)).replace(BOUNDARY.encode(), boundary)
    content_type = f"multipart/form-data; boundary={boundary.decode()}"
    headers = {"Content_Type": content_type, "Idempotency_Key": once}
    return ask("POST", "/v1/campaigns", body, **headers)


def test_how_long_a_request_waits_is_no_part_of_what_it_asks_for(every: Ask) -> None:
    once = {"Idempotency_Key": "k-1"}
    first = every("POST", "/v1/messages?wait=1", MESSAGE, **once)
    assert first.status == 202, first.content
    for path in ("/v1/messages", "/v1/messages?wait=2"):
        again = every("POST", path, MESSAGE, **once)
        assert (again.status, again.json["id"]) == (202, first.json["id"]), again.content
        assert again.headers["Idempotent-Replayed"] == "true"


def test_a_repetition_waits_for_the_job_and_shows_how_it_stands(every: Ask, store: Redis) -> None:
    once = {"Idempotency_Key": "k-1"}
    with ThreadPoolExecutor() as threads:
        first = threads.submit(every, "POST", "/v1/messages?wait=60", MESSAGE, **once)
        wait_until(lambda: store.keys(redis_keys.job("*")))
        job = store.keys(redis_keys.job("*"))[0]
        second = every("POST", "/v1/messages?wait=1", MESSAGE, **once)
        assert (second.status, second.json["state"]) == (202, "queued"), second.content
        assert not first.done()
        store.hset(job, "state", "done")
        assert (first.result().status, first.result().json["state"]) == (200, "done")
    for path, status in (("/v1/messages?wait=1", 200), ("/v1/messages", 202)):
        again = every("POST", path, MESSAGE, **once)
        assert (again.status, again.json["state"]) == (status, "done")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Location"] == f"/v1/jobs/{second.json['id']}"
    store.delete(job)
    forgotten = every("POST", "/v1/messages?wait=1", MESSAGE, **once)
    assert (forgotten.status, forgotten.json["id"]) == (202, second.json["id"])


def count(ask: Ask, name: str) -> int:
    """How many of these there are."""
    return len(ask("GET", f"/v1/{name}").json[name])


def test_each_change_is_made_once(gateway: GatewayClient, every: Ask, store: Redis) -> None:
    """Repeated with its key each request gets its first answer, and another request is refused."""

    def twice(method: str, path: str, body: object = None) -> Reply:
        once = {"Idempotency_Key": f"{method} {path}".replace(" ", "-")}
        first = every(method, path, body, **once)
        assert first.status < 300, (path, first.content)
        again = every(method, path, body, **once)
        assert again.headers["Idempotent-Replayed"] == "true", path
        assert (again.status, again.content) == (first.status, first.content)
        assert again.headers.get("Location") == first.headers.get("Location")
        other = every(method, f"{path}?x=1", body, **once)
        assert other.status == 422, path
        return first

    job = twice("POST", "/v1/messages", MESSAGE).json["id"]
    for verb in ("cancel", "requeue"):
        twice("POST", f"/v1/jobs/{job}/{verb}")
    store.hset(redis_keys.job(job), "state", "unknown")
    twice("POST", f"/v1/jobs/{job}/resolve", {"sent": True})
    asked = {"process_code": "P", "originator": "u1", "form": {"a": "b"}}
    approval = twice("POST", "/v1/approvals", asked)
    store.hset(redis_keys.job(approval.json["id"]), "state", "dead")
    twice("POST", f"/v1/jobs/{approval.json['id']}/discard")
    for verb, body in (
        ("terminate", {}),
        ("agree", {"user": "u1"}),
        ("comment", {"user": "u1", "text": "x"}),
    ):
        twice("POST", f"/v1/approvals/i-1/{verb}", body)
    campaign = twice("POST", "/v1/campaigns", NEWS).headers["Location"]
    for verb in ("start", "pause", "resume", "cancel", "recall"):
        twice("POST", f"{campaign}/{verb}")
    twice("DELETE", campaign)
    webhook = twice("POST", "/v1/webhooks", WEBHOOK).headers["Location"]
    for verb in ("pause", "resume", "rotate"):
        twice("POST", f"{webhook}/{verb}")
    twice("DELETE", webhook)
    issued = twice("POST", "/v1/keys", KEY)
    place = issued.headers["Location"]
    rotated = twice("POST", f"{place}/rotate")
    for text in (issued.json["key"], rotated.json["key"]):
        assert gateway.ask("POST", "/v1/messages", MESSAGE, key=text).status == 202
    twice("POST", f"{place}/revoke")
    assert [count(every, name) for name in ("keys", "webhooks")] == [3, 0]
    secrets = [each.json["key"].partition(".")[2] for each in (issued, rotated)] + ["whsec_"]
    for entry in store.scan_iter("dingrelay:idempotency:*"):
        kept = str(store.hgetall(entry))
        assert not any(secret in kept for secret in secrets), "no secret is kept in clear"


def test_lines_are_enqueued_once_however_they_come(every: Ask, store: Redis) -> None:
    lines = [json.dumps({**MESSAGE, "to": {"users": [f"u{number}"]}}) for number in range(3)]

    def send(lines: list[str], once: str = "k") -> list[dict[str, object]]:
        headers = {"Content_Type": NDJSON, "Idempotency_Key": once}
        reply = every("POST", "/v1/jobs", "\n".join(lines).encode(), **headers)
        assert reply.status == 200, reply.content
        return [json.loads(line) for line in reply.content.splitlines()]

    first = send(lines)
    assert len({each["id"] for each in first}) == 3
    assert send(lines) == first
    changed = send([lines[0], lines[2]])
    assert [each.get("id") for each in changed] == [first[0]["id"], None]
    assert "another payload" in str(changed[1]["error"])
    assert len(store.keys("dingrelay:job:*")) == 3
    assert send(lines, "k2") != first
    named = [json.dumps({**MESSAGE, "idempotency_key": "order-1"})]
    assert send(named, "k3") == send(named, "k4")


def test_another_senders_key_is_refused(callers: dict[str, Ask]) -> None:
    line = json.dumps({**MESSAGE, "idempotency_key": "order-1"}).encode()
    ours, theirs = (
        json.loads(callers[name]("POST", "/v1/jobs", line, Content_Type=NDJSON).content)
        for name in ("all", "crm")
    )
    assert callers["all"]("GET", f"/v1/jobs/{ours['id']}").status == 200
    assert theirs["error"]["status"] == 409, theirs


def lose_answer(monkeypatch: pytest.MonkeyPatch, store: type[Any], name: str) -> list[Any]:
    """Let the answer of this method be lost once, after it is done; what it was."""
    original, lost = getattr(store, name), list[Any]()

    async def made(self: object, *args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(store, name, original)
        lost.append(await original(self, *args, **kwargs))
        raise ServiceUnavailable("the database does not answer")

    monkeypatch.setattr(store, name, made)
    return lost


def test_a_form_is_the_same_whatever_its_boundary(
    every: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = b"userid\nu1\nu2\n"
    first = upload(every, rows, b"b1", "one")
    assert first.status == 201, first.content
    assert upload(every, rows, b"b2", "one").content == first.content
    assert upload(every, rows + b"u3\n", b"b1", "one").status == 422
    # The answer is lost after the draft is stored: a repetition finds the draft.
    lose_answer(monkeypatch, CampaignService, "create")
    assert [upload(every, rows, b"b1", "two").status for _ in range(2)] == [503, 201]
    assert count(every, "campaigns") == 2


def test_objects_made_before_a_lost_answer_are_not_made_again(
    every: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(store: type[Any], name: str, path: str, body: object) -> tuple[Any, Any]:
        """The created object, and the answer to the repetition."""
        lost = lose_answer(monkeypatch, store, name)
        once = {"Idempotency_Key": name}
        assert every("POST", path, body, **once).status == 503
        return lost[0], every("POST", path, body, **once)

    lost, added = twice(WebhookService, "add", "/v1/webhooks", WEBHOOK)
    assert (added.json["secret"], count(every, "webhooks")) == (lost.secret, 1)
    lost, made = twice(KeyService, "create", "/v1/keys", KEY)
    assert (made.json["key"], count(every, "keys")) == (lost.key, 3)
    place = made.headers["Location"]
    lost, rotated = twice(KeyService, "rotate", f"{place}/rotate", {"overlap": "1h"})
    assert rotated.json["key"] == lost.key
    assert every("GET", place).json["old_secret_until"] == rotated.json["old_secret_until"]


def test_a_key_whose_life_is_over_names_a_new_request(every: Ask, store: Redis) -> None:
    def send() -> str:
        reply = every("POST", "/v1/messages", MESSAGE, Idempotency_Key="one")
        assert reply.status == 202
        return str(reply.json["id"])

    first = send()
    assert send() == first
    (entry,) = store.keys("dingrelay:idempotency:*")
    store.delete(entry)
    assert send() != first
