"""``/v1/campaigns`` on a real socket, database and Valkey."""

import asyncio
import http.client
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

import campaigns
from dingrelay_producers import Client
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Lane
from dingrelay_workers.campaigns import routes
from dingrelay_workers.campaigns import upload as campaign_upload
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from forms import CONTENT_TYPE, form
from gateways import GatewayClient, Reply

TEXT = {"msgtype": "text", "text": {"content": "hello {name}"}}
GIFT = {"msgtype": "text", "text": {"content": "your {gift}"}}
PLAIN = {"msgtype": "text", "text": {"content": "hello"}}
NEWS = {"name": "news", "message": PLAIN, "users": ["u1", "u2"]}
GUESTS = b"userid,name\nu1,a\nu2,b\nu3,c\n"

NORMAL: frozenset[Lane] = frozenset({"normal"})
GRANTS = (
    Grant(name="all", scopes=frozenset({"*"})),
    Grant(name="crm", scopes=frozenset({"campaigns:read", "campaigns:write"}), sender="crm"),
    Grant(name="reader", scopes=frozenset({"campaigns:read"})),
    Grant(name="hr", scopes=frozenset({"*"}), apps=frozenset({"hr"})),
    Grant(name="slow", scopes=frozenset({"*"}), lanes=NORMAL),
    Grant(name="bulk", scopes=frozenset({"campaigns:write"}), lanes=frozenset({"bulk"})),
)


@pytest.fixture
def grants() -> Sequence[Grant]:
    return GRANTS


def upload(
    gateway: GatewayClient, key: str, campaign: object, path: str = "/v1/campaigns", **files: bytes
) -> Reply:
    body = b"".join(form(campaign, **files))
    return gateway.ask("POST", path, body, key=key, Content_Type=CONTENT_TYPE)


def test_each_verb_moves_the_campaign(gateway: GatewayClient, keys: dict[str, str]) -> None:
    key = keys["crm"]
    fields = {"name": "Party", "message": TEXT, "quiet": "22:00-08:00", "users": ["u3"]}
    files = {"recipients": GUESTS, "without": b'{"userid": "u1"}\n'}
    before = upload(gateway, key, fields | {"users": []}, "/v1/campaign-previews", **files)
    assert before.status == 200, before.content
    assert (before.json["recipients"], before.json["excluded"]) == (2, 1)
    assert gateway.ask("GET", "/v1/campaigns", key=key).json == {"campaigns": [], "next": None}

    made = upload(gateway, key, fields | {"users": []}, **files)
    assert made.status == 201, made.content
    draft = made.json
    shown = {name: draft[name] for name in ("state", "sender", "recipients", "excluded", "skipped")}
    assert shown == {
        "state": "draft",
        "sender": "crm",
        "recipients": 2,
        "excluded": 1,
        "skipped": [],
    }
    place = made.headers["Location"]
    assert place == f"/v1/campaigns/{draft['id']}"
    assert gateway.ask("GET", f"{place}/preview", key=key).json["recipients"] == 2

    states = [
        gateway.ask("POST", f"{place}/{verb}", key=key).json["state"]
        for verb in ("start", "start", "pause", "resume", "cancel")
    ]
    assert states == ["running", "running", "paused", "running", "cancelled"]
    refused = gateway.ask("POST", f"{place}/start", key=key)
    assert (refused.status, refused.json["type"]) == (409, "urn:dingrelay:problem:conflict")
    assert "is cancelled" in refused.json["detail"]
    report = gateway.ask("GET", f"{place}/report", key=key).json
    assert (report["recipients"], sum(report["outcomes"].values())) == (2, 2)

    assert gateway.ask("DELETE", place, key=keys["hr"]).status == 404
    assert gateway.ask("DELETE", place, key=keys["reader"]).status == 403
    assert gateway.ask("DELETE", place, key=key).status == 204
    assert gateway.ask("DELETE", place, key=key).status == 404
    assert gateway.ask("GET", "/v1/campaigns", key=key).json == {"campaigns": [], "next": None}
    other = gateway.ask("POST", "/v1/campaigns", NEWS, key=key).json["id"]
    refused = gateway.ask("DELETE", f"/v1/campaigns/{other}", key=key)
    assert (refused.status, refused.json["type"]) == (409, "urn:dingrelay:problem:conflict")
    assert "is draft: cancel it first" in refused.json["detail"]


