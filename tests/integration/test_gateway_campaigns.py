"""``/v1/campaigns`` on a real socket, database and Valkey."""

import asyncio
import http.client
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from dingrelay_producers import Client
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import Lane
from dingrelay_workers.campaigns import routes
from dingrelay_workers.campaigns import upload as campaign_upload
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import Grant
from support import campaigns
from support.databases import in_database
from support.gateways import CONTENT_TYPE, Ask, GatewayClient, Reply, form
from support.rows import change, put

TEXT = {"msgtype": "text", "text": {"content": "hello {name}"}}
GIFT = {"msgtype": "text", "text": {"content": "your {gift}"}}
PLAIN = {"msgtype": "text", "text": {"content": "hello"}}
NEWS = {"name": "news", "message": PLAIN, "users": ["u1", "u2"]}
GUESTS = b"userid,name\nu1,a\nu2,b\nu3,c\n"

GRANTS = (
    Grant(name="all", scopes=frozenset({"*"})),
    Grant(
        name="crm",
        scopes=frozenset({"campaigns:read", "campaigns:write"}),
        sender="crm",
        owner="u8",
    ),
    Grant(name="hr", scopes=frozenset({"*"}), apps=frozenset({"hr"})),
    Grant(name="slow", scopes=frozenset({"*"}), lanes=frozenset[Lane]({"normal"})),
    Grant(name="bulk", scopes=frozenset({"campaigns:write"}), lanes=frozenset[Lane]({"bulk"})),
)


@pytest.fixture
def grants() -> Sequence[Grant]:
    return GRANTS


def upload(ask: Ask, campaign: object, path: str = "/v1/campaigns", **files: bytes) -> Reply:
    return ask("POST", path, b"".join(form(campaign, **files)), Content_Type=CONTENT_TYPE)


def listed(ask: Ask, query: str = "") -> list[str]:
    """The ids of the campaigns that a key sees."""
    return [each["id"] for each in ask("GET", f"/v1/campaigns{query}").json["campaigns"]]


def pointer(reply: Reply) -> str:
    """The place of the first error."""
    return str(reply.json["errors"][0]["pointer"])


def test_each_verb_moves_the_campaign(crm: Ask, callers: dict[str, Ask]) -> None:
    fields = {"name": "Party", "message": TEXT, "quiet": "22:00-08:00", "users": []}
    files = {"recipients": GUESTS, "without": b'{"userid": "u1"}\n'}
    before = upload(crm, fields, "/v1/campaign-previews", **files)
    assert before.status == 200, before.content
    assert (before.json["recipients"], before.json["excluded"]) == (2, 1)
    assert crm("GET", "/v1/campaigns").json == {"campaigns": [], "next": None}

    made = upload(crm, fields, **files)
    assert made.status == 201, made.content
    shown = {"state": "draft", "sender": "crm", "recipients": 2, "excluded": 1, "skipped": []}
    assert made.json.items() >= shown.items()
    place = made.headers["Location"]
    assert place == f"/v1/campaigns/{made.json['id']}"
    assert crm("GET", f"{place}/preview").json["recipients"] == 2

    verbs = ("start", "start", "pause", "resume", "cancel")
    states = [crm("POST", f"{place}/{verb}").json["state"] for verb in verbs]
    assert states == ["running", "running", "paused", "running", "cancelled"]
    report = crm("GET", f"{place}/report").json
    assert (report["recipients"], sum(report["outcomes"].values())) == (2, 2)
    other = crm("POST", "/v1/campaigns", NEWS).headers["Location"]
    for refused, why in (
        (crm("POST", f"{place}/start"), "is cancelled"),
        (crm("DELETE", other), "is ready: cancel it first"),
    ):
        assert (refused.status, refused.json["type"]) == (409, "urn:dingrelay:problem:conflict")
        assert why in refused.json["detail"]
    assert [crm("DELETE", place).status for _ in range(2)] == [204, 404]
    assert listed(crm) == [other.rpartition("/")[2]]


def test_malformed_rows_are_named_after_the_start(crm: Ask) -> None:
    """Also to a key that may not read the directory: it is what was written in the file."""
    fields = {"name": "Party", "message": PLAIN, "malformed": "skip"}
    made = upload(crm, fields, recipients=b"userid,name\nu1,a\nu 2,b\n")
    place = made.headers["Location"]
    assert crm("POST", f"{place}/start").status == 200
    assert crm("GET", f"{place}/report").json["outcomes"]["malformed"] == 1
    first = crm("GET", f"{place}/people?limit=1").json
    [row] = crm("GET", f"{place}/people?cursor={first['next']}").json["people"]
    problem = "line 3: userid: holds a comma, a blank or a control character"
    assert (row["userid"], row["name"], row["outcome"]) == ("", "u 2", "malformed")
    assert row["reason"] == problem
    table = crm("GET", f"{place}/people.csv?outcome=malformed").content.decode("utf-8-sig")
    assert table.splitlines()[1:] == [f',u 2,,,,left out,"{problem}",malformed,']


