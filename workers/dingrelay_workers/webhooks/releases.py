"""Which deliveries begin: an endpoint's position moves over notices, as far as there is room.

Redis holds a window of each endpoint's deliveries, however far behind it is. Those that failed by
themselves and wait to be tried again are counted apart: an endpoint that refuses a thousand notices of
one type hears of the others all the same.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.database import chunks, insert_missing
from dingrelay_workers.webhooks import endpoints, notices
from dingrelay_workers.webhooks.models import DeliveryRow
from dingrelay_workers.webhooks.queue import job_id
from dingrelay_workers.webhooks.stored_endpoint import StoredEndpoint

WINDOW = 100
"""Deliveries of one endpoint that are under way at most. Four go at once, so it lasts for a turn of the
leader even where an endpoint takes two thousand a second; and an endpoint that hangs costs the workers
a hundred looks and Redis 100 kB."""
MOST_FAILED = 9_000
"""Deliveries of one endpoint beyond those that wait to be tried again."""
PAGE = 500
"""Notices that are read at once."""
SCANNED = 5_000
"""Notices that one turn looks at for an endpoint that takes few of them."""
HELD = 0.3
"""Seconds for which one turn keeps SQLite's other writers waiting, about."""


@dataclass(slots=True)
class Released:
    """Deliveries that one turn begins.

    Attributes:
        rows: as they were inserted.
        more: there are more for which there is room.
    """

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    more: bool = False


class Stretch(NamedTuple):
    """A part of the notices that an endpoint is told of.

    Attributes:
        position: behind which it begins.
        until: its last one; None for no end.
        round: 0, or the number of the replay.
    """

    position: int
    until: int | None
    round: int


async def room(
    connection: AsyncConnection, known: Sequence[StoredEndpoint], failed: Mapping[str, int]
) -> dict[str, int]:
    """How many more deliveries each endpoint may have under way."""
    counts = await under_way(connection)
    return {
        each.id: WINDOW - max(0, counts.get(each.id, 0) - min(failed.get(each.id, 0), MOST_FAILED))
        for each in known
    }


async def may_begin(
    connection: AsyncConnection, known: Sequence[StoredEndpoint], free: Mapping[str, int]
) -> bool:
    """Whether there may be something for some endpoint that it was not told of, and has room for."""
    if not any(endpoint.enabled for endpoint in known):
        return False
    last = await notices.last_number(connection)
    return any(
        endpoint.enabled
        and (endpoint.replays or endpoint.position < last)
        and free[endpoint.id] > 0
        for endpoint in known
    )


async def release(connection: AsyncConnection, free: Mapping[str, int], now: datetime) -> Released:
    """Begin deliveries; they are to be enqueued after the commit.

    It goes by the positions that it reads here, under the writer's lock, and keeps that for a moment
    only.
    """
    released = Released()
    began = time.monotonic()
    known = await endpoints.all_of(connection)
    served = [endpoint for endpoint in known if endpoint.enabled and endpoint.id in free]
    random.shuffle(served)  # so that those at the end have their turn, too
    for number, endpoint in enumerate(served):
        # The first one has it always: else a slow database would never pass on anything.
        if number and time.monotonic() - began > HELD:
            released.more = True
            break
        await _release_one(connection, endpoint, free[endpoint.id], now, released)
    for some in chunks(released.rows):
        await insert_missing(connection, DeliveryRow, some)
    return released


async def _release_one(
    connection: AsyncConnection,
    endpoint: StoredEndpoint,
    free: int,
    now: datetime,
    released: Released,
) -> None:
    changes: dict[str, Any] = {}
    before = len(released.rows)
    first = Stretch(endpoint.position, None, 0)
    position = await _scan(connection, endpoint, first, free, now, released)
    if position != endpoint.position:
        changes["position"] = position
    if endpoint.replays:
        again = Stretch(endpoint.replay_position, endpoint.replay_until, endpoint.replay_round)
        left = free - (len(released.rows) - before)
        position = await _scan(connection, endpoint, again, left, now, released)
        if position != endpoint.replay_position:
            changes["replay_position"] = position
    if changes:
        await endpoints.change(connection, endpoint.id, **changes)


async def _scan(
    connection: AsyncConnection,
    endpoint: StoredEndpoint,
    stretch: Stretch,
    free: int,
    now: datetime,
    released: Released,
) -> int:
    """Choose from a stretch; up to where it got."""
    position, chosen, looked = stretch.position, 0, 0
    while free > chosen and looked < SCANNED:
        page = await notices.after(connection, position, stretch.until, PAGE)
        for row in page:
            if endpoint.endpoint.takes(notices.subject_of(row)):
                if chosen == free:
                    return position
                released.rows.append(
                    {
                        "endpoint": endpoint.id,
                        "notice": row["number"],
                        "round": stretch.round,
                        "job": job_id(endpoint.id, row["id"], stretch.round, row["app"]),
                        "app": row["app"],
                        "released_at": now,
                    }
                )
                chosen += 1
            position = row["number"]
        looked += len(page)
        if len(page) < PAGE:
            # Where numbers are missing at the end, a replay would never get there.
            return position if stretch.until is None else stretch.until
    released.more = released.more or looked >= SCANNED
    return position


async def under_way(connection: AsyncConnection) -> dict[str, int]:
    """How many deliveries of each endpoint have not ended."""
    rows = await connection.execute(
        select(DeliveryRow.endpoint, func.count()).group_by(DeliveryRow.endpoint)
    )
    return {row[0]: row[1] for row in rows}


async def end(connection: AsyncConnection, jobs: Sequence[str]) -> list[tuple[str, str]]:
    """Forget deliveries that have ended; endpoint and job of those that were known.

    A test is in no row.
    """
    known: list[tuple[str, str]] = []
    for some in chunks(jobs):
        rows = await connection.execute(
            select(DeliveryRow.endpoint, DeliveryRow.job).where(DeliveryRow.job.in_(some))
        )
        known += [(row.endpoint, row.job) for row in rows]
        await connection.execute(delete(DeliveryRow).where(DeliveryRow.job.in_(some)))
    return known


async def page(
    connection: AsyncConnection, after: tuple[str, int, int], most: int
) -> Sequence[Any]:
    """Some deliveries that have not ended, behind one of them: endpoint, notice and round."""
    endpoint, notice, round_ = after
    behind = (
        (DeliveryRow.endpoint > endpoint)
        | ((DeliveryRow.endpoint == endpoint) & (DeliveryRow.notice > notice))
        | (
            (DeliveryRow.endpoint == endpoint)
            & (DeliveryRow.notice == notice)
            & (DeliveryRow.round > round_)
        )
    )
    query = select(DeliveryRow.__table__).where(behind)
    query = query.order_by(DeliveryRow.endpoint, DeliveryRow.notice, DeliveryRow.round)
    return (await connection.execute(query.limit(most))).mappings().all()
