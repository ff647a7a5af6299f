"""A key's permissions at DingTalk are the same at every door, as the guide says."""

import json
from collections.abc import Iterator, Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_tasks.api_call import ApiCall
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.gateway.drop_in import job_call
from dingrelay_workers.http.api_keys import SCOPES, Grant
from dingrelay_workers.http.dingtalk_permissions import TABLE, permission_of
from support.drop_in import asking, token_of
from support.gateways import GatewayClient, MemoryBackend, gateway_thread

MINE, OTHERS = "i-mine", "i-others"
CONVERSATION = "/topapi/message/corpconversation"
SEND = f"{CONVERSATION}/asyncsend_v2"


class Api(NamedTuple):
    """One of DingTalk's APIs, and what the guide says that it takes.

    Attributes:
        about: what it shows or changes beside the app's own.
        own: whether the door leads to the caller's own only.
    """

    call: str
    scopes: str
    about: str = ""
    fields: Mapping[str, Any] = {}
    own: bool = False

    def permits(self, scopes: frozenset[str], sender: str, apps: frozenset[str]) -> bool:
        return self.covered(scopes) and self.seen(sender, apps)

    def covered(self, scopes: frozenset[str]) -> bool:
        return scopes >= {*self.scopes.split()} or "*" in scopes

    def seen(self, sender: str, apps: frozenset[str]) -> bool:
        robots = bool(apps & {"robots", "*"})
        return {
            "": True,
            "my approval": True,
            "others' approval": sender == "*",
            "all senders": sender == "*",
            "robots": robots,
            "robots of all": robots and sender == "*",
        }[self.about]


def about(call: str, scopes: str, name: str, wrapped: str = "") -> Iterator[Api]:
    """An API that names an approval: once the caller's, then another's, both, and none."""
    for text, whose in (
        ([MINE], "my approval"),
        ([OTHERS], "others' approval"),
        ([MINE, OTHERS], "others' approval"),
        ([], "others' approval"),
    ):
        fields: dict[str, Any] = {name: text[0] if len(text) == 1 else text} if text else {}
        yield Api(call, scopes, whose, {wrapped: fields} if wrapped else fields)


