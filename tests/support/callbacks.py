"""DingTalk's side of a callback, pushes that are forged, by the sandbox's own cipher, and an application that takes pushes."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dingrelay_sandbox.events.callbacks import CallbackCrypto, new_nonce, signature
from support.serving import all_to, in_thread, serving

TOKEN = "T0ken4callbacks"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
APP_KEY = "sandbox-key"
VARIABLES = {"DINGTALK_CALLBACK_TOKEN": TOKEN, "DINGTALK_CALLBACK_AES_KEY": AES_KEY}
"""Variables of processes that take callbacks."""


@dataclass(frozen=True)
class Pushed:
    """A request: query and body."""

    query: str
    body: bytes


@dataclass
class DingTalk:
    """Signs and encrypts as DingTalk does."""

    token: str = TOKEN
    aes_key: str = AES_KEY
    owner: str = APP_KEY
    names: tuple[str, str] = ("signature", "timestamp")
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def content(self, event_type: str = "chat_update_title", **fields: Any) -> dict[str, Any]:
        return {
            "EventType": event_type,
            "EventTime": int(time.time() * 1000),
            "CorpId": "dingcorp",
            "eventId": f"e{next(self.ids)}",
            **fields,
        }

    def push(self, content: object | None = None, *, at: float | None = None) -> Pushed:
        event = self.content() if content is None else content
        text = event if isinstance(event, str) else json.dumps(event)
        return self.sealed(CallbackCrypto(self.aes_key, self.owner).encrypt(text), at=at)

    def sealed(self, encrypt: str, *, at: float | None = None, **query: str) -> Pushed:
        """A push of a text that is encrypted already, with the right signature."""
        timestamp, nonce = str(int((time.time() if at is None else at) * 1000)), new_nonce()
        sign = signature(self.token, timestamp, nonce, encrypt)
        parameters = {self.names[0]: sign, self.names[1]: timestamp, "nonce": nonce, **query}
        return Pushed(urlencode(parameters), json.dumps({"encrypt": encrypt}).encode())

    def opened(self, answer: Any) -> str:
        """The content of an answer with a valid signature."""
        signed = [answer[name] for name in ("timeStamp", "nonce", "encrypt")]
        assert answer["msg_signature"] == signature(self.token, *signed)
        return CallbackCrypto(self.aes_key, self.owner).decrypt(answer["encrypt"])


def _sealed_raw(plain: bytes) -> str:
    """Bytes as they are, encrypted; their length is a multiple of 16."""
    key = base64.b64decode(AES_KEY + "=")
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain) + encryptor.finalize()).decode()


def _plain(content: bytes, owner: str = APP_KEY, length: int | None = None) -> bytes:
    stated = len(content) if length is None else length
    return b"r" * 16 + stated.to_bytes(4, "big") + content + owner.encode()


def _padded(plain: bytes, block: int = 32) -> bytes:
    missing = block - len(plain) % block
    return plain + bytes([missing]) * missing


class Stranger:
    """Makes pushes that must be refused. Each method is one thing that is wrong."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.dingtalk = DingTalk()

    def _text(self) -> bytes:
        fields = {"n": self.rng.random(), "x": "汉" * self.rng.randint(0, 60)}
        return json.dumps(self.dingtalk.content(**fields), ensure_ascii=False).encode()

    def truncated(self) -> Pushed:
        good = self.dingtalk.push()
        return Pushed(good.query, good.body[: self.rng.randrange(len(good.body))])

    def flipped(self) -> Pushed:
        good = self.dingtalk.push()
        encrypt = bytearray(base64.b64decode(json.loads(good.body)["encrypt"]))
        encrypt[self.rng.randrange(len(encrypt))] ^= 1 << self.rng.randrange(8)
        body = {"encrypt": base64.b64encode(encrypt).decode()}
        return Pushed(good.query, json.dumps(body).encode())

    def padding(self) -> Pushed:
        plain = _plain(self._text())
        plain += b"x" * (31 - len(plain) % 32)
        return self.dingtalk.sealed(_sealed_raw(plain + bytes([self.rng.choice((0, 33, 200))])))

    def uneven_padding(self) -> Pushed:
        content = self._text()
        content += b" " * ((30 - len(_plain(content))) % 32)  # of two bytes
        padded = bytearray(_padded(_plain(content)))
        padded[-2] ^= 1
        return self.dingtalk.sealed(_sealed_raw(bytes(padded)))

    def length(self) -> Pushed:
        content = self._text()
        size = len(content)
        stated = self.rng.choice((0, size - 1, size + 1, size + 500, 2**32 - 1))
        return self.dingtalk.sealed(_sealed_raw(_padded(_plain(content, length=stated))))

    def owner(self) -> Pushed:
        others = ("", "other-key", APP_KEY[:-1], APP_KEY + "x", APP_KEY.upper())
        plain = _plain(self._text(), owner=self.rng.choice(others))
        return self.dingtalk.sealed(_sealed_raw(_padded(plain)))

    def old(self) -> Pushed:
        away = self.rng.choice((-1, 1)) * self.rng.uniform(3_700, 10**8)
        return self.dingtalk.push(at=time.time() + away)

    def short(self) -> Pushed:
        noise = self.rng.randbytes(16 * self.rng.randint(1, 3))
        return self.dingtalk.sealed(_sealed_raw(noise))

    def other_token(self) -> Pushed:
        return DingTalk(token=f"other{self.rng.randrange(10**6)}").push()

    def other_key(self) -> Pushed:
        return DingTalk(aes_key="".join(self.rng.sample(AES_KEY, 43))).push()

    def wrong_signature(self) -> Pushed:
        good = self.dingtalk.push()
        count = self.rng.choice((0, 39, 40, 41))
        wrong = urlencode({"signature": "".join(self.rng.choices("0123456789abcdefé", k=count))})
        return Pushed("&".join([wrong, *good.query.split("&")[1:]]), good.body)

    def query(self) -> Pushed:
        good = self.dingtalk.push()
        parts = good.query.split("&")
        part = self.rng.choice(parts)
        if self.rng.random() < 0.5:
            parts.remove(part)
        else:
            parts.append(part)
        return Pushed("&".join(parts), good.body)

    def huge(self) -> Pushed:
        encrypt = "A" * self.rng.randint(400_000, 900_000)
        return Pushed(self.dingtalk.push().query, json.dumps({"encrypt": encrypt}).encode())

    def no_object(self) -> Pushed:
        bodies = (b"", b"[]", b"null", b'{"encrypt": 1}', b"{}", b"\xff\xfe", b'{"encrypt": {}}')
        return Pushed(self.dingtalk.push().query, self.rng.choice(bodies))

    def deep(self) -> Pushed:
        body = b'{"encrypt": ' + b"[" * 100 + b"]" * 100 + b"}"
        return Pushed(self.dingtalk.push().query, body)

    def no_event(self) -> Pushed:
        types = ('{"EventType": 5}', '{"EventType": ""}', f'{{"EventType": "{"x" * 129}"}}')
        texts = ("", "success", "[]", "7", "{", '{"a": NaN}', "[" * 5_000, *types)
        return self.dingtalk.push(self.rng.choice(texts))


WAYS = [name for name in vars(Stranger) if not name.startswith("_")]


def strangers(seed: int, *, huge: float = 0.01) -> Iterator[tuple[str, Pushed]]:
    """Pushes that must be refused, without end, each with the name of what is wrong with it."""
    stranger = Stranger(seed)
    while True:
        way = stranger.rng.choice(WAYS)
        if way != "huge" or stranger.rng.random() < huge * len(WAYS):
            pushed: Pushed = getattr(stranger, way)()
            yield way, pushed


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
        self._crypto = CallbackCrypto(AES_KEY, APP_KEY)

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
