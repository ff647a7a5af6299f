"""Carries out one delivery: its endpoint, a place at its gate, the notice, the request.

It is `dingrelay_tasks.context.Webhooks` for a worker; each job has it with its own id.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from structlog.stdlib import get_logger

from dingrelay_producers.gateway.webhooks.request import celery_target
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.tracing import trace_context
from dingrelay_tasks import notice_types
from dingrelay_tasks.context import Receipt
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.database.database import Database
from dingrelay_workers.metrics import (
    WEBHOOK_BREAKERS,
    WEBHOOK_SECONDS,
    WEBHOOKS,
    webhook_code,
)
from dingrelay_workers.outbox.notice import Notice, id_of
from dingrelay_workers.webhooks import document, endpoints, notices
from dingrelay_workers.webhooks.delivery_span import delivered, delivering
from dingrelay_workers.webhooks.gate import Gate
from dingrelay_workers.webhooks.http import Sender
from dingrelay_workers.webhooks.stored_endpoint import StoredEndpoint

LIVES = 5.0
"""Seconds for which an endpoint is not read again: how long one that was paused is told still."""
WAIT = timedelta(hours=1)
"""Who waits for its endpoint is woken when that is free. Should that be missed, it looks by itself."""
UNSIGNED = timedelta(minutes=1)
"""Before another try where the key is missing from which secrets are made."""
SHARE = 4
"""A worker does not use more than this part of its places for deliveries: twenty endpoints that hang
would take all of them otherwise, and DingTalk's traffic with them."""
GONE = "http_410"
"""By which an endpoint says that it wants no more, ever."""
CLOSED = timedelta(days=1)
"""For which an endpoint's gate is closed then: until it is resumed, which opens the gate."""

REMOVED = Receipt("void", "removed", "the endpoint was removed")

log = get_logger("dingrelay.webhooks")


