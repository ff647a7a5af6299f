"""Publishes wake-ups as Celery messages, by name and without the worker's code.

Celery and kombu take 200 µs of a processor for a wake-up and its event. The messages of one kind, lane and
app differ in a few places only: `Envelopes` has Celery write one, finds the places, and fills them in. Without
what a worker assumes anyway, a message that waits takes 0.4 kB of Redis instead of 1.2.
"""

import asyncio
import base64
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.rabbitmq import AWAY, BrokerSilent, Confirms
from dingrelay_producers.redis_address import PRODUCER_TIMEOUT
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async, open_sync
from dingrelay_producers.store.record import Draft, Envelope, Wakeup
from dingrelay_producers.store.scripts import round_trip
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.contract import batched
from dingrelay_tasks.kinds import TASK_PREFIX

WOKEN_HEADER = "dingrelay-woken"
"""Message header: when the wake-up was decided on, in milliseconds of Redis's clock."""
FORMAT_HEADER = "dingrelay-v"
"""Message header: the number of what a wake-up is like, which grows as that of records does."""
WAKEUP_FORMAT = 1
"""Version of the wake-ups that we publish. Whatever the number, Celery's id and task name are the job's and its
kind's."""

_ID, _SUMMARY, _TAG = "@wakeup-id@", "@wakeup-summary@", "@wakeup-tag@"
_WOKEN, _TIME, _CLOCK = 919_191_919_191_919, 929_292_929_292_929, 939_393_939_393_939
_PLACES = {
    _ID: "id",
    _SUMMARY: "summary",
    _TAG: "tag",
    str(_TIME): "time",
    str(_CLOCK): "clock",
}
_PLACE = re.compile("|".join(_PLACES))


_json = partial(dumps, separators=(",", ":"))


class _Channel(virtual.Channel):
    """Keeps what is published: the methods that each virtual transport of kombu's has."""

    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.put: list[Any] = []
        self.published: list[tuple[str, Any]] = []

    def _queue_bind(self, *args: Any, **kwargs: Any) -> None:
        """Not needed: nothing is read from here."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        self.put.append(message)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        self.published.append((f"{exchange}/{routing_key}", message))


class _Transport(virtual.Transport):
    """Presents itself as kombu's Redis transport."""

    Channel = _Channel
    driver_type = "redis"


class _Texts(NamedTuple):
    """The messages of one kind, with places to fill in by ``%``; empty where no event is published."""

    before: str
    after: str
    channel: str
    event: str


class Envelopes:
    """Writes messages; safe to share between threads.

    Args:
        celery: whose messages they are.
        database: the number of the broker's, which is a Redis. Other brokers have formats of their own.
    """

    def __init__(self, celery: Celery, database: int) -> None:
        self._celery = celery
        self._lock = threading.Lock()
        self._prefix = f"/{database}."
        self._texts = lru_cache(maxsize=1_000)(self._learn)

    def write(self, job: Draft | Wakeup) -> Envelope:
        """The message that wakes a job, and the event that it was sent."""
        texts = self._texts(job.kind, job.queue, job.app, job.lane)
        job_id, summary = _quoted(job.id)[1:-1], _quoted(job.summary)[1:-1]
        values: dict[str, Any] = {"id": job_id, "summary": summary, "tag": _tag()}
        before, after = texts.before % values, texts.after % values
        if not texts.channel:
            return before, after, "", ""
        # Its body is a text within a text.
        values = {
            "id": _quoted(job_id)[1:-1],
            "summary": _quoted(summary)[1:-1],
            "tag": _tag(),
            "time": time.time(),
            "clock": self._celery.clock.forward(),
        }
        return before, after, texts.channel, texts.event % values

    def _learn(self, kind: str, queue: str, app: str, lane: str) -> _Texts:
        """Have Celery write the message of a wake-up, and find its places."""
        with self._lock, Connection(transport=_Transport) as connection:
            channel: Any = connection.channel()
            producer = self._celery.amqp.Producer(channel)
            send(self._celery, Wakeup(_ID, kind, queue, app, lane, _SUMMARY, _WOKEN), producer)
            (message,) = channel.put
            events = list(channel.published)
        before, _, after = _text(_slim(message)).partition(str(_WOKEN))
        if not events:
            return _Texts(before, after, "", "")
        ((where, event),) = events
        body = json.loads(base64.b64decode(event["body"]))
        event["body"] = _json(body | {"timestamp": _TIME, "clock": _CLOCK})
        event["properties"] |= {"delivery_tag": _TAG}
        del event["properties"]["body_encoding"]
        return _Texts(before, after, self._prefix + where, _text(event))


