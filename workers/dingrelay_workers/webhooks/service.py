"""Endpoints, for their administration by command line and gateway."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import EndpointConflict, EndpointNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers import minutes
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.http.api_keys import MOST_OLD_SECRETS
from dingrelay_workers.maintenance.leader import NOTICES
from dingrelay_workers.outbox import notice_types, outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow
from dingrelay_workers.outbox.notice import Notice, Subscription
from dingrelay_workers.webhooks import deliveries, endpoints, secret
from dingrelay_workers.webhooks.addresses import AddressRefused, Reachable, literal
from dingrelay_workers.webhooks.documents import (
    DeliveryDocument,
    EndpointStatus,
    IssuedEndpoint,
    ResumedEndpoint,
)
from dingrelay_workers.webhooks.endpoints import WRITER, Endpoint, StoredEndpoint
from dingrelay_workers.webhooks.secret import Generation

TIMEOUT = 1.5
"""Seconds that a request waits for database and Redis; a refused client retries within two."""
MOST = 500
"""Endpoints: each is looked at for each notice."""
ANSWER_PAUSE = 0.1
"""Seconds between two looks for the answer of a test."""


class WebhookService:
    """The endpoints of webhooks.

    Every method raises `ServiceUnavailable` where the database or Redis is away, and those that take
    an id `EndpointNotFound`.

    Args:
        database: with its tables.
        redis: where the leader of webhooks listens.
        settings: from what secrets are made, and what may be reached.
        timeout: seconds that database and Redis may take.
    """

    def __init__(
        self, database: Database, redis: Redis, settings: Settings, *, timeout: float = TIMEOUT
    ) -> None:
        self._database = database
        self._redis = redis
        self._settings = settings
        self._timeout = timeout

    async def add(self, wanted: Subscription, *, once: str | None = None) -> IssuedEndpoint:
        """Tell this endpoint from now on."""
        self._check(wanted.url)
        endpoint_id, now = secret.new_id(once), clock.now()
        generation = self._generation(1)
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            known = await endpoints.all_of(connection)
            for stored in known:
                if stored.id == endpoint_id:
                    return self._issued(stored, stored.generations[0])
            if len(known) >= MOST:
                raise ContractError("url", en("there are {} endpoints already; remove some", MOST))
            row = {
                **wanted.model_dump(mode="json"),
                "id": endpoint_id,
                "state": "enabled",
                "reason": "",
                "secrets": [generation.model_dump(mode="json")],
                "created_at": now,
                "changed_at": now,
                "enabled_at": now,
            }
            await connection.execute(insert(EndpointRow), row)
            stored = await _found(connection, endpoint_id)
            after = wanted.model_dump(exclude={"url"}) | {"host": urlsplit(wanted.url).hostname}
            await audit.record(connection, "add", "webhook", endpoint_id, after=after)
        await self._signal()
        return self._issued(stored, generation)

    async def list(self) -> Sequence[Endpoint]:
        """All endpoints, the newest first."""
        async with answering(self._timeout), self._database.read() as connection:
            return [stored.document for stored in await endpoints.all_of(connection)]

    async def find(self, endpoint: str) -> Endpoint:
        """One of them, without its health."""
        async with answering(self._timeout), self._database.read() as connection:
            return (await _found(connection, endpoint)).document

    async def get(self, endpoint: str) -> EndpointStatus:
        """One of them, with its health."""
        async with answering(self._timeout), self._database.read() as connection:
            stored = await _found(connection, endpoint)
            now = clock.now()
            backlog, under_way = await deliveries.counts(connection, endpoint, now)
        accepted = (await self.accepted([endpoint]))[endpoint]
        health = {**dict(stored), "backlog": backlog, "under_way": under_way, "minutes": accepted}
        if stored.retry_at and stored.retry_at <= now:
            health["retry_at"] = None
        return EndpointStatus.model_validate({**dict(stored), "health": health})

    async def accepted(self, ids: Collection[str]) -> Mapping[str, Sequence[int]]:
        """Endpoint → the notices that it accepted in each of the last minutes, the present one last."""
        async with asking():
            found = await minutes.read(self._redis, list(map(minutes.endpoint, ids)))
        return {each: found[minutes.endpoint(each)] for each in ids}

    async def deliveries(
        self,
        endpoint: str,
        *,
        state: DeliveryStateName | None = None,
        behind: int | None = None,
        limit: int,
    ) -> Sequence[DeliveryDocument]:
        """Deliveries of an endpoint one by one, of the latest notices first, behind the notice with this number."""
        async with answering(self._timeout), self._database.read() as connection:
            await _found(connection, endpoint)
            rows = await deliveries.of_endpoint(connection, endpoint, state, behind, limit)
        return [DeliveryDocument.model_validate(row) for row in rows]

    async def pause(self, endpoint: str) -> Endpoint:
        """Tell it nothing for now."""
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _found(connection, endpoint)
            if stored.state == "disabled":
                raise EndpointConflict(endpoint, en("is disabled: {}", stored.reason))
            if stored.enabled:
                stored = await self._moved(connection, endpoint, "paused", en("asked for"))
                await audit.record(connection, "pause", "webhook", endpoint)
        return stored.document

    async def resume(
        self,
        endpoint: str,
        *,
        skip: bool = False,
        since: datetime | None = None,
        numbers: Collection[int] = (),
    ) -> ResumedEndpoint:
        """Deliver to it again, also what happened since it was paused, unless that is to be skipped.

        Args:
            endpoint: its id.
            skip: drop what waits.
            since: deliver once more what happened from this moment on.
            numbers: deliver these notices once more.
        """
        after = {"skip": skip, "since": since, "notices": sorted(numbers)}
        count = behind = 0
        while True:
            async with answering(self._timeout), self._database.write(WRITER) as connection:
                stored = await _found(connection, endpoint)
                if not behind:
                    before = {"state": stored.state, "reason": stored.reason}
                    given = {name: value for name, value in after.items() if value}
                    await audit.record(
                        connection, "resume", "webhook", endpoint, before=before, after=given
                    )
                    if not stored.enabled:
                        stored = await self._moved(connection, endpoint, "enabled", "")
                        await endpoints.change(connection, endpoint, enabled_at=stored.changed_at)
                    await deliveries.resume(connection, endpoint, skip=skip)
                    await endpoints.change(connection, endpoint, **endpoints.HEALTHY)
                some, last = await deliveries.replay(connection, stored, behind, since, numbers)
                count += some
                if last is None and since is None and count < len(set(numbers)):
                    raise EndpointConflict(endpoint, en("has no delivery of some of these notices"))
            if last is None:
                break
            behind = last
        await self._signal()
        return ResumedEndpoint(**dict(stored), notices=count)

    async def rotate(self, endpoint: str, *, overlap: timedelta) -> IssuedEndpoint:
        """Give it a new secret; those before sign for so long as well, older ones no longer than before.

        So a rotation that is repeated ends no secret that the receiver verifies with.
        """
        now = clock.now()
        until = now + overlap
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _found(connection, endpoint)
            present, *older = stored.generations
            generation = self._generation(present.number + 1)
            ends = [(present, until)] + [(each, each.until) for each in older if each.until]
            old = [
                each.model_copy(update={"until": min(end, until)})
                for each, end in ends
                if overlap and end > now
            ]
            if len(old) > MOST_OLD_SECRETS:
                problem = en("has {} old secrets; an overlap of 0s ends them", MOST_OLD_SECRETS)
                raise EndpointConflict(endpoint, problem)
            generations = [each.model_dump(mode="json") for each in (generation, *old)]
            await endpoints.change(
                connection, endpoint, secrets=generations, changed_at=clock.now()
            )
            after = {"old_secret_until": until if overlap else None}
            await audit.record(connection, "rotate", "webhook", endpoint, after=after)
            stored = await _found(connection, endpoint)
        return self._issued(stored, generation)

    async def remove(self, endpoint: str) -> None:
        """Forget it."""
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            name = (await _found(connection, endpoint)).name
            await audit.record(connection, "remove", "webhook", endpoint, before={"name": name})
            await connection.execute(delete(EndpointRow).where(EndpointRow.id == endpoint))
            await connection.execute(delete(DeliveryRow).where(DeliveryRow.endpoint == endpoint))

    async def test(
        self, endpoint: str, *, within: float, stopping: asyncio.Event | None = None
    ) -> DeliveryDocument:
        """Send it a test notice, and wait for what the leader writes down of its delivery.

        Args:
            endpoint: its id.
            within: longest wait in seconds.
            stopping: ends the wait.
        """
        at = clock.now()
        data = {"endpoint": endpoint}
        notice = Notice(type=notice_types.TEST, app="default", at=at, data=data)
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            await _found(connection, endpoint)
            (number,) = (await outbox.record(connection, [notice])).values()
            row = {"endpoint": endpoint, "notice": number, "state": "test"}
            await connection.execute(insert(DeliveryRow), row)
        await self._signal()
        deadline = asyncio.get_running_loop().time() + within
        while True:
            (found,) = await self.deliveries(endpoint, behind=number + 1, limit=1)
            late = asyncio.get_running_loop().time() >= deadline or (stopping and stopping.is_set())
            if found.state == "tested" or late:
                return found
            await asyncio.sleep(ANSWER_PAUSE)

    def _check(self, url: str) -> None:
        """Refuse a URL that can't get notices, or must not.

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
        except AddressRefused:
            raise ContractError(
                "url", "its address is not public, and DINGRELAY_WEBHOOK_NETWORKS does not allow it"
            ) from None

    def _generation(self, number: int) -> Generation:
        made_from = secret.fingerprint(self._settings.webhook_keys[0])
        return Generation(number=number, made_from=made_from)

    def _issued(self, stored: StoredEndpoint, generation: Generation) -> IssuedEndpoint:
        made = secret.derive(self._settings.webhook_keys, stored.id, generation)
        until = stored.old_secret_until
        return IssuedEndpoint(id=stored.id, secret=secret.spelled(made), old_secret_until=until)

    async def _moved(
        self, connection: AsyncConnection, endpoint: str, state: str, reason: str
    ) -> StoredEndpoint:
        await endpoints.change(
            connection, endpoint, state=state, reason=reason, changed_at=clock.now()
        )
        return await _found(connection, endpoint)

    async def _signal(self) -> None:
        """The state in SQL is what counts; without this word the fleet looks within seconds."""
        with suppress(RedisError, OSError):  # TimeoutError is one of the latter
            async with asyncio.timeout(self._timeout):
                await NOTICES.announce(self._redis)


async def _found(connection: AsyncConnection, endpoint: str) -> StoredEndpoint:
    stored = await endpoints.find(connection, endpoint)
    if stored is None:
        raise EndpointNotFound(endpoint)
    return stored
