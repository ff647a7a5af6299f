"""Endpoints in SQL, and how an endpoint's health changes with each attempt."""

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from sqlalchemy import RowMapping, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import Kept, en
from dingrelay_workers.outbox.models import EndpointRow
from dingrelay_workers.outbox.notice import Subscription
from dingrelay_workers.webhooks import secret
from dingrelay_workers.webhooks.http import GONE, Receipt
from dingrelay_workers.webhooks.secret import Generation

EndpointState = Literal["enabled", "paused", "disabled"]
"""Disabled: it answered 410, or has accepted nothing for days. Nothing is lost: its notices are kept for
some days and delivered once it is resumed."""

WRITER = "webhooks"
"""Name of the lock under which endpoints and deliveries change: the leader and a command take turns."""
NEEDED = 5
"""Consecutive failures that open the breaker: more than are under way at once."""
FIRST_PAUSE = timedelta(seconds=5)
"""Before the first try of a breaker that opened; it doubles."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Before any try: what an endpoint that is back waits at most."""

GIVE_UP = timedelta(days=3)
"""Time of failure after which a delivery is dead and an endpoint disabled: a weekend and a day."""
TAKEN_EVERY = timedelta(seconds=1)
"""How exact the moment is at which an endpoint accepted the last notice."""

HEALTHY: Mapping[str, Any] = {
    "failures": 0,
    "failing_since": None,
    "failed_at": None,
    "last_failure": "",
    "breaker": 0,
    "retry_at": None,
}
"""The columns of an endpoint that has not failed."""
_HEALTH = (*HEALTHY, "taken_at", "state", "reason", "changed_at")
"""The columns that an attempt changes."""


class Endpoint(Subscription, frozen=True):
    """An endpoint of webhooks, without its secret."""

    id: str
    state: EndpointState
    reason: Kept
    """Why it is paused or disabled."""
    created_at: datetime
    changed_at: datetime
    old_secret_until: datetime | None
    """Until when the secret before the last rotation signs as well."""
    failing_since: datetime | None = None
    """Time of the first of its consecutive failures; null if the last delivery was accepted."""


class StoredEndpoint(Endpoint, frozen=True):
    """One row of the table."""

    generations: Sequence[Generation]
    """Secrets of the endpoint, the newest first."""
    enabled_at: datetime
    failures: int
    failed_at: datetime | None
    last_failure: str
    breaker: int
    retry_at: datetime | None
    taken_at: datetime | None

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The endpoint of a row."""
        generations = [Generation.model_validate(secret) for secret in row["secrets"]]
        until = max(
            (generation.until for generation in generations if generation.until), default=None
        )
        return cls.model_validate({**row, "generations": generations, "old_secret_until": until})

    @property
    def document(self) -> Endpoint:
        """The endpoint as it is shown."""
        return Endpoint(**dict(self))

    @property
    def enabled(self) -> bool:
        """Whether it gets notices now."""
        return self.state == "enabled"

    def secrets(self, keys: Sequence[str], now: datetime) -> list[bytes]:
        """The secrets that sign now, the newest first.

        Raises:
            SettingsError: one of them can't be made any more.
        """
        return [
            secret.derive(keys, self.id, generation)
            for generation in self.generations
            if generation.until is None or generation.until > now
        ]

    def after(self, receipt: Receipt, now: datetime) -> Self:
        """The endpoint after an attempt; one that wants no more, or has failed for too long, is disabled."""
        if receipt.verdict == "taken":
            lately = self.taken_at and timedelta() <= now - self.taken_at < TAKEN_EVERY
            if lately and not self.failures:  # nothing to write down
                return self
            return self.model_copy(update={**HEALTHY, "taken_at": now})
        failures, breaker, retry_at = self.failures + 1, self.breaker, self.retry_at
        if self.failed_at and self.failed_at > now:  # the clock stepped back
            retry_at = None
        # Attempts that were under way when the breaker opened do not open it further.
        if failures >= NEEDED and not (retry_at and retry_at > now):
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(breaker, 30))
            breaker, retry_at = breaker + 1, now + pause * random.uniform(0.5, 1)
        if receipt.retry_after:
            retry_after = now + receipt.retry_after
            breaker, retry_at = max(breaker, 1), max(retry_at or retry_after, retry_after)
        failing_since = self.failing_since or now
        changed: dict[str, Any] = {
            "failures": failures,
            "failing_since": failing_since,
            "failed_at": now,
            "last_failure": receipt.code,
            "breaker": breaker,
            "retry_at": retry_at,
        }
        reason = ""
        if receipt.code == GONE:
            reason = en("it answered 410, gone")
        elif self.failing_for(failing_since, now) >= GIVE_UP:
            since = en("it has accepted nothing since {} UTC", f"{failing_since:%Y-%m-%d %H:%M}")
            reason = en("{}: {}", since, receipt.code)
        if reason and self.enabled:
            changed |= {"state": "disabled", "reason": reason, "changed_at": now}
        return self.model_copy(update=changed)

    def failing_for(self, first_failure: datetime | None, now: datetime) -> timedelta:
        """How long something has failed since, while the endpoint was enabled."""
        if first_failure is None:
            return timedelta()
        return now - max(first_failure, self.enabled_at)


async def find(connection: AsyncConnection, endpoint: str) -> StoredEndpoint | None:
    """The endpoint with this id."""
    return (await some(connection, [endpoint])).get(endpoint)


async def some(connection: AsyncConnection, ids: Collection[str]) -> dict[str, StoredEndpoint]:
    """The endpoints among these that exist, by id."""
    query = select(EndpointRow.__table__).where(EndpointRow.id.in_(ids))
    rows = (await connection.execute(query)).mappings()
    return {row["id"]: StoredEndpoint.of(row) for row in rows}


async def all_of(connection: AsyncConnection) -> Sequence[StoredEndpoint]:
    """All endpoints, the newest first."""
    query = select(EndpointRow.__table__).order_by(EndpointRow.created_at.desc(), EndpointRow.id)
    return [StoredEndpoint.of(row) for row in (await connection.execute(query)).mappings()]


async def change_health(connection: AsyncConnection, changed: Sequence[StoredEndpoint]) -> None:
    """Write down what attempts came to."""
    if changed:
        await connection.execute(
            _CHANGE_HEALTH,
            [
                {
                    "of_id": endpoint.id,
                    **{f"to_{name}": getattr(endpoint, name) for name in _HEALTH},
                }
                for endpoint in changed
            ],
        )


async def change(connection: AsyncConnection, endpoint: str, **values: Any) -> None:
    """Write other values into some columns."""
    await connection.execute(update(EndpointRow).where(EndpointRow.id == endpoint).values(values))


_CHANGE_HEALTH = (
    update(EndpointRow)
    .where(EndpointRow.id == bindparam("of_id"))
    .values(
        {name: bindparam(f"to_{name}", type_=getattr(EndpointRow, name).type) for name in _HEALTH}
    )
)