def _slim(message: dict[str, Any]) -> dict[str, Any]:
    """A message without defaults and without fields that are not read.

    Empty headers and an empty rest of the body mean what is absent. The id stands four times in what Celery
    writes. Base64 is for bodies that are no text.
    """
    arguments, named, _ = json.loads(base64.b64decode(message["body"]))
    headers = {
        name: value
        for name, value in message["headers"].items()
        if name not in {"root_id", "origin"} and value not in (None, "", 0, {}, [None, None])
    }
    properties = {"delivery_info": message["properties"]["delivery_info"], "delivery_tag": _TAG}
    body = _json([arguments, named, {}])
    return {**message, "body": body, "headers": headers, "properties": properties}


def send(celery: Celery, wakeup: Wakeup, producer: Any, **options: Any) -> None:
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


def _text(value: Any) -> str:
    """A message as text, with its places named for ``%``."""
    text = _json(value).replace("%", "%%")
    return _PLACE.sub(lambda place: f"%({_PLACES[place[0]]})s", text)


def _tag() -> str:
    """A tag that is unique among waiting messages: no secret, and a system call would take ten times as long.

    Python reseeds its generator after a fork.
    """
    return f"{random.getrandbits(64):016x}"


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
    processor time that Celery takes; to others Celery publishes.

    Args:
        settings: where the broker is.
        celery: whose messages they are; one of its own if not given.
    """

    def __init__(self, settings: Settings, celery: Celery | None = None) -> None:
        if celery is None:
            celery = Celery("dingrelay-producer", set_as_current=False)
            celery.config_from_object(celery_config(settings, timeout=PRODUCER_TIMEOUT))
        self._celery = celery
        self._away_until = 0.0
        self._direct: tuple[Envelopes, Redis] | None = None
        self._on_loop: AsyncRedis | None = None
        self._address = settings.broker_address
        if address := self._address:
            redis = open_sync(
                address, socket_timeout=PRODUCER_TIMEOUT, socket_connect_timeout=PRODUCER_TIMEOUT
            )
            self._direct = Envelopes(celery, address.database), redis
        self._beside_records = settings.broker_address == settings.redis_address

    def envelope(self, draft: Draft) -> Envelope | None:
        """The wake-up of a job, which the script that accepts the job publishes itself.

        None where the broker is not the very Redis that has the records, or the job is due later.
        """
        if not self._direct or not self._beside_records or draft.due:
            return None
        return self._direct[0].write(draft)

    def publish(self, wakeups: Sequence[Wakeup]) -> Sequence[Wakeup]:
        """Publish in batches; those that the broker did not take (`record.unpublished`)."""
        left: list[Wakeup] = []
        for batch in batched(wakeups, BATCH):
            if not self._publish_batch(batch):
                left += batch
        return left

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
        try:
            self._confirmed_once(publish)
        except BrokerSilent:
            raise
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            # A connection that broke while idle. A job that is woken twice runs once.
            log.debug("published once more: %s", type(error).__name__)
            self._confirmed_once(publish)

    def _confirmed_once(self, publish: Callable[[Any], None]) -> None:
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
        self._celery.close()
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
