"""The contract of an api-call, and what its body does with a call that was lost."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from dingrelay_tasks import ApiCall, ContractError
from dingrelay_tasks.api_call import is_rest, run
from dingrelay_tasks.outcomes import Unknown
from dingrelay_workers.dingtalk.apis import APPROVAL_CREATE, of_path
from unit.fake_context import START, FakeContext, Intent

HOST = "https://oapi.dingtalk.com"

GOOD = [
    "/topapi/v2/user/getbymobile",
    "/department/list",
    "/v1.0/workflow/processInstances",
    "/v1.0/todo/users/iPqwe123==/tasks",
    "/v1.0/im/groups/cid%2BAb%3D/members",
    "/v1.0/hrm/%E4%B8%AD",
]
BAD = [
    "",
    "/",
    "topapi/x",
    "https://evil.example/x",
    "//evil.example/x",
    "/x//y",
    "/x/",
    "/\\evil.example/x",
    "\\\\evil.example\\x",
    "@evil.example/x",
    "/@evil.example/x",
    ":80@evil.example/x",
    ".evil.example/x",
    "/x/../y",
    "/../y",
    "/x/./y",
    "/x/%2e%2E/y",
    "/x/%2e",
    "/x/..;/y",
    "/x/..%3By/y",
    "/robot/send;x",
    "/x/%2f%2fevil.example",
    "/x/%5Cevil.example",
    "/x%252Fy",
    "/x%3Fy",
    "/x%23y",
    "/x?access_token=t",
    "/x#y",
    "/x y",
    "/x\r\nHost: evil.example",
    "/x%0d%0aHost:%20evil.example",
    "/x%00",
    "/x%",
    "/x%zz",
    "/x%ff",
    "/é",
    "/x/\u3002/evil",
    "/x/\uff0e\uff0e/y",
    "/[::1]/x",
    "/x" * 300,
]
OTHERS = [
    "/gettoken",
    "/sns/gettoken",
    "/service/get_corp_token",
    "/v1.0/oauth2/accessToken",
    "/v1.0/oauth2/accesstoke%6E",
    "/v1.0/oauth2/dingcorp/token",
    "/v1.0/oauth2/userAccessToken",
    "/topapi/message/corpconversation/asyncsend_v2",
    "/topapi/message/corpconversation/asyncsend%5Fv2",
    "/robot/send",
    "/robot/s%65nd",
]


def call(**fields: Any) -> ApiCall:
    return ApiCall.parse({"method": "POST", "path": "/topapi/v2/user/get", **fields})


@pytest.mark.parametrize("path", GOOD)
def test_a_path(path: str) -> None:
    assert call(path=path).path == path


@pytest.mark.parametrize("path", [*BAD, *OTHERS])
def test_wrong_paths_and_those_of_other_kinds_are_refused(path: str) -> None:
    with pytest.raises(ContractError, match=r"^path: "):
        call(path=path)


ANY_PATH = st.text(
    st.sampled_from("/\\.@:%?#[]ax0 2fFeE5cC\r\n\x00=&é") | st.characters(), max_size=24
)


@given(ANY_PATH | ANY_PATH.map("/{}".format))
def test_no_path_leads_to_another_host(path: str) -> None:
    try:
        path = call(path=path).path
    except ContractError:
        return
    url = URL(HOST + path)
    assert (url.scheme, url.raw_authority) == ("https", "oapi.dingtalk.com")
    assert url.raw_path.count("/") == path.count("/")
    assert (url.query_string, url.fragment) == ("", "")


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/v1.0/todo/x", True),
        ("/v2.0/todo/x", True),
        ("/v1.0", False),
        ("/topapi/v1.0/x", False),
        ("/V1.0/x", False),
        ("/v1/x", False),
    ],
)
def test_the_form_of_a_path_decides_its_host(path: str, *, rest: bool) -> None:
    assert is_rest(path) is rest


@pytest.mark.parametrize(
    "name", ["access_token", "ACCESS_TOKEN", " access_token ", "x-acs-dingtalk-access-token"]
)
def test_a_token_of_the_callers_is_kept_nowhere(name: str) -> None:
    job = call(query={name: "secret-token", "language": "zh_CN"})
    assert job.query == {"language": "zh_CN"}
    assert "secret-token" not in repr(job)
    assert job.wire() == call(query={"language": "zh_CN"}).wire()
    given = {"query": {name: "secret-token", "a": 1}, "path": 3}
    assert ApiCall.without_secrets(given) == {"query": {"a": 1}, "path": 3}


@pytest.mark.parametrize("job", [None, 3, [], {"query": 3}, {"query": {1: 2}}, {}])
def test_a_query_without_secrets_stays_as_it_is(job: object) -> None:
    assert ApiCall.without_secrets(job) == job


def test_parameters_are_spelled_as_a_url_spells_them() -> None:
    assert call(query={"a": 1, "b": True, "c": "x y"}).query == {"a": "1", "b": "true", "c": "x y"}


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": [float("inf")]}, {"a": "\ud83d"}])
def test_a_body_is_json(body: object) -> None:
    with pytest.raises(ContractError, match=r"^body"):
        call(body=body)


def test_a_body_that_is_nested_too_deeply() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ContractError, match=r"^body"):
        call(body=deep)


def test_the_summary_shows_neither_query_nor_body() -> None:
    job = call(query={"mobile": "138"}, body={"mobile": "138"})
    assert job.summary() == "api-call app=default lane=normal POST /topapi/v2/user/get"


class CallingContext(FakeContext):
    """Any API, in memory."""

    calls = 0

    async def call(self, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        if arguments["changes"]:
            self.leaves()
        return {"errcode": 0, "asked": arguments}


async def test_an_answered_call_is_not_repeated() -> None:
    ctx = CallingContext()
    job = call(effect="once", body={"a": 1})
    first = await run(job, ctx)
    assert first["answer"]["asked"]["body"] == {"a": 1}
    ctx.intent = None
    assert await run(job, ctx) == first
    assert ctx.calls == 1


@pytest.mark.parametrize(
    ("effect", "requeued", "calls"),
    [("once", False, 0), ("once", True, 1), ("repeatable", False, 1)],
)
async def test_a_call_whose_answer_was_lost(effect: str, *, requeued: bool, calls: int) -> None:
    ctx = CallingContext()
    ctx.intent = Intent("call", START, START - timedelta(seconds=1), requeued=requeued)
    if calls:
        await run(call(effect=effect), ctx)
    else:
        with pytest.raises(Unknown):
            await run(call(effect=effect), ctx)
    assert ctx.calls == calls


def no_rule(path: str) -> str:
    return ""


def test_a_known_path_is_limited_as_its_api() -> None:
    api = of_path("POST", APPROVAL_CREATE.path, ruled=no_rule, changes=False)
    assert (api.name, api.dialect, api.changes) == ("approval.create", "rest", False)
    assert of_path("DELETE", APPROVAL_CREATE.path, ruled=no_rule, changes=True).name == "call.rest"


@pytest.mark.parametrize(
    ("path", "name", "counted"),
    [
        ("/topapi/attendance/list", "call.oapi", True),
        ("/topapi/user/getbyunionid", "call.oapi", False),
        ("/topapi/role/list", "call.oapi", False),
        ("/user/get", "call.oapi", False),
        ("/v1.0/todo/users/x/tasks", "call.rest", True),
        ("/v1.0/contact/users/me", "call.rest", False),
    ],
)
def test_other_paths_share_a_limit(path: str, name: str, *, counted: bool) -> None:
    api = of_path("POST", path, ruled=no_rule, changes=True)
    assert (api.name, api.counted, api.changes) == (name, counted, True)
    assert of_path("POST", path, ruled=lambda _: "mine", changes=True).name == "mine"


@pytest.mark.parametrize(
    ("path", "breaker"),
    [
        ("/topapi/attendance/list", "/topapi/attendance/list"),
        ("/topapi/v2/department/listsubid", "/topapi/v2/department/listsubid"),
        ("/v1.0/todo/users/iPq7/tasks", "/v1.0/todo/users/*/tasks"),
        ("/v1.0/todo/users/a:b/tasks/t-1", "/v1.0/todo/users/*/tasks/*"),
        ("/topapi/v2/user/get", "contacts.user"),
    ],
)
def test_a_paths_breaker_is_its_own_and_names_no_person(path: str, breaker: str) -> None:
    assert of_path("POST", path, ruled=no_rule, changes=True).breaker == breaker
