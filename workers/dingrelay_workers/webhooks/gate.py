"""The gate before each endpoint: few deliveries at once over the fleet, and a breaker.

Who finds no place waits on the schedule, holds no place in a worker, and spends no attempt. A delivery
that gives its place back has the next one looked at, so a long row goes as fast as the endpoint does.
While the endpoint fails for all, nobody calls it but one delivery at a time, now and then.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup, transition
from dingrelay_producers.store.scripts import run_async
from dingrelay_tasks.context import Receipt

_PACKAGE = "dingrelay_workers.webhooks"
_ENTER = transition(_PACKAGE, "gate", "enter")
_LEAVE = transition(_PACKAGE, "gate", "leave_gate")
_RESUME = transition(_PACKAGE, "gate", "resume_deliveries")
_REMOVE = transition(_PACKAGE, "gate", "remove")

PLACES = 4
"""Deliveries to one endpoint at once, over the fleet."""
NEEDED = 5
"""Failures in a row that open the breaker: more than are under way at once."""
FIRST_PAUSE = timedelta(seconds=5)
"""Before the first try of a breaker that opened; it doubles."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Before any try: what an endpoint that is back waits at most."""

REMOVED_AT_ONCE = 500
"""Deliveries of a removed endpoint that one script makes due, so that it does not hold Redis up."""
REMOVE_PAUSE, REMOVE_TRIES = 0.05, 20
"""Seconds until those are looked at anew that were just about to wait, and how often: one whose worker
died in that moment never does, and ends once another worker runs it."""


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint does, in moments of Redis's clock; None for what is not known."""

    failures: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    code: str = ""
    taken_at: datetime | None = None
    retry_at: datetime | None = None

    @property
    def failing_for(self) -> timedelta:
        """From the first of its failures in a row to the last one."""
        if self.failing_since is None or self.failed_at is None:
            return timedelta()
        return self.failed_at - self.failing_since


@dataclass(frozen=True, slots=True)
class Left:
    """What giving a place back brought.

    Attributes:
        opened: the breaker has opened.
        wakeups: to publish.
    """

    opened: bool
    wakeups: Sequence[Wakeup]


class Gate:
    """The gates of all endpoints.

    Args:
        redis: where they are.
        timeout: seconds that a request may take. A place lasts for twice as long, so that a request
            that uses all of its time does not let a fifth one in.
    """

    def __init__(self, redis: Redis, *, timeout: float = 0.0) -> None:
        self._redis = redis
        self._place_ms = max(keys.WEBHOOK_PLACE_MS, int(2_000 * timeout))

    async def enter(self, endpoint: str, delivery: str, *, must_wait: bool = False) -> bool | None:
        """Take a place.

        Returns:
            False: the delivery waits, and will be looked at when one is free. None: the endpoint is
            removed.
        """
        call = _ENTER.call(
            _keys(endpoint),
            [
                delivery,
                self._place_ms,
                PLACES,
                int(must_wait),
                keys.WEBHOOK_WAITING_TTL_MS,
            ],
        )
        return {1: True, 0: False, -1: None}[await run_async(self._redis, call)]

    async def leave(self, endpoint: str, delivery: str, receipt: Receipt | None) -> Left:
        """Give the place back, and tell what came of it, if anything did."""
        verdict: Literal["taken", "failed", ""] = ""
        if receipt and receipt.verdict != "void":
            verdict = receipt.verdict
        call = _LEAVE.call(
            _keys(endpoint),
            [
                delivery,
                PLACES,
                verdict,
                receipt.code if receipt else "",
                NEEDED,
                _milliseconds(FIRST_PAUSE),
                _milliseconds(LONGEST_PAUSE),
                _milliseconds(receipt.retry_after) if receipt else 0,
                random.random(),
                keys.WEBHOOK_GATE_TTL_MS,
                keys.WEBHOOK_GATE_TTL_MS,
            ],
        )
        opened, woken = await run_async(self._redis, call)
        return Left(bool(opened), [_wakeup(*fields) for fields in woken])

    async def close(self, endpoint: str) -> None:
        """Forget what the endpoint failed before: who waits may go, and is woken by the leader."""
        await run_async(self._redis, _RESUME.call(_keys(endpoint), [0, 1]))

    async def resume(self, endpoint: str) -> tuple[Health, list[Wakeup]]:
        """Wake who waits and may go by now.

        Returns:
            How the endpoint does, and the wake-ups to publish.
        """
        call = _RESUME.call(_keys(endpoint), [PLACES, 0])
        fields, woken = await run_async(self._redis, call)
        return _health(fields), [_wakeup(*each) for each in woken]

    async def look(self, endpoint: str) -> Health:
        """How the endpoint does."""
        fields: Any = await self._redis.hgetall(keys.webhook_gate(endpoint))
        return _health([part for pair in fields.items() for part in pair])

    async def failed(self, endpoints: Sequence[str]) -> dict[str, int]:
        """How many deliveries of each endpoint failed by themselves and will be tried again."""
        pipe = self._redis.pipeline(transaction=False)
        for endpoint in endpoints:
            pipe.zcard(keys.webhook_failed(endpoint))
        counts: list[int] = await pipe.execute() if endpoints else []
        return dict(zip(endpoints, counts, strict=True))

    async def end(self, deliveries: Sequence[tuple[str, str]]) -> None:
        """Forget deliveries that have ended, by their endpoints."""
        if deliveries:
            pipe = self._redis.pipeline(transaction=False)
            for endpoint, delivery in deliveries:
                pipe.zrem(keys.webhook_failed(endpoint), delivery)
                pipe.zrem(keys.webhook_waiting(endpoint), delivery)
            await pipe.execute()

    async def remove(self, endpoint: str) -> None:
        """Forget all of an endpoint that is removed; the deliveries that wait for it end now.

        Should this be cut short, those that are left look by themselves.
        """
        call = _REMOVE.call(_keys(endpoint), [REMOVED_AT_ONCE, keys.WEBHOOK_WAITING_TTL_MS])
        left, unchanged = await run_async(self._redis, call), 0
        while left and unchanged < REMOVE_TRIES:
            before = left
            await asyncio.sleep(REMOVE_PAUSE)
            left = await run_async(self._redis, call)
            unchanged = unchanged + 1 if left >= before else 0


def _keys(endpoint: str) -> list[str]:
    return [
        keys.webhook_gate(endpoint),
        keys.webhook_places(endpoint),
        keys.webhook_waiting(endpoint),
        keys.webhook_failed(endpoint),
    ]


def _milliseconds(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


def _health(pairs: Sequence[bytes]) -> Health:
    texts = [text.decode() for text in pairs]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))

    def moment(name: str) -> datetime | None:
        return datetime.fromtimestamp(float(fields[name]) / 1000, UTC) if name in fields else None

    return Health(
        failures=int(fields.get("failures", 0)),
        failing_since=moment("since"),
        failed_at=moment("failed"),
        code=fields.get("code", ""),
        taken_at=moment("taken"),
        retry_at=moment("until"),
    )


def _wakeup(*fields: Any) -> Wakeup:
    job_id, kind, queue, app, lane, summary = (text.decode() for text in fields[:-1])
    return Wakeup(job_id, kind, queue, app, lane, summary, at=fields[-1])