def test_the_encoding_of_a_file_may_be_named(gateway: GatewayClient, keys: dict[str, str]) -> None:
    rows = "userid,name\ru1,小伟\ru2,张三\r".encode("gbk")
    fields = {"name": "n", "message": TEXT}
    where = "/v1/campaign-previews"
    refused = upload(gateway, keys["crm"], fields, where, recipients=rows)
    assert refused.status == 422
    [problem] = refused.json["errors"]
    assert (problem["line"], "such as GB18030, name it" in problem["detail"]) == (3, True)
    preview = upload(gateway, keys["crm"], {**fields, "encoding": "gbk"}, where, recipients=rows)
    assert (preview.status, preview.json["recipients"]) == (200, 2)
    refused = upload(gateway, keys["crm"], {**fields, "encoding": "no"}, where, recipients=rows)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/encoding")


def test_an_excel_file_is_taken_and_a_picture_is_refused_by_that_name(
    gateway: GatewayClient, keys: dict[str, str]
) -> None:
    fields = {"name": "n", "message": TEXT, "column": "userid=编号"}
    guests = campaigns.xlsx(["编号", "姓名"], ["u1", "张三"], [2, "李四"])
    made = upload(gateway, keys["crm"], fields, recipients=guests, without=b"UserID\nu1\n")
    assert (made.status, made.json["recipients"], made.json["excluded"]) == (201, 1, 1)
    refused = upload(gateway, keys["crm"], fields, recipients=b"\x89PNG\r\n\x1a\n")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/recipients")
    assert "the file is a PNG picture" in refused.json["detail"]


def test_malformed_rows_name_their_lines(gateway: GatewayClient, keys: dict[str, str]) -> None:
    rows = b"userid,name\nu1,a\nu 2,b\nu1,c\nu3\n"
    fields = {"name": "n", "message": PLAIN}
    refused = upload(gateway, keys["crm"], fields, recipients=rows)
    assert refused.status == 422
    assert refused.json["detail"] == "2 rows are malformed"
    assert refused.json["errors"] == [
        {
            "pointer": "/recipients",
            "line": 3,
            "detail": "userid: holds a comma, a blank or a control character",
        },
        {"pointer": "/recipients", "line": 5, "detail": "columns: 1 instead of 2"},
    ]
    assert gateway.ask("GET", "/v1/campaigns", key=keys["crm"]).json["campaigns"] == []

    skipped = upload(gateway, keys["crm"], {**fields, "malformed": "skip"}, recipients=rows)
    assert skipped.status == 201
    assert (skipped.json["recipients"], skipped.json["malformed"]) == (1, 2)
    assert [row["line"] for row in skipped.json["skipped"]] == [3, 5]

    many = b"userid\n" + b"a b\n" * 50
    problem = upload(gateway, keys["crm"], fields, recipients=many).json
    assert problem["detail"] == "50 rows are malformed, of which the first 20 are listed"
    assert [error["line"] for error in problem["errors"]] == list(range(2, 22))


WRONG: list[tuple[object, dict[str, bytes], str]] = [
    ({"name": "n", "message": PLAIN}, {"recipients": b"id\nu1\n"}, "/recipients"),
    ({"name": "n", "message": PLAIN}, {"recipients": b"\xff\xfeu\0"}, "/recipients"),
    ({"name": "n", "message": PLAIN}, {"recipients": b""}, "/recipients"),
    ({"name": "n", "message": PLAIN}, {"recipients": b"userid\n"}, "/recipients"),
    ({"name": "n", "message": GIFT}, {"recipients": b"userid\nu1\n"}, "/message"),
    ({"name": "n", "message": PLAIN}, {}, "/recipients"),
    (NEWS, {"without": b"userid\n,\n"}, "/without"),
    (NEWS, {"people": b"userid\n"}, ""),
    (None, {"recipients": GUESTS}, "/campaign"),
    ({**NEWS, "recipients": [{"userid": "u1"}]}, {"recipients": GUESTS}, "/recipients"),
    ({**NEWS, "quiet": "late"}, {}, "/quiet"),
    ({**NEWS, "rate": "fast"}, {}, "/rate"),
    ({**NEWS, "message": {"msgtype": "fax"}}, {}, "/message/msgtype"),
    ({**NEWS, "departments": [7]}, {}, "/departments"),
    ([1], {}, ""),
]
"""What is asked for, with which files, and the place that is wrong."""


def test_errors_create_nothing(gateway: GatewayClient, keys: dict[str, str]) -> None:
    for campaign, files, pointer in WRONG:
        refused = upload(gateway, keys["crm"], campaign, **files)
        assert refused.status == 422, (campaign, files, refused.content)
        assert refused.json["errors"][0]["pointer"] == pointer, (campaign, files)
    assert gateway.ask("GET", "/v1/campaigns", key=keys["crm"]).json["campaigns"] == []


