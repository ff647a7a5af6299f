"""Accepts jobs: requests that come at the same time share a round trip, and so do their wake-ups."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.enqueuing.connections import asking, unavailable
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.events.receiver import EventMetrics
from dingrelay_producers.publisher import BATCH, Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft, Enqueued, Wakeup
from dingrelay_producers.store.send_span import sending
from dingrelay_producers.store.transitions import WrittenJob
from dingrelay_tasks.event import Event

MOST_UNPUBLISHED = 5_000
"""Wake-ups in memory at most; further enqueueing waits until the broker has taken some."""
TIMEOUT_SECONDS = 5.0
"""How long a closing gateway goes on publishing. What is left then the scheduler finds lost."""


@dataclass(slots=True, eq=False)
class _PendingDrafts:
    """Drafts of one caller that wait for their round trip."""

    drafts: Sequence[Draft]
    jobs: Sequence[WrittenJob]
    answer: asyncio.Future[list[Enqueued]]


class Enqueuer:
    """Writes records and publishes their wake-ups.

    A job is accepted once its record is written. Where the broker is another server than the records',
    its wake-up is published a moment later: an outbox, as for the Python client.
    """

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._redis = redis
        self._publisher = Publisher(settings)
        self._requests: list[_PendingDrafts] = []
        self._sending: asyncio.Task[None] | None = None
        self._wakeups: list[Wakeup] = []
        self._publishing: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    @property
    def unpublished(self) -> int:
        """How many wake-ups wait for the broker."""
        return len(self._wakeups)

    async def enqueue(
        self, drafts: Sequence[Draft], jobs: Sequence[WrittenJob] | None = None
    ) -> list[Enqueued]:
        """Accept these jobs, once the broker has taken enough of the wake-ups that wait; what became of each, in order.

        `jobs` are the same as `written` gives them, of a caller that has them already. A caller that is
        cancelled before its round trip has asked for nothing.

        Raises:
            ContractError: a job is too large; nothing is accepted.
            ServiceUnavailable: Redis can't be reached, or takes nothing. Unless only its answer
                was lost, nothing is accepted, or nothing from some job on.
        """
        if not self._room.is_set():
            await self._room.wait()
        if jobs is not None:
            return await self._request(drafts, jobs)
        with sending(drafts):
            return await self._request(drafts, list(map(self.written, drafts)))

    def _request(
        self, drafts: Sequence[Draft], jobs: Sequence[WrittenJob]
    ) -> asyncio.Future[list[Enqueued]]:
        """Have jobs written with the next round trip."""
        request = _PendingDrafts(drafts, jobs, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return request.answer

    async def take_event(
        self,
        event: Event,
        metrics: EventMetrics,
        *,
        session: tuple[str, Mapping[str, Any]] | None = None,
        within: float,
    ) -> None:
        """Make an event a job, and count it; one that is known already is one.

        Args:
            event: that DingTalk pushed.
            metrics: of the door by which it came.
            session: name and description of where a message to a robot can be replied to, which no record holds.
            within: seconds until it must be in Redis.

        Raises:
            ContractError: with its names spelt out it is larger than a job may be.
            ServiceUnavailable: Redis is away, or slow: DingTalk is to push it again.
        """
        draft = record.draft(event)
        try:
            async with asyncio.timeout(within):
                if session is not None:
                    await self._keep_session(*session)
                (enqueued,) = await self.enqueue([draft])
        except (ServiceUnavailable, TimeoutError):
            metrics.not_taken(event.app)
            raise ServiceUnavailable("the event was not taken; push it again") from None
        metrics.taken(event, known=not enqueued.created)

    async def _keep_session(self, name: str, session: Mapping[str, Any]) -> None:
        content = record.canonical_json(session)
        async with asking():
            await self._redis.set(keys.robot_session(name), content, px=keys.ROBOT_SESSION_TTL_MS)

    def written(self, draft: Draft) -> WrittenJob:
        """A job as arguments of the script that accepts it.

        Raises:
            ContractError: the job is too large.
        """
        return record.written(draft, self._publisher.envelope(draft))

    async def _send(self) -> None:
        while self._requests:
            requests, self._requests = self._requests, []
            waiting = [request for request in requests if not request.answer.done()]
            try:
                calls = record.enqueue_all([job for request in waiting for job in request.jobs])
                async with asking():
                    answers = await scripts.run_many_async(self._redis, calls)
            except Exception as error:  # noqa: BLE001 - every caller must get it
                # Also those that arrived since: they would wait as long again.
                for request in [*waiting, *self._requests]:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                self._requests = []
                continue
            all_answers = record.each_answer(calls, answers)
            for request in waiting:
                self._settle(request, list(islice(all_answers, len(request.drafts))))

    def _settle(self, request: _PendingDrafts, answers: Sequence[Any]) -> None:
        """Answer one caller, and queue the wake-ups of written jobs even if the caller is gone."""
        refusal: Exception | None = None
        enqueued_jobs: list[Enqueued] = []
        for draft, answer in zip(request.drafts, answers, strict=True):
            if isinstance(answer, Exception):
                refusal = refusal or unavailable(answer)
                continue
            enqueued = record.enqueued(draft, answer)
            enqueued_jobs.append(enqueued)
            if enqueued.wakeup:
                self._wakeups.append(enqueued.wakeup)
        if self._wakeups and (self._publishing is None or self._publishing.done()):
            self._publishing = asyncio.create_task(self._publish())
        if len(self._wakeups) > MOST_UNPUBLISHED:
            self._room.clear()
        if request.answer.done():  # its caller was cancelled
            return
        if refusal:
            request.answer.set_exception(refusal)
        else:
            request.answer.set_result(enqueued_jobs)

    async def _publish(self) -> None:
        while self._wakeups:
            batch = self._wakeups[:BATCH]
            del self._wakeups[:BATCH]
            if len(self._wakeups) <= MOST_UNPUBLISHED:
                self._room.set()
            if untaken := await self._publisher.publish_on_loop(batch):
                # The jobs are accepted: without the mark they wait for the scheduler's grace.
                with suppress(RedisError, OSError):
                    await scripts.run_many_async(self._redis, record.unpublished(untaken))

    async def aclose(self) -> None:
        """Publish what waits, and close the broker's connections."""
        await _finished(self._sending)
        # Only now: what was sent last has its wake-ups published by a task of its own.
        await _finished(self._publishing)
        await self._publisher.aclose()
        await asyncio.to_thread(self._publisher.close)


async def _finished(task: asyncio.Task[None] | None) -> None:
    if task and not task.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(task, TIMEOUT_SECONDS)
