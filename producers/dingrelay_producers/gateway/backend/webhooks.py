"""Endpoints of webhooks: what they are, and what keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from dingrelay_tasks import notice_types

EndpointState = Literal["enabled", "paused", "disabled"]
"""Disabled: it answered 410, or has accepted nothing for days. Nothing is lost: its notices are kept for
some days and delivered once it is resumed."""


class Subject(NamedTuple):
    """The fields by which an endpoint filters notices.

    Attributes:
        sender: of the job or campaign; empty without one.
        kind: of the job that ended; empty without one.
    """

    type: str
    app: str
    sender: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Which notices go where.

    Attributes:
        name: for people and logs.
        url: ``https://…`` or ``celery://QUEUE/TASK``.
        types: types of notices; ``job.*`` for all that begin with ``job.``, ``*`` for all.
        apps: apps whose notices it receives; empty for all.
        senders: senders whose jobs, campaigns and approvals it receives; empty for all.
        kinds: kinds of jobs whose ends it receives; empty for all.
    """

    name: str
    url: str
    types: tuple[str, ...]
    apps: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def takes(self, subject: Subject) -> bool:
        """Whether it receives such a notice.

        Senders and kinds narrow only what has them: a change of the directory has neither.
        """
        if self.apps and subject.app not in self.apps:
            return False
        of_job = subject.type.startswith("job.")
        if self.kinds and of_job and subject.kind not in self.kinds:
            return False
        asked_for = of_job or subject.type.startswith(("campaign.", "approval."))
        if self.senders and asked_for and subject.sender not in self.senders:
            return False
        return any(notice_types.matches(pattern, subject.type) for pattern in self.types)


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


class WebhookStore(Protocol):
    """What keeps the endpoints.

    Every method raises `ServiceUnavailable` where the database or Redis is away, and those that take
    an id `EndpointNotFound`.
    """

    async def add(self, wanted: Subscription, *, once: str | None = None) -> IssuedEndpoint:
        """Add this endpoint; it receives what happens from now on. Of each `once` there is one endpoint.

        Raises:
            ContractError: its URL is not allowed here; the field is named.
            SettingsError: secrets can't be made.
        """
        ...

    async def list(self) -> Sequence[Endpoint]:
        """All endpoints, the newest first."""
        ...

    async def get(self, endpoint: str) -> EndpointStatus:
        """One of them."""
        ...

    async def pause(self, endpoint: str) -> Endpoint:
        """Stop deliveries to it for now.

        Raises:
            EndpointConflict: it is disabled.
        """
        ...

    async def resume(self, endpoint: str, *, skip: bool = False) -> Endpoint:
        """Resume deliveries to it; `skip` drops the notices of the meantime."""
        ...

    async def rotate(self, endpoint: str, *, overlap: timedelta) -> IssuedEndpoint:
        """Give it a new secret; the present one signs as well for so long."""
        ...

    async def replay(self, endpoint: str, *, since: datetime) -> int:
        """Deliver the notices since then again; how many they are.

        Raises:
            EndpointConflict: it is paused or disabled.
        """
        ...

    async def remove(self, endpoint: str) -> None:
        """Remove it."""
        ...

    async def test(self, endpoint: str, *, within: float) -> Mapping[str, Any] | None:
        """Send it a test notice: ``verdict``, ``code``, ``reason`` and ``status`` of the answer.

        None: no worker has sent it within so many seconds.
        """
        ...