def test_a_body_that_is_no_form_is_refused(gateway: GatewayClient, keys: dict[str, str]) -> None:
    whole = b"".join(form(NEWS, recipients=GUESTS))
    part = b"--x\r\nContent-Disposition: form-data; name=recipients\r\n"
    for body, content_type, status in (
        (whole[: len(whole) // 2], CONTENT_TYPE, 400),
        (whole[:-8], CONTENT_TYPE, 400),
        (b"", CONTENT_TYPE, 400),
        (b"hello", CONTENT_TYPE, 400),
        (whole, "multipart/form-data", 400),
        (whole, "multipart/form-data; boundary=other", 400),
        (whole, "multipart/form-data; boundary=" + "x" * 71, 400),
        (whole, "text/csv", 415),
        (
            part + b"Content-Length: 5\r\n\r\nuserid\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            422,
        ),
        (
            part + b"Content-Encoding: gzip\r\n\r\nu\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            400,
        ),
        (
            part + b"X: " + b"y" * 9000 + b"\r\n\r\nu\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            400,
        ),
        (
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            400,
        ),
        (b"--x\r\n\r\nu\r\n--x--\r\n", "multipart/form-data; boundary=x", 422),
        (b'{"name": 1, "name": 2}', "application/json", 400),
    ):
        refused = gateway.ask(
            "POST", "/v1/campaigns", body, key=keys["crm"], Content_Type=content_type
        )
        assert refused.status == status, (body[:80], content_type, refused.content)
    compressed = gateway.ask(
        "POST",
        "/v1/campaigns",
        whole,
        key=keys["crm"],
        Content_Type=CONTENT_TYPE,
        Content_Encoding="gzip",
    )
    assert compressed.status == 415
    assert gateway.ask("GET", "/v1/campaigns", key=keys["crm"]).json["campaigns"] == []


def test_an_upload_that_is_too_large_or_stands_still_is_refused(
    gateway: GatewayClient, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_upload, "LARGEST_UPLOAD", 1_000)
    large = upload(gateway, keys["crm"], NEWS, recipients=b"userid\n" + b"u1\n" * 400)
    assert large.status == 413
    monkeypatch.setattr(campaign_upload, "LARGEST_UPLOAD", 1_000_000)
    monkeypatch.setattr(campaign_upload, "LONGEST_UPLOAD", 0.1)
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    connection.putrequest("POST", "/v1/campaigns")
    connection.putheader("Authorization", f"Bearer {keys['crm']}")
    connection.putheader("Content-Type", CONTENT_TYPE)
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"".join(form(NEWS, recipients=GUESTS))[:300])
    assert connection.getresponse().status == 408
    connection.close()


def test_json_alone_makes_a_campaign(gateway: GatewayClient, keys: dict[str, str]) -> None:
    rows = [{"userid": "u1", "name": "A", "n": 1}, {"userid": "u2", "name": "B"}]
    fields = {"name": "n", "message": TEXT, "recipients": rows, "without_users": ["u2"]}
    made = gateway.ask("POST", "/v1/campaigns", fields, key=keys["crm"])
    assert made.status == 201, made.content
    assert (made.json["recipients"], made.json["excluded"]) == (1, 1)
    start = {**NEWS, "start_at": "2999-01-01T00:00:00Z", "rate": 10, "weight": 3}
    later = gateway.ask("POST", "/v1/campaigns", start, key=keys["crm"])
    assert later.json["start_at"].startswith("2999-01-01")


def test_a_key_sees_its_own_campaigns_only(gateway: GatewayClient, keys: dict[str, str]) -> None:
    made = {
        "crm": gateway.ask("POST", "/v1/campaigns", NEWS, key=keys["crm"]),
        "hr": gateway.ask("POST", "/v1/campaigns", {**NEWS, "app": "hr"}, key=keys["hr"]),
        "all": gateway.ask("POST", "/v1/campaigns", {**NEWS, "sender": "shop"}, key=keys["all"]),
    }
    ids = {name: reply.json["id"] for name, reply in made.items()}

    def listed(name: str, query: str = "") -> set[str]:
        page = gateway.ask("GET", f"/v1/campaigns{query}", key=keys[name]).json
        return {campaign["id"] for campaign in page["campaigns"]}

    assert listed("crm") == {ids["crm"]}
    assert listed("hr") == {ids["hr"]}
    assert listed("all") == set(ids.values())
    assert listed("all", "?app=hr") == {ids["hr"]}
    assert listed("hr", "?app=default") == set()
    assert listed("all", "?state=running") == set()
    for verb in ("start", "pause", "resume", "cancel", "test", "recall", "confirm"):
        body = {"users": ["u9"]} if verb == "test" else None
        refused = gateway.ask("POST", f"/v1/campaigns/{ids['all']}/{verb}", body, key=keys["crm"])
        assert (refused.status, refused.json["detail"]) == (404, "no such campaign"), verb
    for path in ("", "/report", "/preview"):
        assert gateway.ask("GET", f"/v1/campaigns/{ids['hr']}{path}", key=keys["crm"]).status == 404
    for key, body, pointer in (
        ("crm", {**NEWS, "sender": "hr"}, "/sender"),
        ("hr", NEWS, "/app"),
        ("slow", NEWS, None),
        ("reader", NEWS, None),
    ):
        refused = gateway.ask("POST", "/v1/campaigns", body, key=keys[key])
        assert refused.status == 403, key
        assert [error["pointer"] for error in refused.json.get("errors", [])] == [pointer] * bool(
            pointer
        )
    assert (
        gateway.ask("POST", f"/v1/campaigns/{ids['all']}/start", key=keys["reader"]).status == 403
    )
    assert gateway.ask("GET", "/v1/campaigns/none", key=keys["all"]).status == 404


def test_it_is_tested_confirmed_and_recalled(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings
) -> None:
    fields = {"name": "n", "message": TEXT, "recipients": [{"userid": "u1", "name": "A"}]}
    place = gateway.ask("POST", "/v1/campaigns", fields, key=keys["crm"]).headers["Location"]
    body = {"users": ["u8"], "fields": {"name": "T"}}
    sent = gateway.ask("POST", f"{place}/test", body, key=keys["crm"], Idempotency_Key="one")
    assert sent.status == 202, sent.content
    again = gateway.ask("POST", f"{place}/test", body, key=keys["crm"], Idempotency_Key="one")
    assert again.json["id"] == sent.json["id"]
    with Client(settings) as client:
        (job,) = client.recent()
        assert (job.kind, job.sender, job.lane) == ("message-send", "crm", "urgent")
    wrong = gateway.ask(
        "POST", f"{place}/test", {"users": ["u8"], "fields": {"x": "T"}}, key=keys["crm"]
    )
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "/fields")
    for verb in ("confirm", "recall"):
        done = gateway.ask("POST", f"{place}/{verb}", key=keys["crm"])
        assert (done.status, done.json) == (202, {"jobs": 0, "ids": []}), verb
    gateway.ask("POST", f"{place}/start", key=keys["crm"])
    assert gateway.ask("POST", f"{place}/recall", key=keys["crm"]).status == 409


