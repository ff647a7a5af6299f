"""Checks forms against the schemas of their templates, which the fleet reads once in ten minutes.

A wrong form would cost a call of the month to be refused, and one more each time that it is tried.
The schema is shared in Redis; one worker reads it, under the limits like any call, and the others
wait for it. Where it can't be read the approval is created all the same: DingTalk decides.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store import keys, record
from dingrelay_producers.store.states import OwnershipLost
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.calls.errors import Cancelled
from dingrelay_workers.dingtalk import approval_schema
from dingrelay_workers.dingtalk.apis import APPROVAL_SCHEMA
from dingrelay_workers.dingtalk.approval_form import Form
from dingrelay_workers.dingtalk.approval_schema import Schema
from dingrelay_workers.dingtalk.errors import DingTalkError, Final
from dingrelay_workers.dingtalk.request import Calls, Request
from dingrelay_workers.limiter.slot import Draining
from dingrelay_workers.store.records import RedisTime

REREAD_MS = 60_000
"""A schema that a form contradicts is read again, but not more often: it may have been edited."""
FAILURE_TTL_MS = 30_000
"""A schema that could not be read for a passing reason is tried again after this."""
TIMEOUT = 3.0
"""Seconds that a job waits for another one's reading; then it goes on without."""
LOOK_EVERY = 0.1
"""Seconds between two looks for it."""
MOST_KEPT = 1_000
"""Schemas that a process keeps at hand."""
LARGEST = 512 * 1024
"""Characters of a schema that is kept; a larger one is not checked against."""

log = get_logger("dingrelay.approvals")


@dataclass(frozen=True, slots=True)
class _SchemaReading:
    """A schema as it was read.

    Attributes:
        schema: None if it could not be read.
        text: how it is kept in Redis.
        read: when it was read, in ms of Redis's clock.
        contradicted_at: when it was last read because a form contradicted it; 0 if it never was.
    """

    schema: Schema | None
    text: str
    read: int
    contradicted_at: int

    @classmethod
    def of(cls, text: str) -> "_SchemaReading":
        reading: dict[str, Any] = json.loads(text)
        schema = Schema.of(reading["items"]) if reading["items"] else None
        return cls(schema, text, reading["read"], reading["doubted"])


class FormChecks:
    """Checks the forms of one process's jobs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._kept: dict[str, tuple[_SchemaReading, float]] = {}

    async def check(self, calls: Calls, now: RedisTime, process_code: str, form: Form) -> None:
        """Check a form before an approval is created with it.

        Args:
            calls: reads the schema if it is not cached.
            now: Redis's clock.
            process_code: the template.
            form: (name, value) of its fields.

        Raises:
            ContractError: DingTalk would refuse the form; names the field.
        """
        key = keys.form_schema(calls.app, process_code)
        began = now.now()
        reading = await self._cached_schema(key) or await self._read(calls, now, process_code, None)
        problem = _problem(reading, form)
        if problem and reading and reading.read < began:
            problem = _problem(await self._read(calls, now, process_code, reading), form)
        if problem:
            raise problem

    async def _cached_schema(self, key: str) -> _SchemaReading | None:
        reading, until = self._kept.get(key, (None, 0.0))
        if reading and time.monotonic() < until:
            return reading
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(key)
        pipe.pttl(key)
        text, ttl_ms = await pipe.execute()
        return self._keep(key, text.decode(), ttl_ms) if text else None

    def _keep(self, key: str, text: str, ttl_ms: int) -> _SchemaReading:
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        memo = self._kept.get(key)
        reading = memo[0] if memo and memo[0].text == text else _SchemaReading.of(text)
        self._kept[key] = reading, time.monotonic() + ttl_ms / 1000
        return reading

    async def _read(
        self, calls: Calls, now: RedisTime, process_code: str, contradicted: _SchemaReading | None
    ) -> _SchemaReading | None:
        """Read the schema, unless another worker does; None if none has it in time.

        With `contradicted`, one that was read after it, or it if it was read for such a reason just now.
        """
        key = keys.form_schema(calls.app, process_code)
        lease = keys.form_schema_reader(calls.app, process_code)
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            reading = await self._good(key, now, contradicted)
            if reading:
                return reading
            if await self._redis.set(lease, 1, nx=True, px=keys.FORM_SCHEMA_READER_TTL_MS):
                try:
                    # Another worker may have read it just before.
                    return await self._good(key, now, contradicted) or await self._fetch(
                        calls, now, process_code, contradicting=contradicted is not None
                    )
                finally:
                    await self._redis.delete(lease)
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def _good(
        self, key: str, now: RedisTime, contradicted: _SchemaReading | None
    ) -> _SchemaReading | None:
        """The schema in Redis, unless a form contradicts it and it may be read again."""
        self._kept.pop(key, None)
        reading = await self._cached_schema(key)
        if reading is None or contradicted is None or reading.read > contradicted.read:
            return reading
        return reading if now.now() - reading.contradicted_at < REREAD_MS else None

    async def _fetch(
        self, calls: Calls, now: RedisTime, process_code: str, *, contradicting: bool
    ) -> _SchemaReading | None:
        items: list[Any] | None = None
        ttl_ms = keys.FORM_SCHEMA_TTL_MS
        try:
            answer = await calls.send(Request(APPROVAL_SCHEMA, query={"processCode": process_code}))
            items = approval_schema.items(answer)
        except (Cancelled, Draining, OwnershipLost, RedisError):
            raise
        except DingTalkError as error:
            log.info("schema_unreadable", process_code=process_code, reason=str(error))
            if not isinstance(error, Final):
                ttl_ms = FAILURE_TTL_MS
        except Exception as error:  # noqa: BLE001 - a limit, say, that is not the creation's
            log.info("schema_not_read", process_code=process_code, reason=str(error))
            return None
        read = now.now()
        reading = {"items": items, "read": read, "doubted": read if contradicting else 0}
        text = record.canonical_json(reading)
        if len(text) > LARGEST:
            text = record.canonical_json({**reading, "items": None})
        key = keys.form_schema(calls.app, process_code)
        await self._redis.set(key, text, px=ttl_ms)
        return self._keep(key, text, ttl_ms)


def _problem(reading: _SchemaReading | None, form: Form) -> ContractError | None:
    return reading.schema.problem(form) if reading and reading.schema else None