def test_fields_of_the_directory_need_its_scope(
    callers: dict[str, Ask], settings: Settings, redis: Redis
) -> None:
    """A preview, a campaign or a test of its own must not show a key what `directory:read` would."""

    async def fill(database: Database) -> None:
        data = {"name": "王芳", "mobile": "13800000001"}
        await put(database, UserRow, {"userid": "u1", "name": "王芳", "fields": data})

    in_database(settings.database, fill)
    reader, crm = callers["all"], callers["crm"]
    text = {"msgtype": "text", "text": {"content": "{name}: {mobile}"}}
    plan = {"name": "n", "message": text, "users": ["u1"], "sender": "crm"}
    for path in ("/v1/campaign-previews", "/v1/campaigns"):
        refused = crm("POST", path, plan)
        assert (refused.status, pointer(refused)) == (422, "/message")
        assert "needs the scope directory:read" in refused.json["errors"][0]["detail"]
        assert reader("POST", path, plan).status < 300
    [made] = crm("GET", "/v1/campaigns").json["campaigns"]
    place = f"/v1/campaigns/{made['id']}"
    for ask, name in ((crm, ""), (reader, "王芳")):
        assert [person["name"] for person in ask("GET", f"{place}/people").json["people"]] == [name]
        table = ask("GET", f"{place}/people.csv").content.decode("utf-8-sig")
        assert table.splitlines()[1].startswith(f"u1,{name},")
    [first] = crm("GET", f"{place}/preview").json["first"]
    assert (first["name"], first["message"]) == ("", text)
    [shown] = reader("GET", f"{place}/preview").json["first"]
    assert shown["message"]["text"]["content"] == "王芳: 13800000001"
    own = upload(crm, {"name": "n", "message": TEXT}, "/v1/campaign-previews", recipients=GUESTS)
    assert own.json["first"][0]["message"]["text"]["content"] == "hello a"
    mixed = {**plan, "message": TEXT, "recipients": [{"userid": "u2", "name": "b"}]}
    refused = crm("POST", "/v1/campaigns", mixed)
    assert "u1 has no value for {name}" in refused.json["errors"][0]["detail"]


def test_the_encoding_of_a_file_may_be_named(crm: Ask) -> None:
    rows = "userid,name\ru1,小伟\ru2,张三\r".encode("gbk")

    def preview(**encoding: str) -> Reply:
        fields = {"name": "n", "message": TEXT, **encoding}
        return upload(crm, fields, "/v1/campaign-previews", recipients=rows)

    refused = preview()
    assert refused.status == 422
    [problem] = refused.json["errors"]
    assert (problem["line"], "such as GB18030, name it" in problem["detail"]) == (3, True)
    named = preview(encoding="gbk")
    assert (named.status, named.json["recipients"]) == (200, 2)
    unknown = preview(encoding="no")
    assert (unknown.status, pointer(unknown)) == (422, "/encoding")


def test_an_excel_file_is_taken_and_a_picture_is_refused_by_that_name(crm: Ask) -> None:
    fields = {"name": "n", "message": TEXT, "column": "userid=编号"}
    guests = campaigns.xlsx(["编号", "姓名"], ["u1", "张三"], [2, "李四"])
    made = upload(crm, fields, recipients=guests, without=b"UserID\nu1\n")
    assert (made.status, made.json["recipients"], made.json["excluded"]) == (201, 1, 1)
    refused = upload(crm, fields, recipients=b"\x89PNG\r\n\x1a\n")
    assert (refused.status, pointer(refused)) == (422, "/recipients")
    assert "the file is a PNG picture" in refused.json["detail"]


