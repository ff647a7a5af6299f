"""Verbs of endpoints: added, paused, resumed, tested and removed, and given new secrets; and how one stands.

An endpoint receives no more than the actor who adds it may read, and one that receives more is not there for an actor.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach, current_seed
from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import EndpointConflict, EndpointNotFound, NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_tasks.sentence import en
from dingrelay_workers import minutes
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.http.api_keys import ANY, MOST_OLD_SECRETS, TARGET, covers_name
from dingrelay_workers.keys.documents import AS_USUAL, RotationRequest
from dingrelay_workers.maintenance.leader import NOTICES
from dingrelay_workers.outbox import notice_types, outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow
from dingrelay_workers.outbox.notice import Notice, Subscription
from dingrelay_workers.webhooks import deliveries, endpoints, secret
from dingrelay_workers.webhooks.addresses import AddressRefused, Reachable, literal
from dingrelay_workers.webhooks.documents import (
    ALL_THAT_WAITS,
    DeliveryDocument,
    EndpointRequest,
    EndpointStatus,
    IssuedEndpoint,
    ResumedEndpoint,
    ResumeRequest,
)
from dingrelay_workers.webhooks.endpoints import WRITER, Endpoint, StoredEndpoint
from dingrelay_workers.webhooks.secret import Generation

TIMEOUT = 1.5
"""Seconds that a request waits for database and Redis; a refused client retries within two."""
MOST = 500
"""Endpoints: each is looked at for each notice."""
ANSWER_PAUSE = 0.1
"""Seconds between two looks for the answer of a test."""

_READ, _WRITE = "webhooks:read", "webhooks:write"


class WebhookService:
    """The endpoints of webhooks.

    Every method raises `ServiceUnavailable` where the database or Redis is away, and those that take
    an id `EndpointNotFound`. All are for the actor of the present task: an endpoint that receives what the actor may
    not read is not there for it.

    Args:
        database: with its tables.
        redis: where the leader of webhooks listens.
        settings: from what secrets are made, and what may be reached.
        timeout: seconds that database and Redis may take.
    """

    NOUN = "webhook"

    def __init__(
        self, database: Database, redis: Redis, settings: Settings, *, timeout: float = TIMEOUT
    ) -> None:
        self._database = database
        self._redis = redis
        self._settings = settings
        self._timeout = timeout

    @verb("POST /v1/webhooks", scope=_WRITE)
    async def add(self, request: EndpointRequest) -> IssuedEndpoint:
        """Add an endpoint that receives notices.

        It receives no more than the key may read itself. The secret is shown once.
        """
        subscription = _narrowed(request.subscription())
        self._check(subscription.url)
        endpoint_id, now = secret.new_id(current_seed()), clock.now()
        generation = self._generation(1)
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored_endpoints = await endpoints.all_of(connection)
            for stored in stored_endpoints:
                if stored.id == endpoint_id:
                    return self._issued(stored, stored.generations[0])
            if len(stored_endpoints) >= MOST:
                raise ContractError("url", en("there are {} endpoints already; remove some", MOST))
            row = {
                **subscription.model_dump(mode="json"),
                "id": endpoint_id,
                "state": "enabled",
                "reason": "",
                "secrets": [generation.model_dump(mode="json")],
                "created_at": now,
                "changed_at": now,
                "enabled_at": now,
            }
            await connection.execute(insert(EndpointRow), row)
            stored = await _visible(connection, endpoint_id, _WRITE)
            after = subscription.model_dump(exclude={"url"}) | {
                "host": urlsplit(subscription.url).hostname
            }
            await audit.record_verb(
                connection, self.add, endpoint_id, app=_app_of(stored), after=after
            )
        await self._signal()
        return self._issued(stored, generation)

    async def list(self) -> Sequence[Endpoint]:
        """The endpoints, the newest first."""
        async with answering(self._timeout), self._database.read() as connection:
            stored = await endpoints.all_of(connection)
        return [endpoint.document for endpoint in stored if _excess(endpoint, _READ) is None]

    async def find(self, endpoint: str) -> Endpoint:
        """One of them, without its health."""
        async with answering(self._timeout), self._database.read() as connection:
            return (await _visible(connection, endpoint, _READ)).document

    def may_change(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint that the actor sees is the actor's to change as well."""
        return _excess(endpoint, _WRITE) is None

    async def get(self, endpoint: str) -> EndpointStatus:
        """One of them, with its health."""
        async with answering(self._timeout), self._database.read() as connection:
            stored = await _visible(connection, endpoint, _READ)
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
            counts = await minutes.read(self._redis, list(map(minutes.endpoint, ids)))
        return {endpoint: counts[minutes.endpoint(endpoint)] for endpoint in ids}

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
            await _visible(connection, endpoint, _READ)
            rows = await deliveries.of_endpoint(connection, endpoint, state, behind, limit)
        return [DeliveryDocument.model_validate(row) for row in rows]

    @verb("POST /v1/webhooks/{id}/pause", scope=_WRITE, done=en("Paused; its notices are kept."))
    async def pause(self, endpoint: str) -> Endpoint:
        """Stop deliveries to an endpoint for now.

        Its notices are kept.
        """
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _visible(connection, endpoint, _WRITE)
            if stored.state == "disabled":
                raise EndpointConflict(endpoint, en("is disabled: {}", stored.reason))
            if stored.enabled:
                stored = await self._moved(connection, endpoint, "paused", en("asked for"))
                await audit.record_verb(connection, self.pause, endpoint, app=_app_of(stored))
        return stored.document

    @verb("POST /v1/webhooks/{id}/resume", scope=_WRITE, done=en("Resumed."))
    async def resume(
        self, endpoint: str, request: ResumeRequest = ALL_THAT_WAITS
    ) -> ResumedEndpoint:
        """Resume deliveries to an endpoint, including the notices of the meantime, and deliver others again."""
        since, until, numbers = request.since, request.until, sorted(set(request.numbers))
        after = {"skip": request.skip, "since": since, "until": until, "notices": numbers}
        count = behind = 0
        while True:
            async with answering(self._timeout), self._database.write(WRITER) as connection:
                stored = await _visible(connection, endpoint, _WRITE)
                if not behind:
                    await audit.record_verb(
                        connection,
                        self.resume,
                        endpoint,
                        app=_app_of(stored),
                        before={"state": stored.state, "reason": stored.reason},
                        after={name: value for name, value in after.items() if value},
                    )
                    if not stored.enabled:
                        stored = await self._moved(connection, endpoint, "enabled", "")
                        await endpoints.change(connection, endpoint, enabled_at=stored.changed_at)
                    await deliveries.resume(connection, endpoint, skip=request.skip)
                    await endpoints.change(connection, endpoint, **endpoints.HEALTHY)
                replayed, last = await deliveries.replay(
                    connection, stored, behind, numbers, since, until
                )
                count += replayed
                if last is None and not request.spans and count < len(numbers):
                    raise EndpointConflict(endpoint, en("has no delivery of some of these notices"))
            if last is None:
                break
            behind = last
        await self._signal()
        return ResumedEndpoint(**dict(stored), notices=count)

    @verb("POST /v1/webhooks/{id}/rotate", scope=_WRITE)
    async def rotate(self, endpoint: str, request: RotationRequest = AS_USUAL) -> IssuedEndpoint:
        """Give an endpoint a new secret.

        It is shown this once only.
        """
        # Those before sign for the overlap as well, older ones no longer than before. So a rotation that is repeated
        # ends no secret that the receiver verifies with.
        now, overlap = clock.now(), request.length()
        until = now + overlap
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _visible(connection, endpoint, _WRITE)
            present, *older = stored.generations
            generation = self._generation(present.number + 1)
            ends = [(present, until)] + [
                (older_generation, older_generation.until)
                for older_generation in older
                if older_generation.until
            ]
            old = [
                old_generation.model_copy(update={"until": min(end, until)})
                for old_generation, end in ends
                if overlap and end > now
            ]
            if len(old) > MOST_OLD_SECRETS:
                problem = en("has {} old secrets; an overlap of 0s ends them", MOST_OLD_SECRETS)
                raise EndpointConflict(endpoint, problem)
            generations = [
                kept_generation.model_dump(mode="json") for kept_generation in (generation, *old)
            ]
            await endpoints.change(
                connection, endpoint, secrets=generations, changed_at=clock.now()
            )
            after = {"old_secret_until": until if overlap else None}
            await audit.record_verb(
                connection, self.rotate, endpoint, app=_app_of(stored), after=after
            )
            stored = await _visible(connection, endpoint, _WRITE)
        return self._issued(stored, generation)

    @verb("DELETE /v1/webhooks/{id}", scope=_WRITE)
    async def remove(self, endpoint: str) -> None:
        """Remove an endpoint."""
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            stored = await _visible(connection, endpoint, _WRITE)
            before = {"name": stored.name}
            await audit.record_verb(
                connection, self.remove, endpoint, app=_app_of(stored), before=before
            )
            await connection.execute(delete(EndpointRow).where(EndpointRow.id == endpoint))
            await connection.execute(delete(DeliveryRow).where(DeliveryRow.endpoint == endpoint))

    @verb("POST /v1/webhooks/{id}/test", scope=_WRITE)
    async def test(
        self, endpoint: str, *, within: float = 20, stopping: asyncio.Event | None = None
    ) -> DeliveryDocument:
        """Send a test notice to an endpoint.

        `within`: seconds to wait at most for what the leader writes down of its delivery; `stopping` ends the wait.
        """
        at = clock.now()
        data = {"endpoint": endpoint}
        notice = Notice(type=notice_types.TEST, app="default", at=at, data=data)
        async with answering(self._timeout), self._database.write(WRITER) as connection:
            await _visible(connection, endpoint, _WRITE)
            (number,) = (await outbox.record(connection, [notice])).values()
            row = {"endpoint": endpoint, "notice": number, "state": "test"}
            await connection.execute(insert(DeliveryRow), row)
        await self._signal()
        deadline = asyncio.get_running_loop().time() + within
        while True:
            (delivery,) = await self.deliveries(endpoint, behind=number + 1, limit=1)
            late = asyncio.get_running_loop().time() >= deadline or (stopping and stopping.is_set())
            if delivery.state == "tested" or late:
                return delivery
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
        signing_secret = secret.derive(self._settings.webhook_keys, stored.id, generation)
        until = stored.old_secret_until
        return IssuedEndpoint(
            id=stored.id, secret=secret.spelled(signing_secret), old_secret_until=until
        )

    async def _moved(
        self, connection: AsyncConnection, endpoint: str, state: str, reason: str
    ) -> StoredEndpoint:
        await endpoints.change(
            connection, endpoint, state=state, reason=reason, changed_at=clock.now()
        )
        return await _visible(connection, endpoint, _WRITE)

    async def _signal(self) -> None:
        """The state in SQL is what counts; without this word the fleet looks within seconds."""
        with suppress(RedisError, OSError):  # TimeoutError is one of the latter
            async with asyncio.timeout(self._timeout):
                await NOTICES.announce(self._redis)


