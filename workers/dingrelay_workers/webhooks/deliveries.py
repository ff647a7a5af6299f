"""Deliveries in SQL: which are due, who has them, what became of them.

Only the leader claims. A claim is a lock with an end: what a worker had when it died is due again then.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    RowMapping,
    String,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.base import Utc
from dingrelay_workers.database.database import chunks, upsert
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice, Subject
from dingrelay_workers.webhooks import endpoints
from dingrelay_workers.webhooks.endpoints import Endpoint, StoredEndpoint
from dingrelay_workers.webhooks.http import GONE, Receipt

BASE = 5.0
"""Seconds before the second attempt at most."""
GROWTH = 4
"""Factor by which the pauses grow: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, and then at most 6 h."""
CAP = 6 * 3600.0
"""Seconds before any attempt at most: three days are then some thirty attempts."""
SLICE = 500
"""Notices that one statement deletes or replays: it blocks other writers of SQLite."""
ARMS = 100
"""Endpoints of one statement; SQLite takes 500 parts of a UNION."""

PENDING = text("webhook_deliveries.state = 'pending'")
"""A literal: with a parameter SQLite does not use the index of pending deliveries."""

_AGAIN: dict[str, Any] = {
    "state": "pending",
    "attempts": 0,
    "due_at": None,
    "failed_at": None,
    "locked_until": None,
}
"""A delivery that is to be made as if for the first time."""
_SUBJECT = [getattr(NoticeRow, name) for name in Subject._fields]
_FREE = "(locked_until is null or locked_until <= :now)"
_DUE = f"state = 'pending' and (due_at is null or due_at <= :now) and {_FREE}"
_OPEN = text(
    "select id, breaker from webhook_endpoints as endpoints where state = 'enabled'"  # noqa: S608
    # A clock of Redis's that steps back must not keep a breaker open for as long as that.
    " and (retry_at is null or retry_at <= :now or failed_at > :now) and exists"
    " (select 1 from webhook_deliveries where endpoint = endpoints.id and " + _DUE + ")"
).bindparams(bindparam("now", type_=Utc()))
_COLUMNS = "endpoint, notice, attempts, failed_at, state"
_TESTS = f"select {_COLUMNS} from webhook_deliveries where state = 'test' and {_FREE} limit 20"  # noqa: S608
_ARM = (
    f"select * from (select {_COLUMNS} from webhook_deliveries where endpoint = :e%d and {_DUE}"  # noqa: S608
    " order by notice limit :m%d%s) as t%d"
)


class Delivery(NamedTuple):
    """A delivery that is due, as the columns.

    Attributes:
        claim: `locked_until`, once the leader has claimed it. What an attempt comes to counts only while
            the row has that: not where another leader claimed it since, or a person replayed it.
    """

    endpoint: str
    notice: int
    attempts: int
    failed_at: datetime | None
    state: str
    claim: datetime | None = None


Change = tuple[StoredEndpoint, StoredEndpoint]
"""An endpoint before and after attempts."""
DeliveryOutcome = tuple[Delivery, Receipt | None]
"""A delivery and the result of its attempt; no receipt: none was made, and the claim is given up."""


async def open_endpoints(connection: AsyncConnection, now: datetime) -> dict[str, bool]:
    """Endpoints for which a delivery is due; True: after its breaker opened, so one may try."""
    return {row.id: row.breaker > 0 for row in await connection.execute(_OPEN, {"now": now})}


async def tests(connection: AsyncConnection, now: datetime) -> Sequence[Delivery]:
    """Requested tests."""
    return await _select(connection, _TESTS, {"now": now})


async def due(
    connection: AsyncConnection, room: Mapping[str, int], now: datetime
) -> Sequence[Delivery]:
    """Deliveries that are due, so many at most of each endpoint, its oldest notices first."""
    # SQLite has one writer, and no such clause.
    lock = "" if connection.dialect.name == "sqlite" else " for update skip locked"
    deliveries: list[Delivery] = []
    for batch in chunks(room.items(), ARMS):
        arms = [_ARM % (number, number, lock, number) for number in range(len(batch))]
        values: dict[str, Any] = {"now": now}
        for number, (endpoint, most) in enumerate(batch):
            values |= {f"e{number}": endpoint, f"m{number}": most}
        deliveries += await _select(connection, " union all ".join(arms), values)
    return deliveries


async def claim(connection: AsyncConnection, deliveries: Sequence[Delivery]) -> dict[int, Notice]:
    """Lock deliveries; their notices by number."""
    await connection.execute(_LOCK, [_key(delivery) for delivery in deliveries])
    numbers = {delivery.notice for delivery in deliveries}
    notices: dict[int, Notice] = {}
    for batch in chunks(numbers):
        rows = await connection.execute(
            select(NoticeRow.__table__).where(NoticeRow.number.in_(batch))
        )
        notices |= {row["number"]: Notice.of(row) for row in rows.mappings()}
    return notices


async def settle(
    connection: AsyncConnection, outcomes: Sequence[DeliveryOutcome], now: datetime
) -> tuple[Sequence[Change], Sequence[Delivery]]:
    """Write down what attempts came to, and the health of their endpoints.

    Args:
        connection: of the leader's transaction.
        outcomes: in the order in which they ended.
        now: Redis's time.

    Returns:
        What is to be logged and counted once that is committed: endpoints that have changed, and deliveries
        that were given up.
    """
    given_back = [_key(delivery) for delivery, receipt in outcomes if receipt is None]
    if given_back:
        await connection.execute(_UNLOCK, given_back)
    ids = {delivery.endpoint for delivery, receipt in outcomes if receipt}
    before = await endpoints.some(connection, ids) if ids else {}
    after = dict(before)
    rows: list[dict[str, Any]] = []
    dead: list[Delivery] = []
    for delivery, receipt in outcomes:
        endpoint = after.get(delivery.endpoint)
        if receipt is None or endpoint is None:  # it was removed since
            continue
        rows.append(settled_row(delivery, receipt, endpoint, now))
        if rows[-1]["to_state"] == "dead":
            dead.append(delivery)
        if delivery.state != "test":
            after[endpoint.id] = endpoint.after(receipt, now)
        elif receipt.verdict == "taken" and endpoint.failures:
            # A person has mended it. What it accepts of the others is not known by that: `taken_at` stays.
            after[endpoint.id] = endpoint.model_copy(update=endpoints.HEALTHY)
    if rows:
        await connection.execute(_SETTLE, rows)
    changed = [(old, after[id_]) for id_, old in before.items() if after[id_] is not old]
    await endpoints.change_health(connection, [new for _, new in changed])
    for old, new in changed:
        if old.breaker and not new.breaker:  # what failed before comes back at once
            await _hasten(connection, new.id)
    return changed, dead


async def resume(connection: AsyncConnection, endpoint: str, *, skip: bool) -> None:
    """Let what is pending begin at once, or drop it."""
    if skip:
        await connection.execute(
            update(DeliveryRow)
            .where(DeliveryRow.endpoint == endpoint, PENDING)
            .values(state="skipped", locked_until=None)
        )
    else:
        await _hasten(connection, endpoint)


async def replay(
    connection: AsyncConnection,
    endpoint: Endpoint,
    behind: int,
    numbers: Collection[int],
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[int, int | None]:
    """Have notices of a page delivered again, or for the first time to an endpoint that is newer.

    Args:
        connection: of a transaction.
        endpoint: gets those that it takes.
        behind: the number of the last notice that was looked at.
        numbers: of these notices; without a time of no others.
        since: of notices from then on as well.
        until: of notices before then as well, where there is `since` of those in between.

    Returns:
        How many, and the number of the last notice that was looked at; None: there are no more.
    """
    query = (
        select(NoticeRow.number, *_SUBJECT)
        .where(NoticeRow.number > behind, NoticeRow.type != notice_types.TEST)
        .order_by(NoticeRow.number)
        .limit(SLICE)
    )
    replayed: ColumnElement[bool] = NoticeRow.number.in_(numbers)
    span: list[ColumnElement[bool]] = []
    if since is not None:
        span.append(NoticeRow.recorded_at >= since)
    if until is not None:
        span.append(NoticeRow.recorded_at < until)
    if span:
        replayed = or_(replayed, and_(*span))
    query = query.where(replayed)
    page = (await connection.execute(query)).all()
    rows = [
        {"endpoint": endpoint.id, "notice": number, **_AGAIN}
        for number, *subject in page
        if endpoint.takes(Subject(*subject))
    ]
    await upsert(connection, DeliveryRow, rows)
    return len(rows), page[-1].number if len(page) == SLICE else None


async def waiting(connection: AsyncConnection) -> dict[str, int]:
    """How many deliveries are pending, by endpoint."""
    query = select(DeliveryRow.endpoint, func.count()).where(PENDING).group_by(DeliveryRow.endpoint)
    return {row[0]: row[1] for row in await connection.execute(query)}


async def of_endpoint(
    connection: AsyncConnection, endpoint: str, state: str | None, behind: int | None, limit: int
) -> Sequence[RowMapping]:
    """The deliveries to an endpoint with their notices, the latest first, behind a notice's number."""
    columns = DeliveryRow.state, DeliveryRow.attempts, DeliveryRow.due_at, DeliveryRow.failed_at
    query = (
        select(*columns, DeliveryRow.code, DeliveryRow.reason, DeliveryRow.status)
        .add_columns(NoticeRow.number, NoticeRow.id.label("notice"))
        .add_columns(NoticeRow.type, NoticeRow.app, NoticeRow.at)
        .join(NoticeRow, NoticeRow.number == DeliveryRow.notice)
        .where(DeliveryRow.endpoint == endpoint)
        .order_by(DeliveryRow.notice.desc())
        .limit(limit)
    )
    if state is not None:
        # As it stands in the partial indexes: a parameter would not be found there.
        query = query.where(DeliveryRow.state == literal_column(f"'{state}'"))
    if behind is not None:
        query = query.where(DeliveryRow.notice < behind)
    return (await connection.execute(query)).mappings().all()