def test_malformed_rows_name_their_lines(crm: Ask) -> None:
    rows = b"userid,name\nu1,a\nu 2,b\nu1,c\nu3\n"
    fields = {"name": "n", "message": PLAIN}
    refused = upload(crm, fields, recipients=rows)
    assert (refused.status, refused.json["detail"]) == (422, "2 rows are malformed")
    where = {"pointer": "/recipients"}
    assert refused.json["errors"] == [
        where | {"line": 3, "detail": "userid: holds a comma, a blank or a control character"},
        where | {"line": 5, "detail": "columns: 1 instead of 2"},
    ]
    assert listed(crm) == []

    skipped = upload(crm, {**fields, "malformed": "skip"}, recipients=rows)
    assert skipped.status == 201
    assert (skipped.json["recipients"], skipped.json["malformed"]) == (1, 2)
    assert [row["line"] for row in skipped.json["skipped"]] == [3, 5]

    mixed = upload(crm, fields, recipients='姓名\n王二\nNAME\n""\n'.encode())
    assert mixed.json["detail"] == "1 row is malformed, 2 rows do not match one person"

    many = b"userid\n" + b"a b\n" * 50
    problem = upload(crm, fields, recipients=many).json
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
"""Requests, their files, and the place of the error."""


def test_errors_create_nothing(crm: Ask) -> None:
    for campaign, files, place in WRONG:
        refused = upload(crm, campaign, **files)
        assert (refused.status, pointer(refused)) == (422, place), (campaign, files)
    assert listed(crm) == []