APIS = (
    Api(f"POST {SEND}", "messages:write", own=True),
    *(
        Api(f"POST {CONVERSATION}/{name}", "messages:write", "all senders", own=True)
        for name in ("getsendprogress", "getsendresult", "recall", "status_bar/update")
    ),
    Api("POST /message/send_to_conversation", "messages:write", "all senders"),
    Api("POST /topapi/message/mass/send", "messages:write", "all senders"),
    Api("POST /topapi/processinstance/create", "approvals:write", own=True),
    Api("POST /v1.0/workflow/processInstances", "approvals:write", own=True),
    Api("GET /v1.0/workflow/forms/schemas/processCodes", "approvals:read"),
    Api("GET /v1.0/workflow/processes/userVisibilities/templates", "approvals:read"),
    Api("POST /v1.0/workflow/processes/forecast", "approvals:read"),
    Api("POST /topapi/process/listbyuserid", "approvals:read"),
    Api("POST /topapi/processinstance/listids", "approvals:read", "all senders"),
    Api("POST /v1.0/workflow/processes/instanceIds/query", "approvals:read", "all senders"),
    *about("GET /v1.0/workflow/processInstances", "approvals:read", "processInstanceId"),
    *about("POST /topapi/processinstance/get", "approvals:read", "process_instance_id"),
    *about("POST /topapi/processinstance/file/url/get", "approvals:read", "process_instance_id", "request"),
    *about("POST /v1.0/workflow/processInstances/spaces/files/urls/download", "approvals:read", "processInstanceId"),
    *about("POST /v1.0/workflow/processInstances/execute", "approvals:write", "processInstanceId"),
    *about("POST /v1.0/workflow/processInstances/comments", "approvals:write", "processInstanceId"),
    *about("POST /v1.0/workflow/processInstances/terminate", "approvals:write", "processInstanceId"),
    *about("POST /topapi/process/instance/execute", "approvals:write", "process_instance_id", "request"),
    *about("POST /topapi/process/instance/comment/add", "approvals:write", "process_instance_id", "request"),
    *about("POST /topapi/process/instance/terminate", "approvals:write", "process_instance_id", "request"),
    Api("POST /v1.0/workflow/tasks/redirect", "approvals:write", "all senders", {"taskId": 7}),
    # What names no approval to DingTalk becomes the caller's by no field beside.
    Api("POST /v1.0/workflow/tasks/redirect", "approvals:write", "all senders", {"taskId": 7, "processInstanceId": MINE}),
    Api("POST /topapi/process/delete", "approvals:write", "all senders", {"process_code": "PROC-1", "process_instance_id": MINE}),
    Api("GET /topapi/process/instance/terminate", "approvals:write", "all senders", {"process_instance_id": MINE}),
    Api("POST /topapi/process/gettodonum", "approvals:read", "all senders", {"userid": "u1", "process_instance_id": MINE}),
    *(
        Api(call, "directory:read")
        for call in (
            "GET /user/get",
            "GET /user/listbypage",
            "GET /department/list",
            "GET /auth/scopes",
            "POST /topapi/v2/user/get",
            "POST /topapi/v2/user/getbymobile",
            "POST /topapi/v2/department/listsub",
            "POST /topapi/user/listid",
            "POST /topapi/role/simplelist",
            "POST /topapi/smartwork/hrm/employee/list",
            "GET /v1.0/contact/users/u1",
            "POST /v1.0/contact/users/search",
        )
    ),
    *(
        Api(call, "directory:read calls:write")
        for call in (
            "POST /topapi/v2/user/create",
            "POST /topapi/v2/user/update",
            "POST /topapi/v2/user/%67et",
            "POST /TOPAPI/v2/user/GET",
            "POST /topapi/v2/department/delete",
            "GET /user/delete",
            "GET /department/delete",
            "GET /topapi/v2/user/delete",
            "PUT /v1.0/contact/users/u1",
        )
    ),
    Api("POST /v1.0/robot/oToMessages/batchSend", "robots:write", "robots"),
    Api("POST /v1.0/robot/groupMessages/send", "robots:write", "robots"),
    Api("POST /v1.0/robot/otoMessages/batchRecall", "robots:write", "robots of all"),
    Api("POST /v1.0/robot/groupMessages/query", "robots:write", "robots of all"),
    Api("GET /v1.0/robot/oToMessages/readStatus", "robots:write", "robots of all"),
    Api("POST /call_back/register_call_back", "*"),
    Api("GET /call_back/get_call_back_failed_result", "*"),
    Api("POST /topapi/attendance/list", "calls:write"),
    Api("POST /v1.0/todo/users/u1/tasks", "calls:write"),
    Api("GET /v1.0/calendar/users/u1/calendars", "calls:write"),
    Api("POST /chat/create", "calls:write"),
)  # fmt: skip

EVERY = frozenset(SCOPES)
GRANTS = [
    *((frozenset({scope}), "team", frozenset({"*"})) for scope in SCOPES),
    (frozenset({"directory:read", "calls:write"}), "team", frozenset({"*"})),
    *product((EVERY, frozenset({"*"})), ("team", "*"), (frozenset({"*"}), frozenset({"default"}))),
    (EVERY, "*", frozenset({"default", "robots"})),
    (EVERY, "*", frozenset({"default", "group:oncall"})),
]


class Approvals:
    """Two approvals that are followed."""

    async def get(self, app: str, instance: str) -> object:
        sender = {MINE: "team", OTHERS: "others"}.get(instance)
        return sender and SimpleNamespace(sender=sender)


@pytest.fixture
def backend() -> MemoryBackend:
    kept = MemoryBackend()
    kept.by_class[ApprovalService] = Approvals()
    return kept


@pytest.fixture
def gateway(
    settings: Settings, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GatewayClient]:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.01)  # no worker runs
    with gateway_thread(settings, backend) as client:
        yield client


def job_of(api: Api) -> dict[str, Any]:
    method, path = api.call.split(" ")
    fields = dict(api.fields)
    if method != "GET":
        return {"method": method, "path": path, "body": fields}
    texts = {
        name: ",".join(text) if isinstance(text, list) else text for name, text in fields.items()
    }
    return {"method": method, "path": path, "query": texts}


def at_the_door(gateway: GatewayClient, key: str, token: str, api: Api) -> bool:
    job = job_of(api)
    status, answer = asking(gateway.url)(
        job["method"], job["path"], token=token, query=job.get("query"), body=job.get("body")
    )
    assert status < 500 or answer.get("code") == "serviceBusy", (api, answer)
    return "60011" not in str(answer.get("sub_code")) and status != 403