async def counts(connection: AsyncConnection, endpoint: str, now: datetime) -> tuple[int, int]:
    """How many of an endpoint's deliveries wait, and how many are under way."""
    locked = func.coalesce(func.sum((DeliveryRow.locked_until > now).cast(Integer)), 0)
    query = select(func.count(), locked).where(DeliveryRow.endpoint == endpoint, PENDING)
    every, under_way = (await connection.execute(query)).one()
    return every - under_way, under_way


async def forget_before(
    connection: AsyncConnection, moment: datetime
) -> tuple[int, dict[str, int]]:
    """Delete a slice of the notices of before, with their deliveries.

    Returns:
        How many went, and endpoint → how many of them it had still to get.
    """
    query = select(NoticeRow.number).where(NoticeRow.recorded_at < moment)
    old = list(await connection.scalars(query.order_by(NoticeRow.number).limit(SLICE)))
    if not old:
        return 0, {}
    missed = await connection.execute(
        select(DeliveryRow.endpoint, func.count())
        .join(EndpointRow, EndpointRow.id == DeliveryRow.endpoint)
        .where(DeliveryRow.notice.in_(old), PENDING)
        .group_by(DeliveryRow.endpoint)
    )
    missed_by_endpoint = {row[0]: row[1] for row in missed}
    await connection.execute(delete(NoticeRow).where(NoticeRow.number.in_(old)))
    return len(old), missed_by_endpoint


