"""Endpoints as JSON values: the same for ``dingrelay webhook --json`` and over HTTP."""

from datetime import datetime
from typing import Any

from dingrelay_producers.gateway.backend.webhooks import (
    Endpoint,
    EndpointStatus,
    Health,
    IssuedEndpoint,
)


def endpoint(found: Endpoint) -> dict[str, Any]:
    """An endpoint without its secret. Times are ISO 8601; null where there is none."""
    return {
        "id": found.id,
        "name": found.name,
        "url": found.url,
        "types": list(found.types),
        "apps": sorted(found.apps),
        "senders": sorted(found.senders),
        "kinds": sorted(found.kinds),
        "state": found.state,
        "reason": found.reason,
        "created_at": _text(found.created_at),
        "changed_at": _text(found.changed_at),
        "old_secret_until": _text(found.old_secret_until),
    }


def status(found: EndpointStatus) -> dict[str, Any]:
    """An endpoint, and how it does."""
    return {**endpoint(found.endpoint), "health": _health(found.health)}


def issued(made: IssuedEndpoint) -> dict[str, Any]:
    """An endpoint with its secret, for the one time that it is shown."""
    return {
        "id": made.endpoint.id,
        "secret": made.secret,
        "old_secret_until": _text(made.endpoint.old_secret_until),
    }


def _health(found: Health) -> dict[str, Any]:
    return {
        "backlog": found.backlog,
        "under_way": found.under_way,
        "taken_at": _text(found.taken_at),
        "failing_since": _text(found.failing_since),
        "last_failure": found.last_failure,
        "retry_at": _text(found.retry_at),
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
