"""Answers as they come over a socket: in pieces, too large, or leading elsewhere."""

from collections.abc import AsyncIterator

import pytest

from answering import Answering, answering
from dingrelay_producers.settings import Settings
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, USER, Api
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError, Permanent
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import LARGEST_ANSWER, TOO_LARGE, Transport


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    async with answering() as server:
        yield server


@pytest.fixture
async def transport(server: Answering) -> AsyncIterator[Transport]:
    settings = Settings(env="sandbox", DINGTALK_OAPI_URL=server.url, DINGTALK_API_URL=server.url)
    async with Transport.open_session(settings) as session:
        yield Transport(session, Classifier(), settings)


async def test_an_answer_of_many_pieces_is_whole(server: Answering, transport: Transport) -> None:
    text = b"x" * 100_000
    server.pieces = [b'{"errcode": 0, "result": "', *[text] * 20, b'"}']
    answer = await transport.request(Request(USER, body={"userid": "u1"}))
    assert len(answer["result"]) == 20 * len(text)


@pytest.mark.parametrize(("api", "meaning"), [(USER, Permanent), (MESSAGE_SEND, Ambiguous)])
async def test_an_answer_that_is_too_large(
    server: Answering, transport: Transport, api: Api, meaning: type[DingTalkError]
) -> None:
    piece = b" " * 2**20
    server.pieces = [*[piece] * (LARGEST_ANSWER // len(piece)), b"{}"]
    with pytest.raises(meaning, match="larger than 10 MB") as raised:
        await transport.request(Request(api, body={}))
    assert raised.value.code == TOO_LARGE


async def test_a_redirect_is_not_followed(server: Answering, transport: Transport) -> None:
    server.status, server.headers = 302, {"Location": f"{server.url}/elsewhere"}
    server.pieces = [b"<html>moved</html>"]
    with pytest.raises(DingTalkError, match="HTTP 302"):
        await transport.request(Request(USER, body={}), "token")
    assert len(server.requests) == 1
