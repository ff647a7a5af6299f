"""Webhooks in the simulation: the endpoints of a run, as an operator manages them, and what each must get."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import DingrelayError, EndpointNotFound, ServiceUnavailable
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.store.status import JobStatus
from dingrelay_simulation.application import Delivery
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.draws import PORTS
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_workers.database.database import Database
from dingrelay_workers.keys.documents import RotationRequest
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.webhooks.documents import EndpointRequest
from dingrelay_workers.webhooks.service import WebhookService

PAUSE = 1.0
"""Seconds before an operator repeats a command."""
ADDED = 1.0
"""Seconds after its creation in which an endpoint may miss an end."""


@dataclass
class Endpoint:
    """An endpoint that was requested.

    Attributes:
        id: empty if it is not known to have been created.
        since: when that was answered, in seconds from the beginning.
        secrets: the newest last, each with the moment when it was answered.
        doubtful: a command about it was not answered.
        removed: it was to be removed.
    """

    name: str
    types: tuple[str, ...]
    id: str = ""
    since: float = 0.0
    secrets: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    doubtful: bool = False
    removed: bool = False


class Subscriptions:
    """The endpoints of a run, as an operator manages them."""

    names = frozenset({"webhook", "webhook_command"})

    def __init__(
        self,
        fleet: Fleet,
        database: Database,
        note: Callable[..., None],
        jobs: Callable[[], Iterable[str]],
    ) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._fleet = fleet
        self._database = database
        self._note = note
        self._jobs = jobs

    def perform(self, step: Step) -> Coroutine[Any, Any, None]:
        """Add an endpoint, or command something about one."""
        return self._add(step) if step.name == "webhook" else self._command(step.values)

    @asynccontextmanager
    async def _service(self) -> AsyncGenerator[WebhookService]:
        settings = self._fleet.settings
        redis = open_async(settings.redis_address, socket_timeout=1.0, socket_connect_timeout=1.0)
        try:
            yield WebhookService(self._database, redis, settings)
        finally:
            await redis.aclose()

    async def _add(self, step: Step) -> None:
        name, types = f"e{step.values['number']}", step.values["types"]
        endpoint = self.endpoints[name] = Endpoint(name, tuple(types))
        url = f"http://127.0.0.1:{PORTS['application']}/{name}"
        request = EndpointRequest(name=name, url=url, types=list(types))
        try:
            async with self._service() as service:
                issued = await service.add(request)
        except (DingrelayError, SQLAlchemyError, RedisError, OSError) as error:
            self._note("webhook", name, type(error).__name__)
            return
        endpoint.id, endpoint.since = issued.id, CLOCK.now
        endpoint.secrets.append((CLOCK.now, issued.secret))
        self._note("webhook", name, "is there")

    async def _command(self, values: Mapping[str, Any]) -> None:
        verb, endpoint = values["verb"], self.endpoints.get(f"e{values['target']}")
        if not endpoint or not endpoint.id or endpoint.removed:
            return
        endpoint.removed = verb == "remove"
        doubtful, endpoint.doubtful = endpoint.doubtful, True
        try:
            async with self._service() as service:
                if verb == "rotate":
                    issued = await service.rotate(endpoint.id, RotationRequest(overlap="60s"))
                    endpoint.secrets.append((CLOCK.now, issued.secret))
                else:
                    await getattr(service, verb)(endpoint.id)
        except (DingrelayError, SQLAlchemyError, RedisError, OSError) as error:
            self._note("webhook command", verb, endpoint.name, type(error).__name__)
            return
        endpoint.doubtful = doubtful
        self._note("webhook command", verb, endpoint.name)

    async def mend(self) -> None:
        """Let all endpoints go on, and try at once what failed."""
        for endpoint in self.endpoints.values():
            if endpoint.id and not endpoint.removed:
                await self._resume(endpoint)

    async def _resume(self, endpoint: Endpoint) -> None:
        while True:
            try:
                async with self._service() as service:
                    await service.resume(endpoint.id)
            except EndpointNotFound:
                endpoint.removed = True
            except ServiceUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            return

    async def ended(self) -> bool:
        """Whether each endpoint got the end of each job."""
        statuses = (self._fleet.status(job) for job in self._jobs()) if self.endpoints else ()
        skew = self._fleet.valkey.offset
        return not any(missed(self.endpoints, self._fleet.application.deliveries, statuses, skew))

    async def collect(self) -> dict[str, Any]:
        """Endpoints, and what the application got."""
        return {"endpoints": self.endpoints, "deliveries": self._fleet.application.deliveries}


def missed(
    endpoints: Mapping[str, Endpoint],
    deliveries: Sequence[Delivery],
    statuses: Iterable[JobStatus | None],
    redis_skew: float,
) -> Iterator[tuple[Endpoint, JobStatus]]:
    """The ends of jobs that an endpoint should have got and has not."""
    watched = [each for each in endpoints.values() if each.id and not each.removed]
    if not watched:
        return
    got: set[tuple[str, str, str]] = set()
    for delivery in deliveries:
        if delivery.taken:
            document = delivery.document
            got.add((delivery.endpoint, document["type"], str(document["data"].get("id"))))
    for status in statuses:
        if status is None or not status.state.ended or status.settled_at is None:
            continue
        name, at = f"job.{status.state}", status.settled_at.timestamp() - CLOCK.epoch - redis_skew
        for endpoint in watched:
            wanted = at > endpoint.since + ADDED and _takes(endpoint, name)
            if wanted and (endpoint.name, name, status.id) not in got:
                yield endpoint, status


def _takes(endpoint: Endpoint, name: str) -> bool:
    return notice_types.is_type(name) and any(
        notice_types.matches(pattern, name) for pattern in endpoint.types
    )