def by_a_call(gateway: GatewayClient, key: str, token: str, api: Api) -> bool:
    reply = gateway.ask("POST", "/v1/calls", job_of(api), key=key)
    assert reply.status in {202, 403}, (api, reply.content)
    return reply.status == 202


def by_a_line(gateway: GatewayClient, key: str, token: str, api: Api) -> bool:
    line = json.dumps({"kind": "api-call", **job_of(api)}).encode()
    reply = gateway.ask("POST", "/v1/jobs", line, key=key, Content_Type="application/x-ndjson")
    assert reply.status == 200, (api, reply.content)
    error = reply.json.get("error")
    assert error is None or error["status"] == 403, (api, error)
    return error is None


def test_a_key_permits_what_the_guide_says() -> None:
    """Questions of the doors: each API × key."""
    of_jobs = [api for api in APIS if not api.call.endswith(SEND)]
    for (scopes, sender, apps), api in product(GRANTS, of_jobs):
        key = Grant(name="k", scopes=scopes, sender=sender, apps=apps)
        job = ApiCall.parse(job_of(api))
        permitted = key.job_refusal(job, key.default_sender) is None
        permitted = permitted and {*key.approvals_of(job)} <= {MINE}
        assert permitted == api.permits(scopes, sender, apps), (api, key)


@pytest.mark.parametrize("door", [at_the_door, by_a_call, by_a_line])
def test_each_door_asks_what_a_key_permits(
    gateway: GatewayClient, backend: MemoryBackend, door: Any
) -> None:
    """Each API, with one key for each reason to permit or refuse it."""
    keys: dict[Any, tuple[str, str]] = {}
    for number, (scopes, sender, apps) in enumerate(GRANTS):
        key = backend.keys.add(f"k{number}", *scopes, sender=sender, apps=apps)
        keys[scopes, sender, apps] = key, token_of(asking(gateway.url), *key.split("."))
    wrong: list[tuple[str, ...]] = []
    permitted = 0
    for named in APIS:
        api = named
        if named.own and door is at_the_door:
            api = named._replace(about="")
        elif named.call.endswith(SEND):
            continue  # refused to all: that is a job of kind message-send
        reasons = {
            (api.covered(scopes), api.seen(*rest)): (scopes, *rest) for scopes, *rest in keys
        }
        for scopes, sender, apps in reasons.values():
            expected = api.permits(scopes, sender, apps)
            permitted += expected
            if door(gateway, *keys[scopes, sender, apps], api) != expected:
                wrong.append((api.call, str(api.fields), *sorted(scopes), sender, *apps))
    assert wrong == []
    assert permitted >= len(APIS) - 1


def test_every_row_of_the_table_is_tried() -> None:
    rows = {id(permission_of(*api.call.split(" "))) for api in APIS}
    for row in TABLE:
        assert rows & {id(row.reading), id(row.changing)}, row.calls


def test_an_approval_is_found_wherever_dingtalk_may_read_it(
    gateway: GatewayClient, backend: MemoryBackend
) -> None:
    key = backend.keys.add("team", "approvals:read")
    path = "/topapi/processinstance/get"
    for query, body, status in (
        ({}, {"process_instance_id": MINE}, 202),
        ({"process_instance_id": MINE}, {"process_instance_id": MINE}, 202),
        ({"process_instance_id": OTHERS}, {"process_instance_id": MINE}, 403),
        ({}, {"processInstanceId": OTHERS, "process_instance_id": MINE}, 403),
        ({}, {"request": json.dumps({"process_instance_id": OTHERS})}, 403),
        ({}, {"request": json.dumps({"process_instance_id": MINE})}, 202),
        (
            {},
            {"request": f'{{"process_instance_id":"{OTHERS}","process_instance_id":"{MINE}"}}'},
            403,
        ),
        ({}, {"request": f"{{process_instance_id:'{OTHERS}'}}", "process_instance_id": MINE}, 403),
        ({}, {"text": "[赞]", "process_instance_id": MINE}, 202),
        ({}, [{"process_instance_id": MINE}], 202),
        ({}, {"process_instance_id": [MINE, {"x": OTHERS}]}, 403),
        ({}, {"process_instance_id": f"{MINE},{OTHERS}"}, 403),
        ({}, {"process_instance_id": None}, 403),
        ({}, None, 403),
    ):
        job = {"method": "POST", "path": path, "query": query, "body": body}
        reply = gateway.ask("POST", "/v1/calls", job, key=key)
        assert reply.status == status, (query, body, reply.content)
