"""Checks and decrypts DingTalk's pushes to an app's callback, and counts events."""

import base64
import hashlib
import hmac
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings.apps import App
from dingrelay_producers.store import clock
from dingrelay_tasks import event_payload
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.event import Event, value

AES_KEY_CHARACTERS = 43
RANDOM_BYTES = 16
LENGTH_BYTES = 4
_PADDING = PKCS7(256)
"""Padding to 32 bytes; AES's own block has 16."""
_LETTERS = string.ascii_letters + string.digits
_NONCE_LETTERS = 8


class Undecipherable(ValueError):
    """A text was not made with the key. Which part is wrong is not revealed."""


class CallbackCrypto:
    """Signs, opens and seals the texts of one callback.

    Args:
        token: part of every signature.
        aes_key: 43 characters of Base64.
        owners: keys that a text may end with; the first that fits is taken.

    Raises:
        ValueError: the AES key is none.
    """

    def __init__(self, token: str, aes_key: str, owners: Sequence[str]) -> None:
        self._token = token
        self._cipher = _cipher(aes_key)
        self._owners = [(owner, owner.encode()) for owner in owners if owner]

    def signature(self, timestamp: str, nonce: str, encrypt: str) -> str:
        """The SHA-1 over token, time, nonce and text in the order of the alphabet, in hexadecimal."""
        signed = "".join(sorted((self._token, timestamp, nonce, encrypt)))
        return hashlib.sha1(signed.encode("utf-8", "surrogatepass")).hexdigest()  # noqa: S324 - DingTalk's choice

    def is_signed(self, signature: str, *, timestamp: str, nonce: str, encrypt: str) -> bool:
        """Whether the signature is right; takes as long wherever it is wrong."""
        right = self.signature(timestamp, nonce, encrypt)
        return hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogatepass"))

    def open(self, encrypt: str) -> tuple[bytes, str]:
        """Decrypt a text.

        Raises:
            Undecipherable: it was not made with the key, or not for this app.
        """
        plain = self._plain(encrypt)
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
        if len(plain) < start or len(plain) < end:
            raise Undecipherable
        for owner, key in self._owners:
            if hmac.compare_digest(plain[end:], key):
                return plain[start:end], owner
        raise Undecipherable

    def seal(self, message: str, owner: str, *, random: str | None = None) -> str:
        """A message as an encrypted text in Base64. `random` is the 16 letters before it."""
        before = (random or _random_letters(RANDOM_BYTES)).encode()
        content = message.encode()
        plain = before + len(content).to_bytes(LENGTH_BYTES, "big") + content + owner.encode()
        padder, encryptor = _PADDING.padder(), self._cipher.encryptor()
        padded = padder.update(plain) + padder.finalize()
        sealed = encryptor.update(padded) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def answer(self, message: str, owner: str, *, at: float) -> dict[str, str]:
        """A signed answer, as JSON values. `at`: Unix seconds."""
        timestamp, nonce = str(int(at * 1000)), _random_letters(_NONCE_LETTERS)
        encrypt = self.seal(message, owner)
        return {
            "msg_signature": self.signature(timestamp, nonce, encrypt),
            "timeStamp": timestamp,
            "nonce": nonce,
            "encrypt": encrypt,
        }

    def _plain(self, encrypt: str) -> bytes:
        decryptor, unpadder = self._cipher.decryptor(), _PADDING.unpadder()
        try:
            sealed = base64.b64decode(encrypt, validate=True)
            padded = decryptor.update(sealed) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise Undecipherable from None


def _cipher(aes_key: str) -> Cipher[modes.CBC]:
    if len(aes_key) != AES_KEY_CHARACTERS:
        raise ValueError(f"must have {AES_KEY_CHARACTERS} characters")
    try:
        # The last character holds two bits too many; generators of keys don't care what they are.
        key = base64.b64decode(aes_key + "=", validate=True)
    except ValueError:
        raise ValueError("must be letters and digits") from None
    return Cipher(algorithms.AES(key), modes.CBC(key[:RANDOM_BYTES]))


def _random_letters(count: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(count))


Door = Literal["http", "stream"]
Outcome = Literal["taken", "known", "unreadable"]

LAG_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 3600)


class EventMetrics:
    """The events of one process.

    Args:
        registry: where the metrics are.
        door: how events come in.
    """

    def __init__(self, registry: CollectorRegistry, door: Door) -> None:
        self._door = door
        self._events = Counter(
            "dingrelay_events",
            "Events that became jobs; known: repeated deliveries; unreadable: lost.",
            ["app", "door", "outcome"],
            registry=registry,
        )
        self._not_taken = Counter(
            "dingrelay_events_not_taken",
            "Events that could not be accepted, and that DingTalk is asked to send again.",
            ["app", "door"],
            registry=registry,
        )
        self._newest = Gauge(
            "dingrelay_event_newest_timestamp_seconds",
            "When the newest event came, as Unix time.",
            ["app", "door"],
            registry=registry,
        )
        self._lag = Histogram(
            "dingrelay_event_lag_seconds",
            "From the event at DingTalk, by its clock, to the job, in seconds.",
            ["app", "door"],
            buckets=LAG_SECONDS,
            registry=registry,
        )

    def know(self, app: str) -> None:
        """Events of an app come in here: what is counted begins at 0.

        Prometheus sees how a series grows, and not that it is born.
        """
        for outcome in get_args(Outcome):
            self._events.labels(app, self._door, outcome)
        self._not_taken.labels(app, self._door)
        self._lag.labels(app, self._door)

    def taken(self, event: Event, *, known: bool) -> None:
        """An event is a job."""
        self._count(event.app, "known" if known else "taken")
        now = clock.now().timestamp()
        self._newest.labels(event.app, self._door).set(now)
        if event.born_at is not None and not known:
            self._lag.labels(event.app, self._door).observe(max(0.0, now - event.born_at / 1000))

    def unreadable(self, app: str) -> None:
        """An event is DingTalk's, and can't be a job."""
        self._count(app, "unreadable")

    def not_taken(self, app: str) -> None:
        """An event could not become a job."""
        self._not_taken.labels(app, self._door).inc()

    def _count(self, app: str, outcome: Outcome) -> None:
        self._events.labels(app, self._door, outcome).inc()