def pause(attempt: int) -> timedelta:
    """The pause after an attempt, from 1: exponential with full jitter.

    Deliveries that failed together do not come back together.
    """
    longest = min(CAP, BASE * GROWTH ** min(attempt - 1, 20))
    return timedelta(seconds=random.uniform(0, longest))


def settled_row(
    delivery: Delivery, receipt: Receipt, endpoint: StoredEndpoint, now: datetime
) -> dict[str, Any]:
    """The parameters of `_SETTLE` for an attempt, by the health of its endpoint before it."""
    if delivery.state == "test":
        return _row(delivery, receipt, "tested")
    if receipt.verdict == "taken":
        return _row(delivery, receipt, "delivered")
    if receipt.code == GONE:
        return _row(delivery, receipt, "pending", failed_at=delivery.failed_at)
    failed_at = delivery.failed_at or now
    since = max(failed_at, endpoint.enabled_at)
    # Only an endpoint that accepts others has refused this one. Another one is disabled, and keeps it.
    if (
        endpoint.failing_for(failed_at, now) >= endpoints.GIVE_UP
        and (endpoint.taken_at or since) > since
    ):
        return _row(delivery, receipt, "dead", failed_at=failed_at)
    due_at = now + max(pause(delivery.attempts + 1), receipt.retry_after)
    return _row(delivery, receipt, "pending", failed_at=failed_at, due_at=due_at)


_LOCK = (
    update(DeliveryRow)
    .where(
        DeliveryRow.endpoint == bindparam("of_endpoint"),
        DeliveryRow.notice == bindparam("of_notice"),
    )
    .values(locked_until=bindparam("of_claim", type_=Utc()))
)
_CLAIMED = (
    DeliveryRow.endpoint == bindparam("of_endpoint"),
    DeliveryRow.notice == bindparam("of_notice"),
    DeliveryRow.locked_until == bindparam("of_claim", type_=Utc()),
)
_UNLOCK = update(DeliveryRow).where(*_CLAIMED).values(locked_until=None)
_SETTLE = (
    update(DeliveryRow)
    .where(*_CLAIMED)
    .values(
        state=bindparam("to_state"),
        due_at=bindparam("to_due_at", type_=Utc()),
        failed_at=bindparam("to_failed_at", type_=Utc()),
        attempts=DeliveryRow.attempts + 1,
        locked_until=None,
        code=bindparam("to_code"),
        reason=bindparam("to_reason"),
        status=bindparam("to_status"),
    )
)


def _key(delivery: Delivery) -> dict[str, Any]:
    return {
        "of_endpoint": delivery.endpoint,
        "of_notice": delivery.notice,
        "of_claim": delivery.claim,
    }


def _row(
    delivery: Delivery,
    receipt: Receipt,
    state: str,
    *,
    failed_at: datetime | None = None,
    due_at: datetime | None = None,
) -> dict[str, Any]:
    return {
        **_key(delivery),
        "to_state": state,
        "to_due_at": due_at,
        "to_failed_at": failed_at,
        "to_code": receipt.code,
        "to_reason": receipt.reason,
        "to_status": receipt.status,
    }


async def _hasten(connection: AsyncConnection, endpoint: str) -> None:
    await connection.execute(
        update(DeliveryRow)
        .where(DeliveryRow.endpoint == endpoint, PENDING, DeliveryRow.due_at.is_not(None))
        .values(due_at=None)
    )


async def _select(
    connection: AsyncConnection, query: str, values: dict[str, Any]
) -> Sequence[Delivery]:
    statement = text(query).bindparams(bindparam("now", type_=Utc()))
    columns = statement.columns(
        endpoint=String, notice=BigInteger, attempts=Integer, failed_at=Utc, state=String
    )
    return [Delivery(*row) for row in await connection.execute(columns, values)]
