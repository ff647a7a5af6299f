import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.classify import ROWS, Classifier
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    DingTalkError,
    Held,
    NotFound,
    Permanent,
    Permission,
    QuotaExhausted,
    Throttled,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.dingtalk.robots import webhook_api
from support.examples import either

NOW = datetime(2026, 9, 2, 16, 1, 2, 500_000, tzinfo=UTC)
"""00:01:02.5 of the next day in Beijing."""

OLD_READ = apis.USER
OLD_SEND = apis.MESSAGE_SEND
NEW_READ = apis.APPROVAL_READ
NEW_CREATE = apis.APPROVAL_CREATE
APIS = [OLD_READ, OLD_SEND, NEW_READ, NEW_CREATE, apis.TOKEN, apis.TOKEN_V1]


def meaning(
    api: Api, status: int, body: object, classifier: Classifier | None = None
) -> DingTalkError:
    """The error that an answer leads to; `body` is bytes, or what to spell as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    with pytest.raises(DingTalkError) as caught:
        (classifier or Classifier()).read(api, status, content, now=NOW)
    return caught.value


def top(code: int | str) -> dict[str, Any]:
    return {"errcode": int(code), "errmsg": "出错了", "request_id": "r1"}


def wrapped(code: int | str, outer: int | str = 88) -> dict[str, Any]:
    text = f"ding talk error[subcode={code},submsg=出错了]"
    return {
        "errcode": outer,
        "sub_code": str(code),
        "sub_msg": "出错了",
        "errmsg": text,
        "request_id": "r1",
    }


def new(code: str) -> dict[str, Any]:
    return {"code": code, "message": "出错了", "requestid": "r1"}


OLD_CODES: list[tuple[type[DingTalkError], str]] = [
    (Throttled, "43004 90018 90002 90001 90003 90004 90005 90006 90007 90008 90009 90010"),
    (Throttled, "90011 90012 90013 90014 90019 45009 41046 41047 41048"),
    (Throttled, "143103 143104 143203 143204 410100 130101"),
    (QuotaExhausted, "90020 90030 41045"),
    (TokenInvalid, "40014 42001 41001 40001 33001 52010"),
    (Credentials, "40089 40096"),
    (Transient, "-1 500 400001 34015"),
    (Permission, "60011 43007 48002 810007 50002 50004 41028 41044"),
    (Held, "60020 50003 50005"),
    (NotFound, "33012 40003 60121 60111 46004 60003 40009"),
    (Permanent, "43001 43002 43003 43005 43008 43009 44002 47001"),
    (Permanent, "40000 400002 40035 40038 40031 40032 40066 40068 40069"),
    (Permanent, "34016 45002 45003 45004 45005 45006 45007 45008 40008 41049 60022 40048 1430002"),
    (Permanent, "40056 70003 70004 90017 143105 143205 143106 143206"),
    (Permanent, "810003 810008 820001 830001 22 404"),
]
NEW_CODES: list[tuple[type[DingTalkError], int, str]] = [
    (
        Throttled,
        403,
        (
            "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi Forbidden.AccessDenied.QpsLimitForApi"
            " Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"
            " Forbidden.AccessDenied.QpsLimitForSuitekeyAndOrgAndApi"
            " Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi"
        ),
    ),
    (
        Throttled,
        400,
        (
            "qps.exceed.limit request.overlimit oaplus.query.limit requestTooMuch"
            " request.too.frequent request.too.fast invokeFrequency send.too.fast"
            " send.byToken.tooFast too.many.people too.many.group autoflowLikeTriggerRateLimited"
        ),
    ),
    (Throttled, 500, "systemError.busy request.often"),
    (Throttled, 429, "system.busy systemBusy - whatever"),
    (QuotaExhausted, 403, "Forbidden.AccessDenied.ApiCountLimitForOrg integrated.qps.exceed"),
    (
        TokenInvalid,
        400,
        "InvalidAuthentication accesstoken.expired AuthenticationFailed.MissingParameter",
    ),
    (TokenInvalid, 401, "-"),
    (Credentials, 400, "invalidClientIdOrSecret invalid.client"),
    (
        Transient,
        500,
        "systemError unknownError serviceBusy service.timeout operationTimeout never.heard.of",
    ),
    (Transient, 400, "systemError serviceBusy"),
    (Transient, 503, "-"),
    (Held, 403, "Forbidden.AccessDenied.IpNotInWhiteList"),
    (
        Permission,
        403,
        (
            "Forbidden.AccessDenied.AccessTokenPermissionDenied apiPermissionDenied needAuth"
            " processSetupNoPermission - never.heard.of"
        ),
    ),
    (
        Permanent,
        400,
        (
            "processCodeError formConverterError illegalComponent processGetFailed invalidParameter"
            " processInstanceInvalidParameter targetSelectApproverScopeError"
            " targetSelectApproverMissing never.heard.of"
        ),
    ),
    (NotFound, 400, "processInstanceNotExist"),
]


@pytest.mark.parametrize(
    ("error", "code"), [(error, code) for error, codes in OLD_CODES for code in codes.split()]
)
def test_codes_of_the_old_dialect(error: type[DingTalkError], code: str) -> None:
    assert type(meaning(OLD_READ, 200, top(code))) is error
    if code != "40000":
        assert type(meaning(OLD_READ, 200, wrapped(code))) is error
        assert type(meaning(OLD_READ, 200, wrapped(code, "15"))) is error
    failure = meaning(OLD_READ, 200, wrapped(code))
    assert (failure.code, failure.request_id) == (code, "r1")
    assert failure.hint


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(error, status, code) for error, status, codes in NEW_CODES for code in codes.split()],
)
def test_codes_of_the_new_dialect(error: type[DingTalkError], status: int, code: str) -> None:
    failure = meaning(NEW_READ, status, new(code))
    assert type(failure) is error
    assert (failure.code, failure.message, failure.request_id) == (code, "出错了", "r1")
    assert failure.hint


@pytest.mark.parametrize(
    ("pause", "api", "code"),
    [
        (1, OLD_SEND, "43004"),
        (1, OLD_SEND, "90018"),
        (1, OLD_SEND, "90002"),
        (60, OLD_SEND, "90006"),
        (60, OLD_SEND, "41047"),
        (60, NEW_READ, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"),
        (600, OLD_SEND, "90001"),
        (600, OLD_SEND, "410100"),
        (600, OLD_SEND, "130101"),
    ],
)
def test_how_long_a_throttle_lasts(pause: float, api: Api, code: str) -> None:
    failure = meaning(api, 200, top(code)) if code.isdigit() else meaning(api, 403, new(code))
    assert isinstance(failure, Throttled)
    assert (failure.pause, failure.everything) == (pause, False)


@pytest.mark.parametrize(
    ("code", "text", "pause"),
    [
        (90018, "限制将在 2026-09-03 00:01:03 结束.", 0.5),
        (90018, "处罚将在 2026-09-03 00:01:05 结束.", 2.5),
        (90018, "限制将在 2026-09-03 00:01:02 结束.", 0.05),
        (90018, "限制将在 2026-09-04 00:01:03 结束.", 10),
        (90018, "限制将在 2026-13-40 00:01:03 结束.", 1),
        (90018, "限制将在 0001-01-01 00:00:00 结束.", 0.05),
        (90018, "限制将在明天结束", 1),
        # It is bounded by the class of the code.
        (90005, "限制将在 2036-01-01 00:00:00 结束.", 600),
        (90001, "限制将在 2036-01-01 00:00:00 结束.", 600),
    ],
)
@pytest.mark.parametrize("field", ["errmsg", "sub_msg"])
def test_the_end_of_a_limit_that_dingtalk_names(
    code: int, text: str, pause: float, field: str
) -> None:
    failure = meaning(OLD_READ, 200, wrapped(code) | {field: f"请求被暂时限制了, {text}"})
    assert isinstance(failure, Throttled)
    assert failure.pause == pytest.approx(pause)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (502, b"<html>Bad Gateway</html>"),
        (503, b"upstream"),
        (504, {"code": "systemError", "message": "x"}),
        (500, {"code": "never.heard.of", "message": "x"}),
        (400, {"code": "service.timeout", "message": "x"}),
        (200, {"errcode": 500, "errmsg": "x"}),
        (200, {"errcode": 34015, "errmsg": "x"}),
        (500, {"errcode": 0}),
        (200, b""),
        (200, b'{"errcode":0,"task_id":25627'),
        (200, b"<html>Welcome to the hotel's network</html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"42"),
        (200, b'"ok"'),
        (200, "系统".encode("gbk")),
        (200, b"\xff\xfe\x00\xd8"),
        (200, b"[" * 100_000),
        (200, b'{"errcode":' + b"9" * 5_000 + b"}"),
        (302, b""),
    ],
)
def test_a_lost_answer_is_ambiguous_for_a_call_that_changes(status: int, body: object) -> None:
    for api in (OLD_READ, NEW_READ):
        assert type(meaning(api, status, body)) is Transient
    for api in (OLD_SEND, NEW_CREATE, apis.APPROVAL_CREATE_TOPAPI):
        assert type(meaning(api, status, body)) is Ambiguous


@pytest.mark.parametrize("errcode", [None, {}, [], True, 1.5, ""])
def test_an_errcode_of_a_wrong_type_says_nothing(errcode: object) -> None:
    assert type(meaning(OLD_READ, 200, {"errcode": errcode})) is Transient
    assert type(meaning(OLD_SEND, 200, {"errcode": errcode})) is Ambiguous


@pytest.mark.parametrize("success", [[True], {}, "[object Object]", 7, ""])
def test_a_success_of_a_wrong_type_says_nothing(success: object) -> None:
    body = {"result": [True], "success": success}
    execute = apis.of_path("POST", "/v1.0/x", ruled=lambda _: "", changes=True)
    assert type(meaning(apis.APPROVAL_LIST, 200, body)) is Transient
    assert type(meaning(NEW_CREATE, 200, body)) is Ambiguous
    assert type(meaning(execute, 200, body)) is Ambiguous


def test_a_success_that_is_false_is_none_but_for_who_asked_for_dingtalks_words() -> None:
    # An empty list of instances would say that an approval does not exist.
    body = {"result": {}, "success": False}
    assert type(meaning(apis.APPROVAL_LIST, 200, body)) is Transient
    assert type(meaning(NEW_CREATE, 200, body)) is Ambiguous
    any_api = apis.of_path("GET", "/v1.0/x", ruled=lambda _: "", changes=False)
    assert Classifier().read(any_api, 200, json.dumps(body).encode()) == body
    for true in (True, "true", None):
        answer = {"result": {}, "success": true}
        assert Classifier().read(apis.APPROVAL_LIST, 200, json.dumps(answer).encode()) == answer


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", TokenInvalid),
        (403, b"", Permission),
        (404, b"", Permanent),
        (403, b"<html>Access denied</html>", Transient),
        (404, b"<html>Not Found</html>", Transient),
        (405, "<html>访问被拒绝</html>".encode(), Transient),
        (405, b"", Permanent),
        (404, b"404 page not found", Transient),
        (404, b"default backend - 404", Transient),
        (403, "策略禁止".encode(), Transient),
        (401, b"Unauthorized", Transient),
        (407, b"Access denied", Transient),
        (400, b'["no object"]', Transient),
        (408, b"", Transient),
        (429, b"", Throttled),
        (429, b"slow down", Throttled),
        (400, b'{"errors":["x"]}', Permanent),
        (400, b'{"code": 7.5, "message": []}', Transient),
        (403, b'{"code":"-"}', Permission),
        (403, b'{"code":"Forbidden.AccessDenied.QpsLi', Transient),
        (400, b'{"code":"send.too', Transient),
        (401, b'{"code":"', TokenInvalid),
    ],
)
def test_an_http_status_may_decide(status: int, body: bytes, error: type[DingTalkError]) -> None:
    assert type(meaning(NEW_READ, status, body)) is error


@pytest.mark.parametrize("body", [b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"[1, 2]\n"])
def test_a_file_is_refused_and_no_sign_of_an_outage(body: bytes) -> None:
    download = apis.of_path("GET", "/media/downloadFile", ruled=lambda _: "", changes=False)
    failure = meaning(download, 200, body)
    assert (type(failure), failure.code, failure.sick) == (Permanent, "not_json", "")
    assert meaning(download, 502, body).sick == "way"
    assert meaning(download, 200, b"no healthy upstream").sick == "way"
    assert meaning(OLD_READ, 200, body).sick == "way"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"NaN", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b"1.5", 1.5),
        (b'"\\ud83d"', "?"),
        (b'"\xed\xa0\xbd"', "?"),
    ],
)
def test_values_of_an_answer_serialise_as_json(given: bytes, kept: object) -> None:
    any_api = apis.of_path("GET", "/x", ruled=lambda _: "", changes=False)
    answer = Classifier().read(any_api, 200, b'{"errcode": 0, "x": [' + given + b"]}")
    assert json.loads(json.dumps(answer, allow_nan=False).encode())["x"] == [kept]


@pytest.mark.parametrize("api", [OLD_SEND, NEW_CREATE, OLD_READ])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "xxx"}),
        (200, {"status": "1111"}),
        (403, b"<!DOCTYPE html><html><script>location='/punish?x5secdata=1'</script></html>"),
        (200, b"<html><script>var action='punish'</script></html>"),
        (405, "<html>访问过于频繁</html>".encode()),
        (404, b'<html><body>{"status": 1111, "wait": 5}</body></html>'),
    ],
)
def test_a_banned_address_pauses_everything(api: Api, status: int, body: object) -> None:
    failure = meaning(api, status, body)
    assert isinstance(failure, Throttled)
    assert (failure.pause, failure.everything) == (300, True)


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (
            {
                "errcode": 88,
                "sub_code": "60011",
                "sub_msg": "没有调用该接口的权限",
                "errmsg": "ding talk error[subcode=60011,submsg=没有调用该接口的权限]",
            },
            "60011",
            Permission,
        ),
        ({"errcode": 88, "errmsg": "ding talk error[subcode=90018,submsg=x]"}, "90018", Throttled),
        ({"errcode": "88", "errmsg": "ding talk error[subcode= 40014 ]"}, "40014", TokenInvalid),
        ({"errcode": 88, "sub_code": 40014}, "40014", TokenInvalid),
        ({"errcode": 88.0, "sub_code": 40014.0}, "40014", TokenInvalid),
        (
            {"errcode": 88, "sub_code": "40000", "sub_msg": "access_token is blank"},
            "40000",
            TokenInvalid,
        ),
        ({"errcode": 40078, "errmsg": "不存在的临时授权码"}, "40078", Permanent),
        ({"errcode": 90002, "errmsg": "请求总次数超过了 300 次"}, "90002", Throttled),
        (
            {
                "errcode": 15,
                "errmsg": "Remote service error[subcode=isp.-1,submsg=system busy]",
                "sub_code": "isp.-1",
            },
            "isp.-1",
            Transient,
        ),
        ({"errcode": 15, "errmsg": "Remote service error"}, "15", Transient),
        ({"errcode": 15, "sub_code": "never.heard.of"}, "never.heard.of", Transient),
        ({"errcode": 22, "sub_msg": "不合法ApiName", "errmsg": "Invalid method"}, "22", Permanent),
        ({"errcode": 404, "errmsg": "请求的URI地址不存在"}, "404", Permanent),
        ({"errcode": 88, "errmsg": "no code at all"}, "88", Permanent),
        ({"code": "InvalidAuthentication", "message": "x"}, "InvalidAuthentication", TokenInvalid),
        ({"Code": "invalidParameter", "Message": "x"}, "invalidParameter", Permanent),
    ],
)
def test_every_shape_of_a_body(body: object, code: str, error: type[DingTalkError]) -> None:
    failure = meaning(OLD_READ, 200, body)
    assert (failure.code, type(failure)) == (code, error)


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (OLD_READ, {"errcode": 0, "errmsg": "ok", "result": {}}),
        (OLD_READ, {"errcode": "0"}),
        (OLD_READ, {"errcode": 0.0}),
        (OLD_SEND, {"errcode": 0, "task_id": 1, "request_id": "r"}),
        (NEW_READ, {"result": {}, "success": "true"}),
        (NEW_CREATE, {"instanceId": "i"}),
        (NEW_CREATE, {"code": "x", "instanceId": "i"}),
        (NEW_READ, {}),
    ],
)
def test_a_success_is_returned_as_it_came(api: Api, body: dict[str, Any]) -> None:
    assert Classifier().read(api, 200, json.dumps(body).encode()) == body


def test_a_success_status_with_an_error_in_it_is_an_error() -> None:
    assert type(meaning(NEW_CREATE, 200, new("processCodeError"))) is Permanent


@pytest.mark.parametrize("api", [apis.TOKEN, apis.TOKEN_V1])
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, top(4711), Held),
        (200, top(60011), Held),
        (400, new("needAuth"), Held),
        (404, b"", Held),
        (403, b"", Held),
        (200, top(40096), Credentials),
        (200, top(40035), Credentials),
        (200, top(40001), Credentials),
        (400, new("invalidClientIdOrSecret"), Credentials),
        (401, b"", Credentials),
    ],
)
def test_a_refused_fetch_of_a_token_is_not_the_jobs_fault(
    api: Api, status: int, body: object, error: type[DingTalkError]
) -> None:
    failure = meaning(api, status, body)
    assert type(failure) is error
    assert error is Held or "secret" in failure.hint


def test_settings_override_the_table() -> None:
    classifier = Classifier({"43004": "permanent", "4711": "throttled", "40014": "token_invalid"})
    assert type(meaning(OLD_SEND, 200, top(43004), classifier)) is Permanent
    assert type(meaning(OLD_SEND, 200, wrapped(43004), classifier)) is Permanent
    assert type(meaning(OLD_SEND, 200, top(4711), classifier)) is Throttled
    assert type(meaning(OLD_SEND, 200, top(40014), classifier)) is TokenInvalid
    assert type(meaning(OLD_SEND, 200, top(90018), classifier)) is Throttled


def test_an_override_without_a_class_names_both() -> None:
    with pytest.raises(ValueError, match=r"codes\.43004: 'throtled' is none of .*throttled"):
        Classifier({"43004": "throtled"})


def test_an_unknown_code_is_logged_once() -> None:
    logged: Counter[str] = Counter()
    classifier = Classifier(on_unknown=lambda code, message: logged.update([f"{code} {message}"]))
    for _ in range(3):
        meaning(OLD_READ, 200, top(999_999), classifier)
        meaning(NEW_READ, 400, new("never.heard.of"), classifier)
        meaning(NEW_READ, 403, new("-"), classifier)
        meaning(NEW_READ, 400, new("invalidParameter"), classifier)
    assert logged == {"999999 出错了": 1, "never.heard.of 出错了": 1}


def test_nonsense_codes_do_not_fill_the_memory() -> None:
    logged: list[str] = []
    classifier = Classifier(on_unknown=lambda code, message: logged.append(code))
    for number in range(2_000):
        meaning(NEW_READ, 400, new(f"code.{number}"), classifier)
    assert len(logged) == 1_000


def test_no_code_stands_in_the_table_twice() -> None:
    codes = Counter(code for row in ROWS for code in row.codes.split() if not row.words)
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(row.source for row in ROWS)


def test_an_error_holds_no_token() -> None:
    secret = "fw8ef8we8f76e6f7s8dxxxx"
    body = {"errcode": 1, "errmsg": f"bad url ?access_token={secret}", "request_id": secret * 20}
    failure = meaning(OLD_READ, 200, body)
    assert f"={secret}" not in f"{failure} {failure.message}"
    assert len(failure.request_id) <= 100
    assert len(meaning(OLD_READ, 200, {"errcode": 1, "errmsg": "长" * 5_000}).message) == 300


TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["0", "88"])
)
FIELDS = st.sampled_from([
    "errcode", "errmsg", "sub_code", "sub_msg", "request_id", "requestid", "code", "Code",
    "message", "Message", "status", "punish", "result", "success",
])  # fmt: skip
OBJECTS = st.dictionaries(FIELDS | TEXT, st.recursive(SCALARS, st.lists, max_leaves=3), max_size=8)
HOPEFUL = st.sampled_from(
    [json.dumps(body).encode() for body in (top(0), top(90018), wrapped(40014), new("needAuth"))]
)
BODIES = (
    st.binary(max_size=200)
    | OBJECTS.map(lambda body: json.dumps(body).encode())
    | st.tuples(HOPEFUL, st.integers(0, 80)).map(lambda cut: cut[0][: cut[1]])
    | st.tuples(HOPEFUL, st.binary(max_size=5), st.integers(0, 80)).map(
        lambda torn: torn[0][: torn[2]] + torn[1] + torn[0][torn[2] :]
    )
)
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 502, 504]) | (
    st.integers(0, 999)
)


@settings(max_examples=either(200, 5_000), deadline=timedelta(seconds=1))
@given(st.sampled_from(APIS), STATUSES, BODIES)
def test_any_answer_has_exactly_one_meaning(api: Api, status: int, body: bytes) -> None:
    try:
        answer = Classifier().read(api, status, body, now=NOW)
    except DingTalkError as refusal:
        error = refusal
    else:
        assert 200 <= status < 300
        assert isinstance(answer, dict)
        return
    assert type(error).name not in {"error", "final"}
    assert not isinstance(error, Ambiguous) or api.changes
    assert error.code
    assert error.hint
    # It goes into records and logs.
    f"{error} {error.code} {error.message} {error.request_id}".encode()
    if isinstance(error, Throttled):
        assert 0 < error.pause <= 600


@pytest.mark.parametrize(
    ("api", "status", "body", "sick"),
    [
        *((api, 200, top(code), "answer") for api in (OLD_READ, OLD_SEND) for code in (-1, 15)),
        *(
            (api, 200, wrapped(code, 15), "answer")
            for api in (OLD_READ, OLD_SEND)
            for code in ("isp.-1", "isp.timeout")
        ),
        (NEW_READ, 500, new("systemError"), "answer"),
        (NEW_READ, 503, b"upstream connect error", "way"),
        (NEW_READ, 502, b"<html>Bad Gateway</html>", "way"),
        (NEW_READ, 404, b"<html>Not Found</html>", "way"),
        (OLD_READ, 200, b'{"errcode":0,"task_', "way"),
        (apis.TOKEN, 200, top(-1), "way"),
        (OLD_READ, 200, top(60011), ""),
        (OLD_READ, 200, top(90018), ""),
        (NEW_READ, 403, b"", ""),
    ],
)
def test_which_answers_mean_an_outage(api: Api, status: int, body: object, sick: str) -> None:
    failure = meaning(api, status, body)
    assert failure.sick == sick
    assert sick != "answer" or type(failure) is (Ambiguous if api.changes else Transient)


def test_a_limit_of_messages_to_everyone_pauses_no_other_message() -> None:
    failure = meaning(OLD_SEND, 200, top(41046))
    assert isinstance(failure, Throttled)
    assert (failure.pause, failure.alone) == (60, True)
    others = meaning(OLD_SEND, 200, top(41047))
    assert isinstance(others, Throttled)
    assert not others.alone


WEBHOOK = webhook_api("a" * 32)


@pytest.mark.parametrize(
    "body",
    [
        "<html>Bad gateway</html>",
        '{"errcode": 0, "errm',
        '{"errcode": [0], "errmsg": {"value": "ok"}}',
        "upstream reset",
        "",
    ],
)
def test_what_says_nothing_of_a_block_may_have_come_after_the_post(body: str) -> None:
    with pytest.raises(Ambiguous):
        Classifier().read(WEBHOOK, 200, body.encode())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"errcode": 130101, "errmsg": "send too fast, exceed 20 times per minute"}),
        (200, {"errcode": "660026", "errmsg": "sending too many messages per minute"}),
        (200, {"status": 1111, "wait": 5, "source": "x5", "punish": "deny"}),
        (200, {"result": "ok"}),
        (302, ""),
        (200, "<html>punish</html>"),
    ],
)
def test_a_blocked_robot_is_left_alone_for_ten_minutes(status: int, body: Any) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(Throttled) as error:
        Classifier().read(WEBHOOK, status, content.encode())
    assert (error.value.pause, error.value.everything) == (600, False)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Transient, 310000, "description:机器人发送签名过期;solution:请保持在 timestampms 以内;"),
        (Transient, 310000, "invalid timestamp"),
        (Permission, 310000, "description:机器人发送签名不匹配;solution:请确认签名和时间戳"),
        (Permission, 310000, "sign not match"),
        (Permission, 310000, "错误描述:ip 不在白名单中"),
        (Permission, 310000, "ip 1.2.3.4 not in whitelist"),
        (Permanent, 310000, "description:关键词不匹配;"),
        (Permanent, 310000, "keywords not in content, more: [https://ding-doc.dingtalk.com]"),
        (NotFound, 300001, "description: robot 不存在；solution:请确认 token 是否正确；"),
        (NotFound, 300001, "token is not exist"),
        (Permanent, 300001, "param error"),
        (NotFound, 300005, "token is not exist"),
        (Permission, 400102, "description:机器人已经停用或者未启用"),
        (QuotaExhausted, 90030, "webhook over limit"),
        (Ambiguous, 500100, "description:系统异常，请稍后再试;"),
    ],
)
def test_webhook_refusals_by_text(error: type[DingTalkError], code: int, message: str) -> None:
    with pytest.raises(DingTalkError) as found:
        Classifier().read(WEBHOOK, 200, json.dumps({"errcode": code, "errmsg": message}).encode())
    assert type(found.value) is error


@pytest.mark.parametrize("message", ["发起人不存在", "发起人不在该部门", "审批人或抄送人不存在"])
def test_the_remedy_for_an_originator_that_does_not_exist_is_no_template(message: str) -> None:
    code = "processInstanceInvalidParameter"
    error = meaning(NEW_CREATE, 400, new(code) | {"message": message})
    assert type(error) is Permanent
    assert "originator" in error.hint
    assert "template" in meaning(NEW_CREATE, 400, new(code)).hint


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (OLD_READ, {"errcode": 22, "sub_msg": "不合法ApiName", "errmsg": "Invalid method"}),
        (OLD_READ, {"errcode": 404, "errmsg": "请求的URI地址不存在"}),
        (NEW_READ, new("InvalidAction.NotFound")),
    ],
)
def test_the_remedy_for_an_unknown_path_names_the_path(api: Api, body: dict[str, Any]) -> None:
    error = meaning(api, 404, body)
    assert type(error) is Permanent
    assert error.hint.startswith("Check path")
