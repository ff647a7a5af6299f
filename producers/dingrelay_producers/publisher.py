"""Publishes wake-ups as Celery messages, by name and without the worker's code."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dingrelay_producers.envelopes import FORMAT_HEADER, WAKEUP_FORMAT, WOKEN_HEADER, Envelopes
from dingrelay_producers.redis_address import PRODUCER_TIMEOUT
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async, open_sync
from dingrelay_producers.store.record import Draft, Envelope, Wakeup
from dingrelay_producers.store.scripts import round_trip
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.contract import batched
from dingrelay_tasks.kinds import TASK_PREFIX

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["BATCH", "FORMAT_HEADER", "WAKEUP_FORMAT", "WOKEN_HEADER", "Publisher"]

BATCH = 500
"""Messages that travel to the broker in one round trip."""

ONE_MORE_TRY = {"max_retries": 1, "interval_start": 0}
"""Enough to replace a connection that broke while idle."""

ONCE: Any = {"timeout": PRODUCER_TIMEOUT, "retry": False}
"""How Celery publishes. Its own retry opens a connection without a time-out, on which a RabbitMQ with an alarm is
waited for as long as the alarm lasts."""

FEW = 50
"""Wake-ups that are published on an event loop at a time."""
AWAY_PAUSE = 5.0
"""Seconds for which a failed broker is not tried again: each try may cost its time-out."""

log = logging.getLogger("dingrelay")


class Publisher:
    """Publishes wake-ups; safe to share between threads.

    It carries no payload: the record is the truth, and a wake-up that outlives it must not bring
    the job back. One that can't be published is no loss: its caller marks it, and the scheduler wakes the job.
    So a broker that failed is left alone for a moment, and `send` costs no time-out.

    To a broker that is a Redis it writes the messages itself (`Envelopes`), with a twentieth of the
    processor time that Celery takes; to others Celery publishes, which is imported for them only.

    Args:
        settings: where the broker is.
        celery: whose messages they are; one of its own if not given.
    """

    def __init__(self, settings: Settings, celery: "Celery | None" = None) -> None:
        self._settings = settings
        self._app = celery
        self._away_until = 0.0
        self._direct: tuple[Envelopes, Redis] | None = None
        self._on_loop: AsyncRedis | None = None
        self._address = settings.broker_address
        if address := self._address:
            redis = open_sync(
                address, socket_timeout=PRODUCER_TIMEOUT, socket_connect_timeout=PRODUCER_TIMEOUT
            )
            tick = count(1).__next__ if celery is None else celery.clock.forward
            self._direct = Envelopes(address.database, tick), redis
        self._beside_records = settings.broker_address == settings.redis_address

    @property
    def _celery(self) -> "Celery":
        if self._app is None:
            # To import it takes longer than all else that a command does which sends to a Redis.
            from celery import Celery  # noqa: PLC0415

            from dingrelay_producers.celery_config import celery_config  # noqa: PLC0415

            app = Celery("dingrelay-producer", set_as_current=False)
            app.config_from_object(celery_config(self._settings, timeout=PRODUCER_TIMEOUT))
            self._app = app
        return self._app

    def envelope(self, draft: Draft) -> Envelope | None:
        """The wake-up of a job, which the script that accepts the job publishes itself.

        None where the broker is not the very Redis that has the records, or the job is due later.
        """
        if not self._direct or not self._beside_records or draft.due:
            return None
        return self._direct[0].write(draft)

    def publish(self, wakeups: Sequence[Wakeup]) -> Sequence[Wakeup]:
        """Publish in batches; those that the broker did not take (`record.unpublished`)."""
        untaken: list[Wakeup] = []
        for batch in batched(wakeups, BATCH):
            if not self._publish_batch(batch):
                untaken += batch
        return untaken

    async def publish_on_loop(self, wakeups: Sequence[Wakeup]) -> Sequence[Wakeup]:
        """Like `publish`, from an event loop; from one at a time, until `aclose`.

        A few go over a connection of the loop to a broker that is a Redis: a thread costs more than they do.
        """
        if self._direct is None or len(wakeups) > FEW:
            return await asyncio.to_thread(self.publish, wakeups)
        if not wakeups or time.monotonic() < self._away_until:
            return wakeups
        try:
            answers = await round_trip(self._connected(), _commands(self._direct[0], wakeups))
            if refused := [answer for answer in answers if isinstance(answer, RedisError)]:
                raise refused[0]
        except (RedisError, OSError) as error:
            self._left_alone(len(wakeups), error)
            return wakeups
        return ()

    def _connected(self) -> AsyncRedis:
        if self._on_loop is None:
            assert self._address is not None
            self._on_loop = open_async(
                self._address,
                socket_timeout=PRODUCER_TIMEOUT,
                socket_connect_timeout=PRODUCER_TIMEOUT,
                retry=AsyncRetry(NoBackoff(), 1),
            )
        return self._on_loop

    async def aclose(self) -> None:
        """Close the connection of the loop."""
        redis, self._on_loop = self._on_loop, None
        if redis is not None:
            await redis.aclose()

    def _left_alone(self, count: int, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY_PAUSE
        log.warning(
            "wake-ups not published, the scheduler will: count=%d reason=%s",
            count,
            cause(error),
        )

    def _publish_batch(self, batch: Sequence[Wakeup]) -> bool:
        if time.monotonic() < self._away_until:
            return False
        try:
            if self._direct:
                self._publish_directly(batch, *self._direct)
            else:
                self._publish_by_celery(batch)
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            self._left_alone(len(batch), error)
            return False
        return True

    def _publish_by_celery(self, batch: Sequence[Wakeup]) -> None:
        from dingrelay_producers.rabbitmq import AWAY, BrokerSilent  # noqa: PLC0415 - as Celery

        def publish(producer: Any) -> None:
            for wakeup in batch:
                began = time.monotonic()
                send(self._celery, wakeup, producer, **ONCE)
                # Celery keeps an event that it can't publish, and the next message would wait as long.
                if time.monotonic() - began >= PRODUCER_TIMEOUT:
                    raise BrokerSilent(AWAY)

        self._confirmed(publish)

    def _confirmed(self, publish: Callable[[Any], None]) -> None:
        """Publish by a producer of Celery's, to a broker that is no Redis, until it has taken all.

        Raises:
            BrokerSilent: it does not.
        """
        from dingrelay_producers.rabbitmq import BrokerSilent  # noqa: PLC0415 - as Celery

        try:
            self._confirmed_once(publish)
        except BrokerSilent:
            raise
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            # A connection that broke while idle. A job that is woken twice runs once.
            log.debug("published once more: %s", type(error).__name__)
            self._confirmed_once(publish)

    def _confirmed_once(self, publish: Callable[[Any], None]) -> None:
        from dingrelay_producers.rabbitmq import Confirms  # noqa: PLC0415 - as Celery

        with self._celery.producer_or_acquire() as producer:
            connection = producer.__connection__
            try:
                # kombu would try for ever.
                connection.ensure_connection(**ONE_MORE_TRY, timeout=PRODUCER_TIMEOUT)
                # Without it a channel or a queue is waited for as long as RabbitMQ reads nothing.
                with connection.connection.transport.having_timeout(PRODUCER_TIMEOUT):
                    confirms = Confirms.of(producer.channel)
                    publish(producer)
                    confirms.wait(PRODUCER_TIMEOUT)
            except Exception:
                # It may hold a half-written message, and stale answers may still arrive on it.
                connection.collect()
                raise

    def _publish_directly(
        self, batch: Sequence[Wakeup], envelopes: Envelopes, redis: Redis
    ) -> None:
        pipe = redis.pipeline(transaction=False)
        for command in _commands(envelopes, batch):
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        pipe.execute()

    def publish_task(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        queue: str,
        task_id: str,
        headers: Mapping[str, str],
    ) -> None:
        """Publish a task of another application on the same broker.

        Raises:
            Exception: the broker did not take it; which one depends on the transport.
        """
        from kombu.entity import Exchange, Queue  # noqa: PLC0415 - as Celery

        message: dict[str, Any] = {
            "kwargs": arguments,
            # Celery would remember a queue that is given by name, and a worker without a list of
            # queues might consume this one, too.
            "queue": Queue(queue, Exchange(queue), routing_key=queue),
            "task_id": task_id,
            "headers": dict(headers),
            # Events and inspections show these, and not the content of the notice.
            "argsrepr": "()",
            "kwargsrepr": "{webhook}",
        }
        if self._direct:
            self._celery.send_task(name, retry=True, retry_policy=ONE_MORE_TRY, **message)
            return

        def publish(producer: Any) -> None:
            self._celery.send_task(name, producer=producer, **ONCE, **message)

        self._confirmed(publish)

    def close(self) -> None:
        """Give the broker's connections back."""
        if self._app is not None:
            self._app.close()
        if self._direct:
            self._direct[1].close()


def _commands(envelopes: Envelopes, batch: Sequence[Wakeup]) -> list[tuple[str, ...]]:
    """The commands to Redis: push the messages, and publish their events."""
    queues: dict[str, list[str]] = {}
    events: list[tuple[str, ...]] = []
    for wakeup in batch:
        before, after, channel, event = envelopes.write(wakeup)
        queues.setdefault(wakeup.queue, []).append(f"{before}{wakeup.at}{after}")
        if channel:
            events.append(("PUBLISH", channel, event))
    return [*(("LPUSH", queue, *messages) for queue, messages in queues.items()), *events]


def send(celery: "Celery", wakeup: Wakeup, producer: Any, **options: Any) -> None:
    """Publish a wake-up as Celery does. It carries no payload: that is in the record."""
    celery.send_task(
        TASK_PREFIX + wakeup.kind,
        kwargs={"job": {"app": wakeup.app, "lane": wakeup.lane}},
        task_id=wakeup.id,
        queue=wakeup.queue,
        argsrepr="",
        kwargsrepr=wakeup.summary,
        headers={WOKEN_HEADER: wakeup.at, FORMAT_HEADER: WAKEUP_FORMAT},
        producer=producer,
        **options,
    )