WHOLE = b"".join(form(NEWS, recipients=GUESTS))
PART = b"--x\r\nContent-Disposition: form-data; name=recipients\r\n"
MIXED = b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n"
X = "multipart/form-data; boundary=x"
NO_FORMS: list[tuple[bytes, str, int]] = [
    (WHOLE[: len(WHOLE) // 2], CONTENT_TYPE, 400),
    (WHOLE[:-8], CONTENT_TYPE, 400),
    (b"", CONTENT_TYPE, 400),
    (b"hello", CONTENT_TYPE, 400),
    (WHOLE, "multipart/form-data", 400),
    (WHOLE, "multipart/form-data; boundary=other", 400),
    (WHOLE, "multipart/form-data; boundary=" + "x" * 71, 400),
    (WHOLE, "text/csv", 415),
    (PART + b"Content-Length: 5\r\n\r\nuserid\r\n--x--\r\n", X, 422),
    (PART + b"Content-Encoding: gzip\r\n\r\nu\r\n--x--\r\n", X, 400),
    (PART + b"X: " + b"y" * 9000 + b"\r\n\r\nu\r\n--x--\r\n", X, 400),
    (MIXED, X, 400),
    (b"--x\r\n\r\nu\r\n--x--\r\n", X, 422),
    (b'{"name": 1, "name": 2}', "application/json", 400),
]


def test_a_body_that_is_no_form_is_refused(crm: Ask) -> None:
    for body, content_type, status in NO_FORMS:
        refused = crm("POST", "/v1/campaigns", body, Content_Type=content_type)
        assert refused.status == status, (body[:80], content_type, refused.content)
    packed = {"Content_Type": CONTENT_TYPE, "Content_Encoding": "gzip"}
    assert crm("POST", "/v1/campaigns", WHOLE, **packed).status == 415
    assert listed(crm) == []


def test_an_upload_that_is_too_large_or_stands_still_is_refused(
    gateway: GatewayClient, keys: dict[str, str], crm: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_upload, "LARGEST_UPLOAD", 1_000)
    assert upload(crm, NEWS, recipients=b"userid\n" + b"u1\n" * 400).status == 413
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


def test_json_alone_makes_a_campaign(crm: Ask) -> None:
    rows = [{"userid": "u1", "name": "A", "n": 1}, {"userid": "u2", "name": "B"}]
    fields = {"name": "n", "message": TEXT, "recipients": rows, "without_users": ["u2"]}
    made = crm("POST", "/v1/campaigns", fields)
    assert made.status == 201, made.content
    assert (made.json["recipients"], made.json["excluded"]) == (1, 1)
    start = {**NEWS, "start_at": "2999-01-01T00:00:00Z", "rate": 10, "weight": 3}
    assert crm("POST", "/v1/campaigns", start).json["start_at"].startswith("2999-01-01")


def test_a_key_sees_its_own_campaigns_only(callers: dict[str, Ask]) -> None:
    fields = {"crm": {}, "hr": {"app": "hr"}, "all": {"sender": "shop"}}
    ids = {
        name: callers[name]("POST", "/v1/campaigns", NEWS | more).json["id"]
        for name, more in fields.items()
    }
    crm, hr, every = (callers[name] for name in ids)
    assert (listed(crm), listed(hr)) == ([ids["crm"]], [ids["hr"]])
    assert set(listed(every)) == set(ids.values())
    assert listed(every, "?app=hr") == [ids["hr"]]
    assert listed(hr, "?app=default") == listed(every, "?state=running") == []
    refused = crm("POST", f"/v1/campaigns/{ids['all']}/start")
    assert (refused.status, refused.json["detail"]) == (404, "no such campaign")
    assert every("GET", "/v1/campaigns/none").status == 404
    for ask, body, places in (
        (crm, {**NEWS, "sender": "hr"}, ["/sender"]),
        (hr, NEWS, ["/app"]),
        (callers["slow"], NEWS, ["/lane"]),
    ):
        refused = ask("POST", "/v1/campaigns", body)
        found = [error["pointer"] for error in refused.json.get("errors", [])]
        assert (refused.status, found) == (403, places)


def test_it_is_tested_confirmed_and_recalled(crm: Ask, client: Client) -> None:
    fields = {"name": "n", "message": TEXT, "recipients": [{"userid": "u1", "name": "A"}]}
    place = crm("POST", "/v1/campaigns", fields).headers["Location"]
    body = {"users": ["u8"], "fields": {"name": "T"}}
    sent, again = [crm("POST", f"{place}/test", body, Idempotency_Key="one") for _ in range(2)]
    assert (sent.status, again.json["id"]) == (202, sent.json["id"]), sent.content
    (job,) = client.recent()
    assert (job.kind, job.sender, job.lane) == ("message-send", "crm", "urgent")
    for wrong, field in (
        ({"users": ["u8"], "fields": {"x": "T"}}, "/fields"),
        ({"users": ["u8"]}, "/fields"),  # those of the first recipient may be the directory's
        ({"users": ["u1"], "fields": {"name": "T"}}, "/users"),
    ):
        refused = crm("POST", f"{place}/test", wrong)
        assert (refused.status, pointer(refused)) == (422, field)
    assert crm("POST", f"{place}/test", {"fields": {"name": "T"}}).status == 202
    for verb in ("confirm", "recall"):
        done = crm("POST", f"{place}/{verb}")
        assert (done.status, done.json) == (202, {"jobs": 0, "ids": []}), verb
    crm("POST", f"{place}/start")
    assert crm("POST", f"{place}/recall").status == 409


async def sent(database: Database) -> str:
    """A campaign of `crm` that was sent just now."""
    campaign = await campaigns.put(database, people=4, state="done", sender="crm")
    called = {"task_id": 7, "called_at": datetime.now(UTC), "accepted": 2}
    await change(database, ChunkRow, state=ChunkState.SETTLED, **called)
    return campaign


def test_sent_chunks_are_recalled_by_jobs_of_their_sender(
    callers: dict[str, Ask], settings: Settings, client: Client
) -> None:
    place = f"/v1/campaigns/{in_database(settings.database, sent)}"
    for verb, kind in (("recall", "campaign-recall"), ("confirm", "campaign-confirm")):
        done = callers["crm"]("POST", f"{place}/{verb}")
        assert (done.status, done.json["jobs"]) == (202, 1), done.content
        slow = callers["slow"]("POST", f"{place}/{verb}")
        assert (slow.status, slow.json["type"]) == (403, "urn:dingrelay:problem:forbidden")
        job = client.status(done.json["ids"][0])
        assert (job.kind, job.sender) == (kind, "crm")
    bulk = callers["bulk"]("POST", f"/v1/campaigns/{in_database(settings.database, sent)}/recall")
    assert client.status(bulk.json["ids"][0]).lane == "bulk"


def test_calls_are_recalled_by_the_same_jobs_however_often_that_is_asked_for(
    callers: dict[str, Ask], settings: Settings, client: Client
) -> None:
    """A gateway may die before its answer, and the request come again by another one or another person."""
    place = f"/v1/campaigns/{in_database(settings.database, sent)}"
    first, again = (callers[key]("POST", f"{place}/recall").json for key in ("crm", "bulk"))
    assert (first["jobs"], first) == (1, again)
    assert [job.id for job in client.recent()] == first["ids"]
    client.cancel(first["ids"][0])
    assert callers["crm"]("POST", f"{place}/recall").json == first
    assert client.status(first["ids"][0]).state == State.QUEUED


def test_a_silent_database_is_reported_in_time(crm: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(backend: CampaignService, campaign: str) -> None:
        await asyncio.Event().wait()

    place = crm("POST", "/v1/campaigns", NEWS).headers["Location"]
    monkeypatch.setattr(CampaignService, "show", silent)
    monkeypatch.setattr(routes, "TIMEOUT", 0.1)
    refused = crm("GET", place)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
