"""The requests to endpoints that the leader has under way, each endpoint's apart from the others'."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.trace import Span
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_tasks.sentence import en
from dingrelay_workers import minutes
from dingrelay_workers.metrics import WEBHOOK_SECONDS, WEBHOOKS, webhook_code
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import secret
from dingrelay_workers.webhooks.deliveries import Delivery, DeliveryOutcome
from dingrelay_workers.webhooks.documents import celery_target
from dingrelay_workers.webhooks.endpoints import StoredEndpoint
from dingrelay_workers.webhooks.http import Receipt, Sender

PLACES = 4
"""Requests to one endpoint at once."""
CROWDED = 300
"""Requests at once beyond which an endpoint has one place only. One it has always, so however many
others hang, it gets its notices; and 500 endpoints open 800 sockets at most."""
AHEAD = 0.25
"""Seconds of an endpoint's work that are claimed at once: a turn of the leader."""
MOST = 50
"""Deliveries of one endpoint that are claimed at most."""
MARGIN = timedelta(seconds=15)
"""Time by which a claim outlasts a request: waiting for a place, and for the commit."""

log = get_logger("dingrelay.webhooks")

_CELERY_IDS = uuid.UUID("f1d26a3e-8c39-4dd2-9f0a-4d6c5a6d1a0b")


class DeliveryWork(NamedTuple):
    """A claimed delivery and what it sends."""

    delivery: Delivery
    notice: Notice
    endpoint: StoredEndpoint
    secrets: Sequence[bytes]
    began_by: float
    """Moment of the monotonic clock by which it must begin, or its claim would end before its request."""


