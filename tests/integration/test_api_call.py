"""api-call jobs: one worker, a real Valkey, and the sandbox or a server that answers anything."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers import AsyncClient, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApiCall
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.wakeup import ReceivedWakeup
from support.jobs import a_draft, a_wakeup
from support.serving import all_to, serving
from support.workers import OneWorker, OpenWorker


@dataclass
class Answering:
    """A server that gives one answer to everything, and records the requests.

    Attributes:
        asked: method and target of each request, as they were on the wire.
    """

    url: str = ""
    status: int = 200
    pieces: Sequence[bytes] = (b'{"errcode": 0}',)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        self.tokens.append(request.headers.get("x-acs-dingtalk-access-token", ""))
        self.bodies.append(await request.read())
        if request.path == "/gettoken":
            return web.json_response({"errcode": 0, "access_token": "ours", "expires_in": 7200})
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            # The client has what was written before the next piece comes.
            await asyncio.sleep(0)
        return response


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    """The server, on a port of its own."""
    server = Answering()
    async with serving(all_to(server.answer)) as server.url:
        yield server


BY_MOBILE = "/topapi/v2/user/getbymobile"
PERSON = "/topapi/v2/user/get"
TODO = "/v1.0/todo/users/iPq/tasks"


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    async with answering() as server:
        yield server


@pytest.fixture
async def elsewhere(server: Answering, open_worker: OpenWorker) -> AsyncIterator[OneWorker]:
    """A worker whose DingTalk is the server that answers anything."""
    urls = {"DINGTALK_OAPI_URL": server.url, "DINGTALK_API_URL": server.url}
    async with open_worker(**urls) as worker:
        yield worker


def call(method: str = "POST", path: str = BY_MOBILE, **fields: Any) -> ApiCall:
    return ApiCall.parse({"method": method, "path": path, **fields})


async def test_any_api_is_called_with_our_token(worker: OneWorker) -> None:
    async def answer(job: ApiCall) -> Any:
        sent = await worker.send(job)
        assert await worker.run(sent) == State.DONE
        return (await worker.status(sent)).result["answer"]

    user = (await answer(call(path=PERSON, body={"userid": "u7"})))["result"]
    stolen = {"query": {"access_token": "stolen"}, "effect": "none"}
    found = await answer(call(body={"mobile": user["mobile"]}, **stolen))
    assert (found["result"]["userid"], found["errcode"]) == ("u7", 0)


async def test_a_message_of_another_kind_does_not_change_the_job(worker: OneWorker) -> None:
    """A client without our package has called two tasks by its order's number."""
    person = await worker.send(call(path=PERSON, body={"userid": "u7"}))
    other = replace(a_wakeup(a_draft(text="order 17")), id=person, woken=0)
    await worker.executor.execute(other)
    assert (await worker.status(person)).state == State.DONE


async def test_a_refusal_is_classified_and_kept_in_dingtalks_own_words(worker: OneWorker) -> None:
    async def refused(job: ApiCall) -> Any:
        sent = await worker.send(job)
        assert await worker.run(sent) == State.DEAD
        return (await worker.status(sent)).error

    error = await refused(call(path=PERSON, body={"userid": "stranger"}))
    assert (error.error_class, error.answer.status) == ("not_found", 200)
    assert str(error.answer.body["errcode"]) == error.code
    error = await refused(call("GET", "/v1.0/no/such/api"))
    assert (error.answer.status, error.answer.body["code"]) == (404, "InvalidAction.NotFound")


