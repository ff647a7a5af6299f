"""The URLs that apps want HTTP pushes at, how a push is sealed, and what could not be pushed there (API §7.1)."""

import base64
import hashlib
import json
import secrets
import string
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import BaseModel, Field, model_validator

from dingrelay_sandbox.events.event import Casing, Event

RANDOM_BYTES = 16
LENGTH_BYTES = 4
BLOCK_BYTES = 32
"""Block size of the padding; AES's own is 16."""
AES_KEY_CHARACTERS = 43
LETTERS = string.ascii_letters + string.digits


def signature(token: str, timestamp: str, nonce: str, encrypt: str) -> str:
    """The SHA-1 over the four texts in the order of the alphabet, as hexadecimal digits."""
    return hashlib.sha1("".join(sorted((token, timestamp, nonce, encrypt))).encode()).hexdigest()


def new_nonce() -> str:
    """Eight letters and digits."""
    return random_letters(8)


def random_letters(length: int) -> str:
    """So many letters and digits."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


class CallbackCrypto:
    """The cipher between DingTalk and one callback.

    Args:
        aes_key: 43 characters of Base64.
        owner: the key that ends every text: the app's, or the organisation's.

    Raises:
        ValueError: when the key is none.
    """

    def __init__(self, aes_key: str, owner: str) -> None:
        if len(aes_key) != AES_KEY_CHARACTERS:
            raise ValueError(f"aes_key: {AES_KEY_CHARACTERS} characters are needed")
        try:
            key = base64.b64decode(f"{aes_key}=", validate=True)
        except ValueError:
            raise ValueError("aes_key: only letters and digits are allowed") from None
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16]))
        self._owner = owner.encode()

    def encrypt(self, message: str, random: str | None = None) -> str:
        """A message as Base64. `random` are the 16 characters before it."""
        before = (random or random_letters(RANDOM_BYTES)).encode()
        # Halves of characters, which a remark may have brought along, can't be sent.
        content = message.encode(errors="replace")
        plain = before + len(content).to_bytes(LENGTH_BYTES, "big") + content + self._owner
        missing = BLOCK_BYTES - len(plain) % BLOCK_BYTES
        encryptor = self._cipher.encryptor()
        sealed = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def decrypt(self, encrypted: str) -> str:
        """The message in a text that the same key encrypted.

        Raises:
            ValueError: when it is none, or another owner's.
        """
        sealed = base64.b64decode(encrypted, validate=True)
        decryptor = self._cipher.decryptor()
        padded = decryptor.update(sealed) + decryptor.finalize()
        if not padded or not 1 <= padded[-1] <= BLOCK_BYTES:
            raise ValueError("padding")
        plain = padded[: -padded[-1]]
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
        if len(plain) < end:
            raise ValueError("length")
        if plain[end:] != self._owner:
            raise ValueError("owner key")
        return plain[start:end].decode()


SUCCESS = "success"
CHECK = {"EventType": "check_url"}
"""The push at the registration of a URL."""
LARGEST_FAILED_PAGE = 200
MOST_FAILED = 100_000
NAMES: Mapping[str, tuple[str, str]] = {
    "signature": ("signature", "timestamp"),
    "msg_signature": ("msg_signature", "timeStamp"),
}
"""Names of signature and time in the query."""


class Callback(BaseModel, extra="forbid", frozen=True):
    """An app's registration for events.

    Attributes:
        app_key: whose it is; each app has one.
        url: where pushes go.
        token: 3 to 32 letters and digits, part of each signature.
        aes_key: 43 characters.
        owner_key: what each text ends with; the app's key where none is given.
        events: types, or paths such as
            ``/v1.0/event/bpms_instance_change/processCode/{code}/type/finish``; empty for all.
        casing: how the fields are spelt, and whether there is an ``eventId``.
        parameters: what the query calls signature and time.
    """

    app_key: str = "sandbox-key"
    url: Annotated[str, Field(pattern="^https?://")]
    token: Annotated[str, Field(pattern="^[0-9A-Za-z]{3,32}$", repr=False)]
    aes_key: Annotated[str, Field(repr=False)]
    owner_key: str = ""
    events: tuple[str, ...] = ()
    casing: Casing = "subscribed"
    parameters: Literal["signature", "msg_signature"] = "signature"

    @model_validator(mode="after")
    def _key_is_one(self) -> Self:
        self.crypto()
        return self

    def crypto(self) -> CallbackCrypto:
        """The cipher of its texts."""
        return CallbackCrypto(self.aes_key, self.owner_key or self.app_key)

    def wants(self, event: Event) -> bool:
        """Whether the app has asked for this event."""
        return wants(self.events, event)

    def push(self, content: Mapping[str, Any], at: float) -> tuple[dict[str, str], bytes]:
        """Query and body of a request with something in it, signed at a Unix time."""
        encrypt = self.crypto().encrypt(json.dumps(content, ensure_ascii=False))
        timestamp, nonce = str(int(at * 1_000)), new_nonce()
        sign, time = NAMES[self.parameters]
        query = {
            sign: signature(self.token, timestamp, nonce, encrypt),
            time: timestamp,
            "nonce": nonce,
        }
        return query, json.dumps({"encrypt": encrypt}).encode()

    def verdict(self, status: int, body: bytes) -> str:
        """The verdict on an answer: ``success``, or its error."""
        if status != 200:
            return f"status {status}"
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return "no JSON"
        if not isinstance(answer, dict):
            return "no object"
        given = [answer.get(name) for name in ("timeStamp", "nonce", "encrypt", "msg_signature")]
        timestamp, nonce, encrypt, sign = (str(each) for each in given)
        if None in given or sign != signature(self.token, timestamp, nonce, encrypt):
            return "wrong signature"
        try:
            message = self.crypto().decrypt(encrypt)
        except ValueError as error:
            return f"not decrypted: {error}"
        return SUCCESS if message == SUCCESS else "not success"


class Callbacks:
    """The callback of each app, and what could not be pushed."""

    def __init__(self) -> None:
        self._callbacks: dict[str, Callback] = {}
        self._failed: dict[str, deque[tuple[Event, float]]] = {}
        """Failed events by app, and until when each is kept, on the clock that never jumps."""

    def put(self, callback: Callback) -> None:
        """Push an app's events there from now on. What failed before can still be fetched."""
        self._callbacks[callback.app_key] = callback
        self._failed.setdefault(callback.app_key, deque(maxlen=MOST_FAILED))

    def of(self, app_key: str) -> Callback | None:
        """The callback of an app, if it has one."""
        return self._callbacks.get(app_key)

    def delete(self, app_key: str) -> None:
        """Push nothing to an app any more.

        Raises:
            LookupError: it has no callback.
        """
        if self._callbacks.pop(app_key, None) is None:
            raise LookupError(f"app {app_key} has no callback")
        del self._failed[app_key]

    def all(self) -> list[Callback]:
        """Every callback."""
        return list(self._callbacks.values())

    def fail(self, app_key: str, event: Event, *, until: float) -> None:
        """Keep what could not be pushed, to be fetched until then."""
        if app_key in self._failed:
            self._failed[app_key].append((event, until))

    def fetch_failed(self, app_key: str, *, now: float) -> tuple[list[Event], bool]:
        """The oldest events that could not be pushed, and whether there are more.

        They are gone with that.
        """
        failed = self._failed.get(app_key, deque())
        while failed and failed[0][1] <= now:
            failed.popleft()
        page = [failed.popleft()[0] for _ in range(min(LARGEST_FAILED_PAGE, len(failed)))]
        return page, bool(failed)


PATH = "/v1.0/event/"
"""A narrower choice starts so: ``/v1.0/event/{type}/processCode/{code}/type/{type}``."""


def wants(choices: Sequence[str], event: Event) -> bool:
    """Whether one of the choices is about this event; without any, all are."""
    return not choices or any(_fits(choice, event) for choice in choices)


def _fits(choice: str, event: Event) -> bool:
    if not choice.startswith(PATH):
        return choice == event.type
    kind, *pairs = choice.removeprefix(PATH).split("/")
    wanted = zip(pairs[::2], pairs[1::2], strict=False)
    return kind == event.type and all(
        str(event.fields.get(name)) == value.strip("{}") for name, value in wanted
    )
