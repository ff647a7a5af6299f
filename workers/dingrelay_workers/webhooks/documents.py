"""Endpoints as JSON values: the same for ``dingrelay webhook --json`` and over HTTP."""

from typing import Any

from dingrelay_producers.json_values import json_values
from dingrelay_workers.webhooks.endpoint import Endpoint, EndpointStatus, IssuedEndpoint


def endpoint(found: Endpoint) -> dict[str, Any]:
    """An endpoint without its secret. Times are ISO 8601; null where there is none."""
    return {"id": found.id, **json_values(found)}


def status(found: EndpointStatus) -> dict[str, Any]:
    """An endpoint, and how it does."""
    return {**endpoint(found.endpoint), "health": json_values(found.health)}


def issued(made: IssuedEndpoint) -> dict[str, Any]:
    """An endpoint with its secret, for the one time that it is shown."""
    return {
        "id": made.endpoint.id,
        "secret": made.secret,
        "old_secret_until": json_values(made.endpoint.old_secret_until),
    }