async def test_throttles_and_old_tokens_are_free(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("throttle", api=BY_MOBILE, code="90018", count=1)
    job = await worker.send(call(body={"mobile": "1"}))
    assert await worker.run(job) == State.SNOOZED
    sandbox.expire_tokens()
    assert await worker.finish(job) == State.DEAD
    status = await worker.status(job)
    assert (status.throttles, status.attempts, status.error.error_class) == (1, 1, "not_found")


async def test_a_token_that_is_refused_counts_no_call_of_the_month(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
    sandbox.add_fault("token_expired", api="/v1.0/todo/things", count=2)
    job = await worker.send(call("GET", "/v1.0/todo/things"))
    assert await worker.finish(job) == State.DEAD
    assert (await worker.status(job)).error.answer.status == 400
    months = await worker.executor.resources.quota.months()
    assert not any(month.used for month in months)


@pytest.mark.parametrize(
    ("effect", "end", "calls"),
    [("once", State.UNKNOWN, 1), ("repeatable", State.DONE, 2), ("none", State.DONE, 2)],
)
async def test_a_lost_answer(
    worker: OneWorker, sandbox: SandboxAdmin, effect: str, end: State, calls: int
) -> None:
    sandbox.add_fault("reset_after", api=PERSON, count=1)
    job = await worker.send(call(path=PERSON, body={"userid": "u7"}, effect=effect))
    assert await worker.run(job) == State.RETRYING
    assert await worker.finish(job) == end
    assert sum(sandbox.audit()["calls"][PERSON].values()) == calls


async def test_a_person_settles_a_lost_answer(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("reset_after", api=BY_MOBILE, count=2)
    jobs = [await worker.send(call(body={"mobile": "1"}, effect="once")) for _ in range(2)]
    assert [await worker.finish(job) for job in jobs] == [State.UNKNOWN] * 2
    happened, did_not = jobs
    assert await asyncio.to_thread(worker.client.resolve, happened, sent=True)
    assert (await worker.status(happened)).state == State.DONE
    assert await asyncio.to_thread(worker.client.resolve, did_not, sent=False)
    assert await worker.finish(did_not) == State.DEAD
    assert sum(sandbox.audit()["calls"][BY_MOBILE].values()) == 3


async def test_the_call_leaves_as_requested(elsewhere: OneWorker, server: Answering) -> None:
    job = await elsewhere.send(
        call("PUT", "/v1.0/im/cid%2Ba%40b/x", query={"a": "b c&d=é\r\n"}, body=[{"n": 1.5}])
    )
    assert await elsewhere.run(job) == State.DONE
    method, target = server.requests[-1]
    assert method == "PUT"
    assert target.split("?")[0] in {"/v1.0/im/cid%2Ba%40b/x", "/v1.0/im/cid%2Ba@b/x"}
    assert "\r" not in target
    assert json.loads(server.bodies[-1]) == [{"n": 1.5}]
    assert server.tokens[-1] == "ours"

    job = await elsewhere.send(call("GET", "/department/list", query={"id": 1}))
    assert await elsewhere.run(job) == State.DONE
    assert server.requests[-1][1] == "/department/list?id=1&access_token=ours"
    assert (server.tokens[-1], server.bodies[-1]) == ("", b"")


async def test_a_large_answer_is_kept_whole_and_for_an_hour(
    elsewhere: OneWorker, server: Answering, redis: Redis
) -> None:
    text = "x" * 1_000_000
    server.pieces = [b'{"errcode": 0, "result": ["', *[text.encode()] * 9, b'"]}']
    job = await elsewhere.send(call("GET", "/topapi/report"))
    assert await elsewhere.run(job) == State.DONE
    result = (await elsewhere.status(job)).result
    assert len(result["answer"]["result"][0]) == 9_000_000
    assert 0 < await redis.pttl(keys.job(job)) <= 3_600_000

    server.pieces = [text.encode()] * 11
    for effect, end in (("none", State.DEAD), ("once", State.UNKNOWN)):
        job = await elsewhere.send(call("GET", "/topapi/report", effect=effect))
        assert await elsewhere.finish(job) == end
        error = (await elsewhere.status(job)).error
        assert error is not None
        assert effect == "once" or error.code == "answer_too_large"


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, b"<html>"), (200, b"nothing"), (302, b""), (200, b'{"errcode": 0')],
)
async def test_an_answer_that_is_no_json_object(
    elsewhere: OneWorker, server: Answering, status: int, content: bytes
) -> None:
    server.status, server.pieces = status, [content]
    server.headers = {"Location": "http://169.254.169.254/latest"}
    job = await elsewhere.send(call("GET", "/topapi/report"))
    assert await elsewhere.run(job) == State.RETRYING
    error = (await elsewhere.status(job)).error
    assert error.code == ("redirected" if status == 302 else "unreadable")
    assert error.message == f"HTTP {status} without a readable answer"
    asked = [target.split("?")[0] for _, target in server.requests]
    assert asked == ["/gettoken", "/topapi/report"]


@pytest.mark.parametrize("content", [b"[1]", b"\x89PNG\r\n\x1a\n\x00\x00"])
async def test_a_file_or_a_list_is_refused_at_once(
    elsewhere: OneWorker, server: Answering, content: bytes
) -> None:
    server.pieces = [content]
    job = await elsewhere.send(call("GET", "/media/downloadFile", query={"media_id": "@1"}))
    assert await elsewhere.run(job) == State.DEAD
    error = (await elsewhere.status(job)).error
    assert (error.error_class, error.code) == ("permanent", "not_json")
    assert "fetch files from DingTalk itself" in error.hint


