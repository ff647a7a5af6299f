"""An application that takes DingTalk's HTTP pushes, and answers as a test wants it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dingrelay_sandbox.events.callbacks import CallbackCrypto, new_nonce, signature
from serving import all_to, in_thread, serving

TOKEN = "123456"
AES_KEY = "1234567890123456789012345678901234567890123"
OWNER = "sandbox-key"

Answer = tuple[int, bytes] | None
"""Status and body; None: silence until the other side gives up."""
Reply = Callable[["Receiver", dict[str, Any]], Answer]


@dataclass
class Receiver:
    """A receiver of pushes, with configurable answers.

    Attributes:
        url: where it listens.
        events: the contents of all pushes, in the order in which they came; ``check_url`` aside.
        checks: how often it was asked whether it is there.
        reply: makes the answer to a push that is no check.
    """

    url: str = ""
    reply: Reply = field(default=lambda receiver, _: receiver.success())
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    checks: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._crypto = CallbackCrypto(AES_KEY, OWNER)

    def success(self, text: str = "success") -> Answer:
        """The answer that DingTalk wants, or another text as well encrypted."""
        encrypt, nonce = self._crypto.encrypt(text), new_nonce()
        answer = {
            "msg_signature": signature(TOKEN, "1795630757", nonce, encrypt),
            "timeStamp": "1795630757",
            "nonce": nonce,
            "encrypt": encrypt,
        }
        return 200, json.dumps(answer).encode()

    def take(self, query: Mapping[str, str], body: bytes) -> Answer:
        """Read a push and answer it; what is wrong with it is noted."""
        encrypt = json.loads(body)["encrypt"]
        given = query.get("signature") or query.get("msg_signature")
        timestamp = query.get("timestamp") or query["timeStamp"]
        if given != signature(TOKEN, timestamp, query["nonce"], encrypt):
            self.wrong.append("signature")
        content = json.loads(self._crypto.decrypt(encrypt))
        if content == {"EventType": "check_url"}:
            self.checks += 1
            return self.success()
        self.events.append(content)
        return self.reply(self, content)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type."""
        return [event for event in self.events if event["EventType"] == kind]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens on this machine, in a thread of its own."""
    with in_thread(_served()) as (receiver, _):
        yield receiver


@asynccontextmanager
async def _served() -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def handle(request: web.Request) -> web.Response:
        answer = receiver.take(request.query, await request.read())
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return web.Response(status=answer[0], body=answer[1])

    async with serving(all_to(handle)) as url:
        receiver.url = f"{url}/callback?of=test"
        yield receiver