def test_sent_chunks_are_recalled_by_jobs_of_their_sender(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings
) -> None:
    async def sent() -> str:
        database = Database(settings.database)
        campaign = await campaigns.put(database, people=4, state="done", sender="crm")
        async with database.write("test") as connection:
            values = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
            await connection.execute(update(ChunkRow).values(state=ChunkState.SETTLED, **values))
        await database.dispose()
        return campaign

    campaign = asyncio.run(sent())
    place = f"/v1/campaigns/{campaign}"
    for verb, kind in (("recall", "campaign-recall"), ("confirm", "campaign-confirm")):
        done = gateway.ask("POST", f"{place}/{verb}", key=keys["crm"])
        assert (done.status, done.json["jobs"]) == (202, 1), done.content
        with Client(settings) as client:
            job = client.status(done.json["ids"][0])
        assert (job.kind, job.sender) == (kind, "crm")
        slow = gateway.ask("POST", f"{place}/{verb}", key=keys["slow"])
        assert (slow.status, slow.json["type"]) == (403, "urn:dingrelay:problem:forbidden")
        done = gateway.ask("POST", f"{place}/{verb}", key=keys["bulk"])
        with Client(settings) as client:
            assert client.status(done.json["ids"][0]).lane == "bulk"


def test_a_silent_database_is_reported_in_time(
    gateway: GatewayClient, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(backend: CampaignService, campaign: str) -> None:
        await asyncio.Event().wait()

    place = gateway.ask("POST", "/v1/campaigns", NEWS, key=keys["crm"]).headers["Location"]
    monkeypatch.setattr(CampaignService, "status", silent)
    monkeypatch.setattr(routes, "PATIENCE", 0.1)
    refused = gateway.ask("GET", place, key=keys["crm"])
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
