"""Celery's messages for Redis, written from what Celery itself wrote once for one of their kind.

Celery and kombu take 200 µs of a processor for a wake-up and its event. The messages of one kind, lane and
app differ in a few places only: this has Celery write one, finds the places, and fills them in. Without
what a worker assumes anyway, a message that waits takes 0.4 kB of Redis instead of 1.2.
"""

import base64
import json
import random
import re
import threading
import time
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from celery import Celery
from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps

from dingrelay_producers.store.record import Draft, Wakeup
from dingrelay_tasks.kinds import TASK_PREFIX

WOKEN_HEADER = "dingrelay-woken"
"""Message header: when the wake-up was decided on, in milliseconds of Redis's clock."""
FORMAT_HEADER = "dingrelay-v"
"""Message header: the number of what a wake-up is like, which grows as that of records does."""
WAKEUP_FORMAT = 1
"""Of wake-ups that we publish. Whatever the number, Celery's id and task name are the job's and its kind's."""

_ID, _SUMMARY, _TAG, _BODY = "@wakeup-id@", "@wakeup-summary@", "@wakeup-tag@", "@wakeup-body@"
_WOKEN, _TIME, _CLOCK = 919_191_919_191_919, 929_292_929_292_929, 939_393_939_393_939
_PLACES = {
    _ID: "id",
    _SUMMARY: "summary",
    _TAG: "tag",
    _BODY: "body",
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
    """As the one for Redis, to those who ask."""

    Channel = _Channel
    driver_type = "redis"


class _Texts(NamedTuple):
    """The messages of one kind, with places to fill in by ``%``; empty where no event is published."""

    before: str
    after: str
    channel: str
    event: str
    body: str


class Envelope(NamedTuple):
    """What one wake-up is to the broker.

    Attributes:
        before: the message as a worker reads it, up to the time at which it was decided on.
        after: what follows that.
        channel: of the Celery event for it; empty for none.
        event: what is published there.
    """

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
        values: dict[str, Any] = {
            "id": _quoted(job.id)[1:-1],
            "summary": _quoted(job.summary)[1:-1],
            "tag": _tag(),
        }
        before, after = texts.before % values, texts.after % values
        if not texts.channel:
            return Envelope(before, after, "", "")
        values["time"] = time.time()
        values["clock"] = self._celery.clock.forward()
        values["body"] = base64.b64encode((texts.body % values).encode()).decode()
        values["tag"] = _tag()
        return Envelope(before, after, texts.channel, texts.event % values)

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
            return _Texts(before, after, "", "", "")
        ((where, event),) = events
        body = json.loads(base64.b64decode(event["body"]))
        body |= {"timestamp": _TIME, "clock": _CLOCK}
        event["body"] = _BODY
        event["properties"]["delivery_tag"] = _TAG
        return _Texts(before, after, self._prefix + where, _text(event), _text(body))


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