SUCCESS = "success"
CHECK_URL = "check_url"
"""The event by which DingTalk's console finds out whether the URL is a callback."""

OLDEST_SECONDS = 3600
"""How far the time of a push may be from ours: pushes are signed when they leave."""
SECONDS_DIGITS = 10
"""A time of so many digits is in seconds, as in one of DingTalk's own samples (API §7.2)."""

SIGNATURES = ("signature", "msg_signature")
TIMESTAMPS = ("timestamp", "timeStamp")
"""Query parameters for the timestamp; DingTalk uses both spellings (API §7.1)."""
LONGEST_PARAMETER = 128

Reason = Literal["app", "query", "body", "signature", "timestamp", "encryption", "payload"]
REASONS: tuple[Reason, ...] = (
    "app",
    "query",
    "body",
    "signature",
    "timestamp",
    "encryption",
    "payload",
)


class PushRefused(Exception):
    """A push is not DingTalk's, or can't be read.

    Attributes:
        reason: for the metrics only; the sender of the push does not get it.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Push:
    """A push that is DingTalk's.

    Attributes:
        event: its event; None if it only checks that the callback is up.
    """

    event: Event | None
    crypto: CallbackCrypto
    owner: str

    def success(self) -> dict[str, str]:
        """The answer that DingTalk expects once the event is safe, as JSON values."""
        return self.crypto.answer(SUCCESS, self.owner, at=clock.now().timestamp())


class Receiver:
    """The callbacks of all apps.

    Args:
        apps: with their tokens and keys.
        now: the present moment.
    """

    def __init__(self, apps: CurrentApps, now: Callable[[], datetime] = clock.now) -> None:
        self._apps = apps
        self._now = now
        self._cryptos: dict[str, tuple[App, CallbackCrypto]] = {}

    @property
    def apps(self) -> Sequence[str]:
        """Apps that have a callback."""
        return [name for name, app in self._apps.all.items() if app.has_callback]

    def _crypto(self, name: str) -> CallbackCrypto | None:
        """The verifier of an app's pushes; None if it has no callback."""
        app = self._apps.all.get(name)
        if app is None or not app.has_callback:
            return None
        made_for, crypto = self._cryptos.get(name, (None, None))
        if crypto is None or made_for is not app:
            crypto = CallbackCrypto(
                app.callback_token.get_secret_value(),
                app.callback_aes_key.get_secret_value(),
                [app.app_key.get_secret_value(), app.corp_id],
            )
            self._cryptos[name] = app, crypto
        return crypto

    def open(self, app: str, query: Sequence[tuple[str, str]], body: object) -> Push:
        """Check and decrypt a push.

        Args:
            app: whose callback it came to.
            query: names and values of the URL's parameters.
            body: JSON values.

        Raises:
            PushRefused: it is not DingTalk's, or can't be read.
        """
        crypto = self._crypto(app)
        if crypto is None:
            raise PushRefused("app")
        signature, timestamp = (
            _only_parameter(query, SIGNATURES),
            _only_parameter(query, TIMESTAMPS),
        )
        nonce = _only_parameter(query, ("nonce",))
        encrypt = cast("Mapping[str, Any]", body).get("encrypt") if isinstance(body, dict) else None
        if not isinstance(encrypt, str):
            raise PushRefused("body")
        # Before decryption, whose outcome must not be visible to callers without the token.
        if not crypto.is_signed(signature, timestamp=timestamp, nonce=nonce, encrypt=encrypt):
            raise PushRefused("signature")
        self._check_time(timestamp)
        try:
            message, owner = crypto.open(encrypt)
        except Undecipherable:
            raise PushRefused("encryption") from None
        try:
            payload = event_payload.decode(message.decode())
            check = value(payload, "EventType") == CHECK_URL
            event = None if check else event_payload.of_push(app, payload)
        except (UnicodeDecodeError, ContractError):
            raise PushRefused("payload") from None
        return Push(event, crypto, owner)

    def _check_time(self, timestamp: str) -> None:
        if not timestamp.isascii() or not timestamp.isdecimal():
            raise PushRefused("timestamp")
        sent_at = int(timestamp)
        seconds = sent_at if len(timestamp) <= SECONDS_DIGITS else sent_at / 1000
        if abs(self._now().timestamp() - seconds) > OLDEST_SECONDS:
            raise PushRefused("timestamp")


def _only_parameter(query: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """The value of the parameter that has one of these names.

    Raises:
        PushRefused: there is none, or more than one, or it is no text that DingTalk sends.
    """
    values = [value for name, value in query if name in names]
    if len(values) != 1 or not 0 < len(values[0]) <= LONGEST_PARAMETER:
        raise PushRefused("query")
    return values[0]
