"""Everything that a gateway process holds; handlers get it, and there are no globals."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.errors import CellUnavailable, DingrelayError, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.last_known import LastKnown
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.http.records import EndWatch, GatewayRecords, QueueDepths

_S = TypeVar("_S")


@dataclass(slots=True)
class GatewayContext:
    """What handlers work with: of one cell, where there are cells.

    Attributes:
        settings: of this process; of the cell.
        redis: a connection pool that gives up within 2 s.
        records: job records, over `redis`.
        services: class → the noun's service of that class; see `service`.
        verify: finds the live API key with this text; None if it is wrong, expired or revoked.
        throttle: counts a request of a key; the seconds to wait where the key is over its rate.
        metrics: counters of this process.
        ends: waits for the ends of jobs.
        depths: the number of jobs that wait in each lane.
        upload_places: of files that the process receives at the same time, each in memory.
        door_tokens: cache: drop-in door's token → its holder, as Redis answered before.
        door_answers: names of changes at the drop-in door whose answers have left, until that is noted.
        cells: cell → its context; empty where there are no cells.
        stopping: set from the first signal to stop on.
        clock: seconds that only grow.
    """

    settings: Settings
    redis: Redis
    records: GatewayRecords
    services: Mapping[type, Any]
    verify: Callable[[str], Awaitable[ApiKey | None]]
    throttle: Callable[[ApiKey], Awaitable[float | None]]
    metrics: GatewayMetrics
    ends: EndWatch
    depths: QueueDepths
    upload_places: asyncio.Semaphore
    door_tokens: LastKnown[bytes | str | None]
    cells: Mapping[str, "GatewayContext"]
    stopping: asyncio.Event
    clock: Callable[[], float] = monotonic
    door_answers: set[str] = field(default_factory=set[str])

    def service(self, kind: type[_S]) -> _S:
        """The service of this class, which the application put here. So a noun's routes need no import from above."""
        found: _S = self.services[kind]
        return found

    def of(self, app: str) -> "GatewayContext":
        """That of the cell that has an app.

        Raises:
            ContractError: no cell has it, or this is another one's.
        """
        return self.cells.get(self.settings.cell_of(app), self)

    @property
    def each(self) -> "Collection[GatewayContext]":
        """Those of all cells; this one where there are none."""
        return self.cells.values() or [self]

    def named(self, error: DingrelayError) -> DingrelayError:
        """The same error, with the name of the cell that is away."""
        if not self.settings.cell or not isinstance(error, ServiceUnavailable):
            return error
        return CellUnavailable({self.settings.cell: str(error)})

    def sender_of(self, key: ApiKey) -> str:
        """The default sender of this key's jobs."""
        return key.default_sender or self.settings.sender


CONTEXT: web.AppKey[GatewayContext] = web.AppKey("gateway", GatewayContext)