async def _visible(connection: AsyncConnection, endpoint: str, scope: str) -> StoredEndpoint:
    """An endpoint that is the actor's to see or change by this scope; the error does not reveal which is there.

    Raises:
        EndpointNotFound: there is none, or it receives what the actor may not read.
    """
    stored = await endpoints.find(connection, endpoint)
    if stored is None or _excess(stored, scope):
        raise EndpointNotFound(endpoint)
    return stored


def _narrowed(subscription: Subscription) -> Subscription:
    """The subscription that an actor asks for, with the actor's own apps and sender where it names none.

    Raises:
        NotPermitted: it asks for more than the actor may read; the field is named.
    """
    reach = current_reach()
    if not subscription.apps and (apps := reach.apps_of(_WRITE)) is not None:
        subscription = subscription.model_copy(update={"apps": apps})
    if not subscription.senders and reach.default_sender:
        subscription = subscription.model_copy(
            update={"senders": frozenset({reach.default_sender})}
        )
    if excess := _excess(subscription, _WRITE):
        raise NotPermitted(*excess)
    return subscription


def _excess(endpoint: Subscription, scope: str) -> tuple[str, str] | None:
    """Excess of an endpoint over what the actor, who has it by this scope, may read: field and problem; None for none."""
    reach = current_reach()
    scopes, sender = {scope}, reach.default_sender
    if endpoint.url.startswith("celery:"):
        scopes.add(ANY)
        if not reach.permits(ANY):
            return "url", en("only a key with the scope * may have tasks published")
    for pattern in endpoint.types:
        for family in notice_types.families(pattern):
            needed = family.scopes if family else (ANY,)
            scopes.update(needed)
            if lacking := next(
                (needed_scope for needed_scope in needed if not reach.permits(needed_scope)), ""
            ):
                return "types", en("{} needs the scope {}", pattern, lacking)
            narrowed = family and (family.has_sender or pattern.startswith(family.shared))
            if sender and not narrowed:
                return "types", en("{} needs a key whose sender is *", pattern)
    for apps in map(reach.apps_of, scopes):
        if apps is not None and not (
            endpoint.apps and all(covers_name(apps, name) for name in endpoint.apps)
        ):
            return "apps", en("the key is not for these apps")
    if sender and endpoint.senders != frozenset({sender}):
        return "senders", en("the key has a sender of its own")
    return None


def _app_of(endpoint: Subscription) -> str:
    """The app in whose audit an endpoint is: the one whose notices it receives; "" for several or all."""
    apps = {ROBOTS if TARGET.match(name) else name for name in endpoint.apps}
    return apps.pop() if len(apps) == 1 else ""
