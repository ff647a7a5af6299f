"""Keys as JSON values: the same for ``dingrelay key --json`` and over HTTP."""

from datetime import UTC, datetime
from typing import Any, Literal

from dingrelay_producers.json_values import json_values
from dingrelay_workers.http.api_keys import IssuedKey, KeyStatus

KeyState = Literal["live", "expired", "revoked"]


def state(status: KeyStatus, now: datetime) -> KeyState:
    """Whether the key is taken, and if not, why."""
    if status.revoked_at:
        return "revoked"
    expires_at = status.key.expires_at
    return "expired" if expires_at and expires_at <= now else "live"


def key(status: KeyStatus, now: datetime | None = None) -> dict[str, Any]:
    """A key without its secret. Times are ISO 8601; null where there is none."""
    found = status.key
    return {
        "id": found.id,
        "name": found.name,
        "state": state(status, now or datetime.now(UTC)),
        "scopes": sorted(found.scopes),
        "apps": sorted(found.apps),
        "lanes": sorted(found.lanes),
        "sender": found.sender,
        "rate": str(found.rate) if found.rate else None,
        "created_at": json_values(status.created_at),
        "expires_at": json_values(found.expires_at),
        "revoked_at": json_values(status.revoked_at),
        "last_used_at": json_values(status.used_at),
        "old_secret_until": json_values(status.old_secret_until),
    }


def issued(made: IssuedKey) -> dict[str, Any]:
    """A key with its text, for the one time that it is shown."""
    shown = {"id": made.key.id, "key": made.text}
    if made.old_secret_until:
        shown["old_secret_until"] = json_values(made.old_secret_until)
    return shown
