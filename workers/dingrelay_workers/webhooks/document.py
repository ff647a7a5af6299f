"""The document sent to an endpoint: a notice as the Standard Webhooks spec wants it, signed.

The body is the same at each attempt, byte for byte, and so is the id; the timestamp of the signature
is that of the attempt.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import secret


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
    notice: Notice, content: bytes, at: datetime, secrets: Iterable[bytes]
) -> Mapping[str, str]:
    """The headers: its id, its time, and a signature by each secret."""
    timestamp = int(at.timestamp())
    signatures = [secret.signature(each, notice.id, timestamp, content) for each in secrets]
    return {
        "webhook-id": notice.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