@dataclass(slots=True)
class _Flow:
    """One endpoint's work.

    Attributes:
        seconds: what a request takes; the time-out until one has been accepted.
    """

    seconds: float
    queue: deque[DeliveryWork] = field(default_factory=deque[DeliveryWork])
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class Deliverer:
    """Requests of one process.

    Args:
        publisher: publishes the tasks of ``celery://`` endpoints.
        settings: how long a request may take, and what may be reached.

    Attributes:
        outcomes: what requests came to, until the leader has written it down.
    """

    def __init__(self, publisher: Publisher, settings: Settings) -> None:
        self._publisher = publisher
        self._sender = Sender(settings)
        self._timeout = settings.call_timeout
        self._flows: dict[str, _Flow] = {}
        self._under_way = 0
        self.outcomes: list[DeliveryOutcome] = []

    def room(self, endpoint: str, *, probing: bool) -> int:
        """How many more deliveries of an endpoint may be claimed; one at a time while it is `probing`."""
        flow = self._flows.get(endpoint)
        if flow is None:
            return 1 if probing else PLACES
        ahead = 1 if probing else max(PLACES, min(MOST, int(PLACES * AHEAD / flow.seconds)))
        return max(0, ahead - len(flow.queue) - len(flow.tasks))

    def begin(self, work: DeliveryWork) -> None:
        """Make the request, as soon as a place is free."""
        # A test waits for nothing.
        flow = f"{work.endpoint.id} {work.delivery.state}".removesuffix(" pending")
        self._flows.setdefault(flow, _Flow(self._timeout)).queue.append(work)
        self._fill(flow)

    def give_back(self) -> None:
        """Begin nothing more: the claims of what has not begun are given up."""
        for flow in self._flows.values():
            self._empty(flow)

    async def close(self, within: float) -> None:
        """Wait a moment for what is under way, and cancel the rest, which is given back."""
        self.give_back()
        tasks = [task for flow in self._flows.values() for task in flow.tasks]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._sender.close()

    @property
    def busy(self) -> bool:
        """Whether anything is under way, or not written down."""
        return bool(self.outcomes or self._under_way)

    def _fill(self, name: str) -> None:
        flow = self._flows[name]
        while flow.queue and len(flow.tasks) < (PLACES if self._under_way < CROWDED else 1):
            task = asyncio.create_task(self._run(name, flow, flow.queue.popleft()))
            flow.tasks.add(task)
            self._under_way += 1
        if not flow.tasks and not flow.queue and flow.seconds >= self._timeout:
            del self._flows[name]

    def _empty(self, flow: _Flow) -> None:
        self.outcomes += [(work.delivery, None) for work in flow.queue]
        flow.queue.clear()

    async def _run(self, name: str, flow: _Flow, work: DeliveryWork) -> None:
        receipt: Receipt | None = None
        began = time.monotonic()
        try:
            if began <= work.began_by:
                receipt = await self._request(work)
        except Exception as error:
            log.exception("webhook_failed", endpoint=work.endpoint.id, notice=work.notice.id)
            receipt = Receipt("failed", "error", en("it can't be sent ({})", type(error).__name__))
        finally:
            self.outcomes.append((work.delivery, receipt))
            if receipt is None or receipt.verdict == "failed":
                # The next turn decides whether others are to be tried.
                flow.seconds = self._timeout
                self._empty(flow)
            else:
                flow.seconds = max(time.monotonic() - began, 0.001)
            task = asyncio.current_task()
            assert task
            flow.tasks.discard(task)
            self._under_way -= 1
            self._fill(name)

    async def _request(self, work: DeliveryWork) -> Receipt:
        began = time.monotonic()
        notice, url = work.notice, work.endpoint.url
        target = celery_target(url)
        with _delivering(work.endpoint, notice) as span:
            trace = spans.headers(spans.current())
            if target is not None:
                receipt = await self._publish(*target, work, trace)
            else:
                content = secret.body(notice)
                headers = secret.headers(notice, content, clock.now(), work.secrets)
                receipt = await self._sender.post(url, content, {**headers, **trace})
            _delivered(span, receipt)
        WEBHOOKS.labels(receipt.verdict, webhook_code(receipt.code)).inc()
        if receipt.verdict == "taken":
            minutes.MINUTES.count(minutes.endpoint(work.endpoint.id))
        WEBHOOK_SECONDS.observe(time.monotonic() - began)
        return receipt

    async def _publish(
        self, queue: str, task: str, work: DeliveryWork, headers: Mapping[str, str]
    ) -> Receipt:
        """Publish a task of an application's; it comes again if its answer was lost."""
        arguments: dict[str, Any] = {
            "webhook_id": work.notice.id,
            "document": secret.document(work.notice),
        }
        try:
            await asyncio.to_thread(
                self._publisher.publish_task,
                task,
                arguments,
                queue=queue,
                task_id=str(uuid.uuid5(_CELERY_IDS, f"{work.endpoint.id} {work.notice.id}")),
                headers=headers,
            )
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            reason = en("the broker did not take the task ({})", type(error).__name__)
            return Receipt("failed", "broker", reason)
        return Receipt("taken", "published", "the broker took the task")


@contextmanager
def _delivering(endpoint: StoredEndpoint, notice: Notice) -> Generator[Span]:
    """Around a request to an endpoint, or a task for it: it carries the trace of the span.

    Where no spans are made that is the notice's own, handed on as it came.
    """
    by_http = celery_target(endpoint.url) is None
    with spans.span(
        "POST webhook" if by_http else f"send {notice.type}",
        "CLIENT" if by_http else "PRODUCER",
        parent=notice.trace or None,
        attributes=lambda: _attributes(endpoint, notice, by_http=by_http),
    ) as span:
        yield span


def _delivered(span: Span, receipt: Receipt) -> None:
    """Note the result on the span."""
    if receipt.status:
        span.set_attributes({"http.response.status_code": receipt.status})
    if receipt.verdict != "taken":
        spans.fail(span, receipt.code)


def _attributes(endpoint: StoredEndpoint, notice: Notice, *, by_http: bool) -> Attributes:
    """The span's attributes of an endpoint: not its URL, which may hold a secret."""
    attributes: dict[str, str | int | float | bool] = {
        "dingrelay.endpoint": endpoint.id,
        "dingrelay.notice": notice.id,
        "dingrelay.notice_type": notice.type,
        "dingrelay.app": notice.app,
    }
    if by_http:
        attributes["http.request.method"] = "POST"
        attributes["server.address"] = urlsplit(endpoint.url).hostname or ""
    else:
        attributes["messaging.system"] = "celery"
        attributes["messaging.operation.type"] = "send"
    return attributes