class Deliverer:
    """Deliveries of one worker process.

    Args:
        database: with endpoints and notices.
        gate: before each endpoint.
        publisher: publishes wake-ups, and the tasks of ``celery://`` endpoints.
        settings: the keys of the secrets, and how long a request may take.
        concurrency: how many jobs the process runs at once.
    """

    def __init__(
        self,
        database: Callable[[], Database],
        gate: Gate,
        publisher: Publisher,
        settings: Settings,
        *,
        concurrency: int,
    ) -> None:
        self._database = database
        self._gate = gate
        self._publisher = publisher
        self._settings = settings
        self._sender = Sender(settings)
        self._most = max(1, concurrency // SHARE)
        self._under_way = 0
        self._endpoints: dict[str, tuple[float, StoredEndpoint | None]] = {}

    async def close(self) -> None:
        """Close the connections to endpoints."""
        await self._sender.close()

    async def deliver(
        self, job_id: str, endpoint_id: str, number: int, now: Callable[[], datetime]
    ) -> Receipt:
        """Tell an endpoint of a notice, if it is to be told and may be now.

        Args:
            job_id: of the delivery.
            endpoint_id: the endpoint to tell.
            number: of the notice.
            now: Redis's time.

        Raises:
            Wait: it may not be told now.
        """
        endpoint = await self._endpoint(endpoint_id)
        if endpoint is None:
            return REMOVED
        if number <= endpoint.skipped:
            return Receipt("void", "skipped", "it was skipped when the endpoint was resumed")
        secrets = self._secrets(endpoint, now())
        if not await self._enter(endpoint, job_id):
            return REMOVED
        async with self._place(endpoint, job_id) as leave:
            async with self._database().read() as connection:
                notice = await notices.find(connection, number)
            # A database that was restored from a backup gives the same numbers to other notices.
            if notice is None or not endpoint.endpoint.takes(notices.subject(notice)):
                return Receipt("void", "forgotten", "the notice is not kept any more")
            receipt = await self._request(endpoint, notice, job_id, now(), secrets)
            if receipt.code == GONE:  # nobody else may try while that is being written down
                receipt = replace(receipt, retry_after=CLOSED)
            if await leave(receipt):
                WEBHOOK_BREAKERS.inc()
                log.warning("webhook_breaker_opened", endpoint=endpoint.id, code=receipt.code)
        if receipt.code == GONE:
            await endpoints.disable(self._database(), endpoint, "it answered 410, gone")
            self._endpoints.pop(endpoint.id, None)
        return receipt

    async def test(self, job_id: str, endpoint_id: str, now: Callable[[], datetime]) -> Receipt:
        """Tell an endpoint of nothing, whatever state it is in."""
        self._endpoints.pop(endpoint_id, None)
        endpoint = await self._endpoint(endpoint_id)
        if endpoint is None:
            return REMOVED
        at = now()
        notice = Notice(
            type=notice_types.TEST,
            app="default",
            at=at,
            data={"endpoint": endpoint.id},
            id=id_of("test", job_id),
        )
        try:
            secrets = endpoint.secrets(self._settings.webhook_keys, at)
        except SettingsError as error:
            return Receipt("failed", "settings", str(error))
        return await self._request(endpoint, notice, job_id, at, secrets)

    async def _enter(self, endpoint: StoredEndpoint, job_id: str) -> bool:
        """Take one of the endpoint's places, and of this process's; False: the endpoint is removed.

        Raises:
            Wait: none is to be had.
        """
        full = self._under_way >= self._most
        entered = await self._gate.enter(
            endpoint.id, job_id, must_wait=full or not endpoint.enabled
        )
        if entered is False:
            raise Wait(WAIT, _reason(endpoint, full=full))
        return entered is True

    @asynccontextmanager
    async def _place(
        self, endpoint: StoredEndpoint, job_id: str
    ) -> AsyncGenerator[Callable[[Receipt], Awaitable[bool]], None]:
        """The place that was taken; the function gives it back, and tells what came of it."""
        self._under_way += 1
        left = False

        async def leave(receipt: Receipt | None) -> bool:
            nonlocal left
            left = True
            gate_left = await self._gate.leave(endpoint.id, job_id, receipt)
            await self._wake(gate_left.wakeups)
            return gate_left.opened

        try:
            yield leave
        finally:
            self._under_way -= 1
            if not left:
                await leave(None)

    def _secrets(self, endpoint: StoredEndpoint, at: datetime) -> Sequence[bytes]:
        """What signs now.

        Raises:
            Wait: that can't be told here. It is a slip of whoever runs this, and costs no notice.
        """
        try:
            return endpoint.secrets(self._settings.webhook_keys, at)
        except SettingsError as error:
            log.error("webhook_unsigned", endpoint=endpoint.id, reason=str(error))  # noqa: TRY400
            raise Wait(UNSIGNED, str(error)) from None

    async def _request(
        self,
        endpoint: StoredEndpoint,
        notice: Notice,
        job_id: str,
        at: datetime,
        secrets: Sequence[bytes],
    ) -> Receipt:
        began = time.monotonic()
        target = celery_target(endpoint.endpoint.url)
        with delivering(endpoint, notice) as span:
            trace = trace_context.headers(span.trace)
            if target is not None:
                receipt = await self._publish(*target, notice, job_id, trace)
            else:
                content = document.body(notice)
                headers = {**document.headers(notice, content, at, secrets), **trace}
                receipt = await self._sender.post(endpoint.endpoint.url, content, headers)
            delivered(span, receipt)
        WEBHOOKS.labels(receipt.verdict, webhook_code(receipt.code)).inc()
        WEBHOOK_SECONDS.observe(time.monotonic() - began)
        return receipt

    async def _publish(
        self, queue: str, task: str, notice: Notice, job_id: str, headers: Mapping[str, str]
    ) -> Receipt:
        """Publish a task of an application's; it comes again if its answer was lost."""
        arguments: dict[str, Any] = {
            "webhook_id": notice.id,
            "document": document.document(notice),
        }
        try:
            await asyncio.to_thread(
                self._publisher.publish_task,
                task,
                arguments,
                queue=queue,
                task_id=job_id,
                headers=headers,
            )
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            reason = f"the broker did not take the task ({type(error).__name__})"
            return Receipt("failed", "broker", reason)
        return Receipt("taken", "published", "the broker took the task")

    async def _wake(self, wakeups: Sequence[Wakeup]) -> None:
        if wakeups:
            await asyncio.to_thread(self._publisher.publish, wakeups)

    async def _endpoint(self, endpoint_id: str) -> StoredEndpoint | None:
        """The endpoint as it was within the last seconds; None if there is none."""
        read_at, known = self._endpoints.get(endpoint_id, (-LIVES, None))
        if time.monotonic() - read_at < LIVES:
            return known
        read_at = time.monotonic()
        async with self._database().read() as connection:
            found = await endpoints.find(connection, endpoint_id)
        self._endpoints[endpoint_id] = (read_at, found)
        return found


def _reason(endpoint: StoredEndpoint, *, full: bool) -> str:
    if not endpoint.enabled:
        return f"the endpoint is {endpoint.endpoint.state}"
    if full:
        return "the worker has its maximum of deliveries under way"
    return "the endpoint has its maximum of deliveries under way, or is failing"
