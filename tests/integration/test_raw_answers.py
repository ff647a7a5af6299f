"""Answers that no HTTP library would give, over plain sockets: what each means, and what a fleet does."""

import asyncio
import itertools
import json
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest
import uvloop
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_tasks import ApiCall, ApprovalCreate, UserSync, user_sync
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, TOKEN_V1, USER, Api, of_path
from dingrelay_workers.dingtalk.apis import TOKEN as TOKEN_API
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError, Permanent, Transient
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import TOO_LARGE, Transport
from dingrelay_workers.jobs import outcome
from integration.raw_dingtalk import (
    ANOTHERS,
    DATES,
    LOST,
    MANNERS,
    SANE,
    TOKEN,
    RawDingTalk,
    http,
    odd_at_first,
    raw_dingtalk,
)
from support.examples import either
from support.jobs import message
from support.outages import OpenFleet, eventually, has_ended
from support.servers import Authority

BEFORE = of_path("GET", "/before", ruled=lambda _: "", changes=False)
SEEDS = range(either(1, 100))


@pytest.fixture
async def dingtalk() -> AsyncIterator[RawDingTalk]:
    async with raw_dingtalk() as dingtalk:
        yield dingtalk


@pytest.fixture
async def elsewhere(dingtalk: RawDingTalk) -> AsyncIterator[RawDingTalk]:
    """The target of redirects."""
    async with raw_dingtalk() as elsewhere:
        dingtalk.elsewhere = elsewhere.url
        yield elsewhere


@asynccontextmanager
async def connected(dingtalk: RawDingTalk, *, call_timeout: float = 10) -> AsyncIterator[Transport]:
    """A transport with connections of its own."""
    urls = {"DINGTALK_OAPI_URL": dingtalk.url, "DINGTALK_API_URL": dingtalk.url}
    settings = Settings.load(env="sandbox", call_timeout=call_timeout, **urls)
    async with Transport.open_session(settings) as session:
        yield Transport(session, Classifier(), settings)


@pytest.fixture
async def transport(dingtalk: RawDingTalk) -> AsyncIterator[Transport]:
    async with connected(dingtalk) as transport:
        yield transport


def message_to(user: str) -> Request:
    text = {"msgtype": "text", "text": {"content": "你好"}}
    return Request(MESSAGE_SEND, body={"userid_list": user, "msg": text})


@pytest.mark.parametrize("manner", SANE)
async def test_an_answer_that_can_be_read_is(
    dingtalk: RawDingTalk, transport: Transport, redis: Redis, manner: str
) -> None:
    dingtalk.manner = lambda _: manner
    for number in range(1, 5):
        answer = await transport.request(message_to(f"u{number}"), TOKEN)
        assert answer["task_id"] == number, "the answer to another call"
    assert dingtalk.sent.total() == 4


@pytest.mark.parametrize("api", [MESSAGE_SEND, USER])
async def test_an_unsolicited_answer_is_ignored(
    dingtalk: RawDingTalk, transport: Transport, api: Api
) -> None:
    for _ in range(2):
        await transport.request(message_to("u1"), TOKEN)
        dingtalk.writers[-1].write(http(json.dumps(ANOTHERS).encode()))
        async with connected(dingtalk) as later:
            # By its answer the other has come, too.
            await later.request(message_to("u1"), TOKEN)
        answer = await transport.request(Request(api, body=message_to("u2").body), TOKEN)
        assert answer.get("task_id") != ANOTHERS["task_id"]
        assert dingtalk.asked[-1].path == api.path


@pytest.mark.parametrize("manner", LOST)
async def test_an_answer_that_can_not_be_read_tells_nothing(
    dingtalk: RawDingTalk, elsewhere: RawDingTalk, manner: str
) -> None:
    dingtalk.manner = lambda asked: manner if asked.path != "/before" else "as usual"
    silent = "hang" in LOST[manner](b"{}", "")
    async with connected(dingtalk, call_timeout=0.5 if silent else 10) as transport:
        if not silent:
            # On a connection that was used before, too.
            await transport.request(Request(BEFORE))
        if "id" in manner.split():
            assert (await transport.request(message_to("u1"), TOKEN)).get("task_id") != 1
        else:
            large = manner in {"too much", "a bomb"}
            with pytest.raises(Ambiguous, match="larger than 10 MB" if large else None):
                await transport.request(message_to("u1"), TOKEN)
            with pytest.raises(Permanent if large else Transient) as raised:
                await transport.request(Request(USER, body={}), TOKEN)
            assert (raised.value.code == TOO_LARGE) == large
    assert dingtalk.sent.total() == 1
    assert not elsewhere.asked


