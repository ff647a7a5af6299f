"""Secrets of endpoints, and the documents that they sign, as the Standard Webhooks spec says.

The body of a notice is the same at each attempt, byte for byte, and so is its id; the timestamp of the
signature is that of the attempt.

A worker needs an endpoint's secret itself, not only something that it can be checked against, as it
does for an API key. So that no secret is in the database all the same, each is derived from the
setting ``DINGRELAY_WEBHOOK_KEY``, the endpoint's id and the number of its rotations: read access to
the database is not enough to sign. A row holds which of the setting's keys made its secret.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from dingrelay_producers.settings import SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.http.api_keys import public_id
from dingrelay_workers.outbox.notice import Notice


def new_id(seed: bytes | None) -> str:
    """The id of an endpoint. A seed always gives the same one."""
    return public_id("drw_", hashlib.sha256(seed or secrets.token_bytes()).digest())


class Generation(BaseModel, frozen=True):
    """One secret of an endpoint, without the secret."""

    number: int
    """1 for the first one."""
    made_from: str
    """The `fingerprint` of the settings' key that it was made from."""
    until: datetime | None = None
    """From when on it does not sign any more; None for the present one."""


def fingerprint(key: str) -> str:
    """Identifies a key of the settings, and reveals nothing else of it."""
    return hmac.digest(key.encode(), b"dingrelay webhook fingerprint", hashlib.sha256).hex()[:16]


def derive(keys: Sequence[str], endpoint: str, generation: Generation) -> bytes:
    """The secret.

    `keys` are those of the settings.

    Raises:
        SettingsError: the key that it was made from is not among them any more.
    """
    for key in keys:
        if hmac.compare_digest(fingerprint(key), generation.made_from):
            text = f"dingrelay webhook secret\n{endpoint}\n{generation.number}"
            return hmac.digest(key.encode(), text.encode(), hashlib.sha256)
    raise SettingsError(
        en(
            "DINGRELAY_WEBHOOK_KEY: the secret of {} was made from a key that is not there any "
            "more; add it behind the new one, or rotate the endpoint's secret",
            endpoint,
        )
    )


def spelled(secret: bytes) -> str:
    """The form for people and libraries: ``whsec_…``."""
    return "whsec_" + base64.b64encode(secret).decode()


def signature(secret: bytes, notice: str, timestamp: int, body: bytes) -> str:
    """``v1,…`` of a body that leaves at this second."""
    content = f"{notice}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()


def document(notice: Notice) -> dict[str, Any]:
    """``{"type", "timestamp", "data"}``; the data name the app, too."""
    at = notice.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": notice.type, "timestamp": at, "data": {"app": notice.app, **notice.data}}


def body(notice: Notice) -> bytes:
    """The document as it travels; half a character, which JSON can carry, as an escape."""
    text = json.dumps(document(notice), ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document(notice), separators=(",", ":")).encode()


def headers(
    notice: Notice, content: bytes, at: datetime, signing_secrets: Iterable[bytes]
) -> Mapping[str, str]:
    """The headers: its id, its time, and a signature by each secret."""
    timestamp = int(at.timestamp())
    signatures = [signature(secret, notice.id, timestamp, content) for secret in signing_secrets]
    return {
        "webhook-id": notice.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