async def test_an_empty_answer_is_a_success(elsewhere: OneWorker, server: Answering) -> None:
    server.status, server.pieces = 204, []
    job = await elsewhere.send(call("DELETE", TODO, effect="repeatable"))
    assert await elsewhere.run(job) == State.DONE
    assert (await elsewhere.status(job)).result == {"answer": {}}


async def test_a_token_of_the_callers_is_in_no_record(worker: OneWorker, redis: Redis) -> None:
    stolen = {"query": {"access_token": "stolen-token"}, "body": {"mobile": "1"}}
    fields = {"method": "POST", "path": BY_MOBILE, **stolen}
    sent = await worker.send(ApiCall.parse(fields))
    queue = {"delivery_info": {"routing_key": "dingrelay.normal"}}
    request = {"id": "from-elsewhere", "args": [], "kwargs": {"job": fields}, **queue}
    bare = ReceivedWakeup.from_request(KINDS["api-call"], request)
    assert await worker.executor.execute(bare)
    assert (await worker.status("from-elsewhere")).state == State.DEAD
    for job in (sent, "from-elsewhere"):
        record = await redis.hgetall(keys.job(job))
        assert record
        assert b"stolen-token" not in b"".join([*record, *record.values()])


async def test_the_same_call_from_asyncio(worker: OneWorker) -> None:
    async with AsyncClient(worker.client.settings) as client:
        asked: dict[str, Any] = {"body": {"mobile": "1"}, "idempotency_key": "k"}
        first = await client.call("POST", BY_MOBILE, **asked)
        again = await client.call("POST", BY_MOBILE, query={"access_token": "x"}, **asked)
    assert first == again
    assert worker.client.call("GET", "/auth/scopes") != first


ODD_ANSWERS: dict[str, tuple[bytes, dict[str, str]]] = {
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
    "nested": (b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", {}),
    "not a number": (b'{"errcode": 0, "a": NaN}', {}),
    "infinite": (b'{"errcode": 0, "a": 1e999}', {}),
    "a huge number": (b'{"errcode": 0, "a": 1%s}' % (b"0" * 6_000), {}),
    "half a character": (b'{"errcode": 0, "a": "\\ud800"}', {}),
    "half a name": (b'{"errcode": 0, "\\udfff": 1}', {}),
    "twice": (b'{"errcode": 0, "a": 1, "a": 2}', {}),
    "nul": (b'{"errcode": 0, "a": "\\u0000"}', {}),
    "a mark in front": (b'\xef\xbb\xbf{"errcode": 0}', {}),
    "no UTF-8": (b'{"errcode": 0, "a": "\xff\xfe"}', {}),
    "GBK": ('{"errcode": 0, "a": "你好"}'.encode("gbk"), {}),
    "UTF-16": ('{"errcode": 0}'.encode("utf-16"), {}),
    "a bomb": (gzip.compress(b'{"a": "' + b" " * 50_000_000, 1), {"Content-Encoding": "gzip"}),
    "no gzip": (b'{"errcode": 0}', {"Content-Encoding": "gzip"}),
    "cut gzip": (gzip.compress(b'{"errcode": 0}')[:-9], {"Content-Encoding": "gzip"}),
    "a code of floats": (b'{"errcode": 1e400}', {}),
    "a code of lists": (b'{"errcode": [0]}', {}),
    "a code of text": (b'{"errcode": "0"}', {}),
    "a refusal in halves": (b'{"errcode": 7, "errmsg": "\\udc00"}', {}),
    "a refusal that is infinite": (b'{"errcode": 7, "errmsg": "x", "a": -Infinity}', {}),
    "a refusal, deep": (b'{"errcode": 7, "a": ' + b"[" * 900 + b"]" * 900 + b"}", {}),
    "a huge code": (b'{"errcode": 1%s}' % (b"0" * 6_000), {}),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
async def test_any_answer_is_readable(elsewhere: OneWorker, server: Answering, name: str) -> None:
    content, server.headers = ODD_ANSWERS[name]
    server.pieces = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    job = await elsewhere.send(call("GET", "/topapi/report"))
    end = await elsewhere.run(job)
    status = await elsewhere.status(job)
    assert end in {State.DONE, State.DEAD, State.RETRYING}
    assert json.loads(status.model_dump_json())