@pytest.mark.parametrize("manner", ["nothing", "a reset"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("changes", [True, False], ids=["change", "read"])
async def test_no_request_is_sent_again(
    dingtalk: RawDingTalk, transport: Transport, manner: str, method: str, changes: bool
) -> None:
    """aiohttp would do so by itself, without a slot for it."""
    dingtalk.manner = lambda asked: manner if asked.path == "/user/delete" else "as usual"
    api = of_path(method, "/user/delete", ruled=lambda _: "", changes=changes)
    for calls in (1, 2):
        with pytest.raises(Ambiguous if changes else Transient):
            await transport.request(Request(api), TOKEN)
        assert dingtalk.calls("/user/delete") == calls
        await transport.request(Request(BEFORE))


@pytest.mark.parametrize("date", DATES)
async def test_whatever_date_an_answer_tells_it_is_an_answer(
    dingtalk: RawDingTalk, transport: Transport, redis: Redis, date: Any
) -> None:
    dingtalk.date = date
    clock = transport.clock = DingTalkClock(redis)
    assert await transport.request(message_to("u1"), TOKEN)
    assert (await clock.ahead() is not None) == (date is DATES[0])
    assert clock.undated == (date is not DATES[0])


@pytest.mark.parametrize("manner", ["a gateway", "a policy", "an empty body"])
async def test_only_dingtalk_tells_its_time(
    dingtalk: RawDingTalk, transport: Transport, redis: Redis, manner: str
) -> None:
    """A proxy's clock may be an hour ahead, and an approval be looked for after it was made."""
    dingtalk.manner, dingtalk.date = lambda _: manner, lambda: "Thu, 01 Jan 2099 00:00:00 GMT"
    clock = transport.clock = DingTalkClock(redis)
    with pytest.raises(DingTalkError):
        await transport.request(message_to("u1"), TOKEN)
    assert await clock.ahead() is None


def approval(number: int) -> ApprovalCreate:
    form = {"事由": f"出差{number}"}
    return ApprovalCreate.parse({"process_code": "PROC", "originator": "u1", "form": form})


def change(number: int, method: str) -> ApiCall:
    path = f"/v1.0/todo/users/u1/tasks/{number}"
    return ApiCall.parse({"method": method, "path": path, "effect": "once"})


async def test_an_unfollowable_approval_is_done(dingtalk: RawDingTalk, opened: OpenFleet) -> None:
    dingtalk.manner = lambda _: "with an odd id"
    fleet = await opened(DINGTALK_OAPI_URL=dingtalk.url, DINGTALK_API_URL=dingtalk.url)
    (draft,) = await fleet.enqueue(approval(1))
    await fleet.done([draft])
    assert len(dingtalk.approvals) == 1


async def test_an_oversized_token_ends_no_job(dingtalk: RawDingTalk, transport: Transport) -> None:
    dingtalk.manner = lambda _: "too much"
    for api in (TOKEN_API, TOKEN_V1):
        with pytest.raises(Transient) as raised:
            await transport.request(Request(api, body={}))
        assert raised.value.sick == "way"


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_wire_does_nothing_is_done_twice_or_lost(
    dingtalk: RawDingTalk,
    elsewhere: RawDingTalk,
    opened: OpenFleet,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seed: int,
) -> None:
    caplog.set_level(logging.DEBUG, logger="aiohttp")
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    dingtalk.manner = odd_at_first(seed, 40)
    dates = itertools.cycle(DATES)

    def date() -> str:
        return next(dates)()

    dingtalk.date = date
    urls = {"DINGTALK_OAPI_URL": dingtalk.url, "DINGTALK_API_URL": dingtalk.url}
    methods = ["GET", "PUT", "DELETE", "POST"]
    with capture_logs() as lines:
        fleet = await opened(call_timeout=1, settle_delay=0.2, token_circuit=0.5, **urls)
        messages = await fleet.enqueue(
            *(message("u1", f"v{number}", text=f"第{number}条") for number in range(10))
        )
        approvals = await fleet.enqueue(*map(approval, range(6)))
        changes = await fleet.enqueue(*(change(n, method) for n, method in enumerate(methods)))
        for draft in (drafts := [*messages, *approvals, *changes]):
            await eventually(partial(has_ended, fleet, draft))
    found = [await fleet.status(draft) for draft in drafts]
    for number, status in enumerate(found[:10]):
        reached = [dingtalk.sent[f"第{number}条", user] for user in ("u1", f"v{number}")]
        assert status.state in {State.DONE, State.UNKNOWN} or not any(reached), status
        assert status.state != State.DONE or all(reached), status
    made = Counter(each["formComponentValues"][0]["value"] for each in dingtalk.approvals.values())
    for number, status in enumerate(found[10:16]):
        count = made[f"出差{number}"]
        assert count <= 1, status
        assert status.state != State.DEAD or count == 0, status
        if status.state == State.DONE:
            assert status.result
            own = dingtalk.approvals[status.result["instance_id"].strip()]
            assert own["formComponentValues"][0]["value"] == f"出差{number}"
    for number, status in enumerate(found[16:]):
        count = dingtalk.changed[methods[number], f"/v1.0/todo/users/u1/tasks/{number}"]
        assert count <= 1, status
        assert status.state in {State.DONE, State.UNKNOWN} or count == 0, status
    assert not [status for status in found if status.error and status.error.code == "internal"]
    assert not elsewhere.asked
    assert dingtalk.calls("/gettoken") <= 30
    said = [json.dumps(lines, default=str), caplog.text]
    said += [str(await redis.hvals(keys.job(draft.id))) for draft in drafts]
    for secret in (TOKEN, "sandbox-secret"):
        assert secret not in "".join(said)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_walk_ends_whatever_the_tree_and_the_wire_are(
    dingtalk: RawDingTalk, opened: OpenFleet, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    monkeypatch.setattr(user_sync, "LOOK_AGAIN", timedelta(seconds=0.1))
    # An empty list is as good as any, and what is too large is no answer to ask for again.
    manners = MANNERS.keys() - {"an endless id", "too much", "a bomb"}
    odd = odd_at_first(seed, either(4, 10), manners)
    dingtalk.manner = lambda asked: "as usual" if asked.path == "/gettoken" else odd(asked)
    urls = {"DINGTALK_OAPI_URL": dingtalk.url, "DINGTALK_API_URL": dingtalk.url}
    fleet = await opened(call_timeout=1, **urls)
    (draft,) = await fleet.enqueue(UserSync())
    await eventually(partial(has_ended, fleet, draft))
    status = await fleet.status(draft)
    assert status.result, status
    assert (status.result["departments"], status.result["users"]) == (4, 4)
    assert len(dingtalk.asked) < 60


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("size", [100_000, 30_000_000], ids=["in the kernel", "in the process"])
@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_has_not_left_when_it_is_given_up_never_leaves(
    scheme: str,
    loop: Callable[[], asyncio.AbstractEventLoop],
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DingTalk reads nothing until the call was given up; what it gets then had left before."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Far less than the request fits into what DingTalk has not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    given_up = threading.Event()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if scheme == "https":
        authority = Authority(tmp_path / "authority")
        dingtalks = authority.issue("dingtalk")
        context.load_cert_chain(dingtalks.cert, dingtalks.key)
        trusting = ssl.create_default_context(cafile=str(authority.cert))
        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)

    def read_late() -> int:
        connection, _ = listener.accept()
        if scheme == "https":
            connection = context.wrap_socket(connection, server_side=True)
        assert given_up.wait(10)
        connection.settimeout(10)
        arrived = 0
        with connection, suppress(ConnectionResetError, ssl.SSLEOFError):
            while part := connection.recv(2**20):
                arrived += len(part)
        return arrived

    async def part_that_arrives() -> int:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        reader = asyncio.create_task(asyncio.to_thread(read_late))
        async with connected(RawDingTalk(url=url), call_timeout=0.5) as transport:
            with pytest.raises(Ambiguous, match="did not arrive"):
                await transport.request(Request(MESSAGE_SEND, body={"msg": "x" * size}), TOKEN)
        given_up.set()
        return await reader

    with listener, asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(part_that_arrives()) < 50_000
