"""Endpoints of webhooks and their health."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from dingrelay_workers.outbox.notice import Subscription

EndpointState = Literal["enabled", "paused", "disabled"]
"""Disabled: it answered 410, or has accepted nothing for days. Nothing is lost: its notices are kept for
some days and delivered once it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Subscription):
    """An endpoint without its secrets.

    Attributes:
        id: ``drw_…``.
        reason: why it is paused or disabled.
        old_secret_until: until when the secret before the last rotation signs as well.
    """

    id: str
    state: EndpointState
    reason: str
    created_at: datetime
    changed_at: datetime
    old_secret_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of an endpoint.

    Attributes:
        backlog: notices that wait for it.
        under_way: deliveries that are being made.
        taken_at: when it accepted the last notice; None if that is not known.
        failing_since: time of the first of its consecutive failures; None if there is none.
        last_failure: a short machine word, such as ``http_503``; empty if there is none.
        retry_at: time of the next try, while deliveries are held back.
    """

    backlog: int = 0
    under_way: int = 0
    taken_at: datetime | None = None
    failing_since: datetime | None = None
    last_failure: str = ""
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """An endpoint, and its health."""

    endpoint: Endpoint
    health: Health = Health()


@dataclass(frozen=True, slots=True)
class IssuedEndpoint:
    """An endpoint with its secret, which is never shown again.

    Attributes:
        secret: ``whsec_…``; no repr shows it.
    """

    endpoint: Endpoint
    secret: str = field(repr=False)
