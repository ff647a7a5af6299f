"""Endpoints, for whoever sees to them: the command line and the gateway."""

import asyncio
import builtins
import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import EndpointConflict, EndpointNotFound, ServiceUnavailable
from dingrelay_producers.gateway.backend.webhooks import (
    Endpoint,
    EndpointStatus,
    Health,
    IssuedEndpoint,
    Subscription,
)
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import ENDS
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.webhook_deliver import WebhookDeliver
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.maintenance import leader
from dingrelay_workers.webhooks import endpoints, notices, secret
from dingrelay_workers.webhooks.addresses import Reachable, Refused, literal
from dingrelay_workers.webhooks.endpoints import WRITER
from dingrelay_workers.webhooks.gate import Gate
from dingrelay_workers.webhooks.leader import ROLE
from dingrelay_workers.webhooks.models import DeliveryRow
from dingrelay_workers.webhooks.secret import Generation
from dingrelay_workers.webhooks.stored_endpoint import StoredEndpoint, columns

PATIENCE = 1.5
"""Seconds that a request waits for database and Redis; an HTTP client is told to come back within two."""
MOST = 500
"""Endpoints: each is looked at for each notice."""
ANSWER_PAUSE = 0.1
"""Seconds between two looks for the answer of a test."""


class SqlWebhookStore:
    """A `dingrelay_producers.gateway.backend.webhooks.WebhookStore`.

    Args:
        database: with its tables.
        redis: where deliveries are under way.
        settings: from what secrets are made, and what may be reached.
        patience: seconds that database and Redis may take.
    """

    def __init__(
        self, database: Database, redis: Redis, settings: Settings, *, patience: float = PATIENCE
    ) -> None:
        self._database = database
        self._redis = redis
        self._settings = settings
        self._patience = patience
        self._gate = Gate(redis)
        self._publisher: Publisher | None = None

    def close(self) -> None:
        """Close what it opened itself."""
        if self._publisher is not None:
            self._publisher.close()

    async def add(self, wanted: Subscription) -> IssuedEndpoint:
        """Tell this endpoint from now on."""
        self._check(wanted.url)
        endpoint_id, now = secret.new_id(), datetime.now(UTC)
        generation = self._generation(1)
        async with self._writing() as connection:
            if len(await endpoints.all_of(connection)) >= MOST:
                raise ContractError("url", f"there are {MOST} endpoints already; remove some")
            row = {
                **columns(wanted),
                "id": endpoint_id,
                "state": "enabled",
                "reason": "",
                "secrets": [generation.wire],
                "position": await notices.last_number(connection),
                "created_at": now,
                "changed_at": now,
            }
            await endpoints.put(connection, row)
            stored = await _found(connection, endpoint_id)
        await self._signal()
        return self._issued(stored, generation)

    async def list(self) -> Sequence[Endpoint]:
        """All endpoints, the newest first."""
        async with self._reading() as connection:
            return [stored.endpoint for stored in await endpoints.all_of(connection)]

    async def get(self, endpoint: str) -> EndpointStatus:
        """One of them."""
        async with self._reading() as connection:
            stored = await _found(connection, endpoint)
            backlog = await notices.count_between(connection, stored.position, None)
            if stored.replays:
                backlog += await notices.count_between(
                    connection, stored.replay_position, stored.replay_until
                )
            under_way = await connection.scalar(
                select(func.count())
                .select_from(DeliveryRow)
                .where(DeliveryRow.endpoint == endpoint)
            )
        async with self._asking():
            seen = await self._gate.look(endpoint)
        now = datetime.now(UTC)
        health = Health(
            backlog=backlog,
            under_way=under_way or 0,
            taken_at=seen.taken_at,
            failing_since=seen.failing_since,
            last_failure=seen.code,
            retry_at=seen.retry_at if seen.retry_at and seen.retry_at > now else None,
        )
        return EndpointStatus(stored.endpoint, health)

    async def pause(self, endpoint: str) -> Endpoint:
        """Tell it nothing for now."""
        async with self._writing() as connection:
            stored = await _found(connection, endpoint)
            if stored.endpoint.state == "disabled":
                raise EndpointConflict(endpoint, f"is disabled: {stored.endpoint.reason}")
            if stored.enabled:
                stored = await self._moved(connection, endpoint, "paused", "asked for")
        return stored.endpoint

    async def resume(self, endpoint: str, *, skip: bool = False) -> Endpoint:
        """Tell it again, and of what happened meanwhile, unless that is to be skipped."""
        async with self._writing() as connection:
            stored = await _found(connection, endpoint)
            if not stored.enabled:
                stored = await self._moved(connection, endpoint, "enabled", "")
            if skip:
                last = await notices.last_number(connection)
                await endpoints.change(
                    connection, endpoint, position=last, skipped=last, replay_until=0
                )
        async with self._asking():
            await self._gate.close(endpoint)
        await self._signal()
        return stored.endpoint

    async def rotate(self, endpoint: str, *, overlap: timedelta) -> IssuedEndpoint:
        """Give it a new secret; the present one signs as well for so long."""
        until = datetime.now(UTC) + overlap
        async with self._writing() as connection:
            stored = await _found(connection, endpoint)
            present = stored.generations[0]
            generation = self._generation(present.number + 1)
            # Two at a time: whoever rotates twice within an overlap has the oldest end.
            old = [replace(present, until=until)] if overlap else []
            generations = [each.wire for each in (generation, *old)]
            await endpoints.change(
                connection, endpoint, secrets=generations, changed_at=datetime.now(UTC)
            )
            stored = await _found(connection, endpoint)
        return self._issued(stored, generation)

    async def replay(self, endpoint: str, *, since: datetime) -> int:
        """Tell it once more of what it was told since then; how many notices there are at most."""
        async with self._writing() as connection:
            stored = await _found(connection, endpoint)
            if not stored.enabled:
                raise EndpointConflict(
                    endpoint,
                    f"is {stored.endpoint.state}; it gets these notices once it is resumed",
                )
            first = await notices.first_since(connection, since)
            if first is None or first > stored.position:
                return 0
            position, until = first - 1, stored.position
            if stored.replays:  # one that is under way is not cut short
                position = min(position, stored.replay_position)
            await endpoints.change(
                connection,
                endpoint,
                skipped=min(stored.skipped, position),
                replay_round=stored.replay_round + 1,
                replay_position=position,
                replay_until=until,
            )
            count = await notices.count_between(connection, position, until)
        await self._signal()
        return count

    async def remove(self, endpoint: str) -> None:
        """Forget it."""
        async with self._writing() as connection:
            if not await endpoints.remove(connection, endpoint):
                raise EndpointNotFound(endpoint)
        async with self._asking():
            await self._gate.remove(endpoint)

    async def test(self, endpoint: str, *, within: float) -> Mapping[str, Any] | None:
        """Tell it nothing, and see what comes of it."""
        async with self._reading() as connection:
            await _found(connection, endpoint)
        job = WebhookDeliver(endpoint=endpoint, until=datetime.now(UTC), test=True)
        draft = record.draft(job, key=uuid.uuid4().hex)
        async with self._asking():
            answer = await run_async(self._redis, record.enqueue(draft))
        enqueued = record.enqueued(draft, answer)
        if enqueued.wakeup:
            self._publisher = self._publisher or Publisher(self._settings)
            await asyncio.to_thread(self._publisher.publish, [enqueued.wakeup])
        return await self._answer(draft.id, within)

    async def _answer(self, job_id: str, within: float) -> Mapping[str, Any] | None:
        deadline = asyncio.get_running_loop().time() + within
        while asyncio.get_running_loop().time() < deadline:
            async with self._asking():
                found: Any = await self._redis.hmget(keys.job(job_id), "state", "result", "error")
            state, result, error = found
            if state is not None and state.decode() in ENDS:
                if result is None:
                    kept = json.loads(error or b"{}")
                    return {
                        "verdict": "failed",
                        "code": kept.get("code", state.decode()),
                        "reason": kept.get("message", "the test did not come to its end"),
                        "status": 0,
                    }
                kept = json.loads(result)
                return {name: kept[name] for name in ("verdict", "code", "reason", "status")}
            await asyncio.sleep(ANSWER_PAUSE)
        return None

    def _check(self, url: str) -> None:
        """Refuse what could be told nothing, or must not be.

        Raises:
            ContractError: names what is wrong with it.
        """
        parts = urlsplit(url)
        if parts.scheme == "celery":
            return
        if parts.scheme != "https" and self._settings.env == "production":
            raise ContractError("url", "must be https in production")
        address = literal(parts.hostname or "")
        if address is None:
            return
        try:
            Reachable.from_settings(self._settings).check(address)
        except Refused:
            raise ContractError(
                "url", "its address is not public, and DINGRELAY_WEBHOOK_NETWORKS does not allow it"
            ) from None

    def _generation(self, number: int) -> Generation:
        return Generation(number, secret.fingerprint(self._settings.webhook_keys[0]))

    def _issued(self, stored: StoredEndpoint, generation: Generation) -> IssuedEndpoint:
        made = secret.derive(self._settings.webhook_keys, stored.id, generation)
        return IssuedEndpoint(stored.endpoint, secret.spelled(made))

    async def _moved(
        self, connection: AsyncConnection, endpoint: str, state: str, reason: str
    ) -> StoredEndpoint:
        await endpoints.change(
            connection, endpoint, state=state, reason=reason, changed_at=datetime.now(UTC)
        )
        return await _found(connection, endpoint)

    async def _signal(self) -> None:
        """The state in SQL is what counts; without this word the fleet looks within seconds."""
        try:
            async with self._asking():
                await leader.signal(self._redis, ROLE)
        except ServiceUnavailable:
            return

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[None]:
        """Turn what Redis raises, and its silence, into our error."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except (RedisError, OSError) as error:  # TimeoutError is one of the latter
            raise ServiceUnavailable(
                f"DINGRELAY_REDIS_URL: Redis can't be reached ({builtins.type(error).__name__})"
            ) from None

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(self._patience), self._database.read() as connection:
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(self._patience), self._database.write(WRITER) as connection:
            yield connection


async def _found(connection: AsyncConnection, endpoint: str) -> StoredEndpoint:
    stored = await endpoints.find(connection, endpoint)
    if stored is None:
        raise EndpointNotFound(endpoint)
    return stored
