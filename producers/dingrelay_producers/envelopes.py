"""Writes wake-ups as Celery's messages, for a broker that is a Redis.

Celery and kombu take 200 µs of a processor for a wake-up and its event, and a sixth of a second to be imported. What
they write is Celery's protocol 2 (`tests/integration/test_envelopes.py` compares both): the messages of one kind, lane and
app differ in a few places only, which are filled in. Without what a worker assumes anyway, a message that waits takes
0.4 kB of Redis instead of 1.2.
"""

import os
import random
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache, partial
from json import dumps
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from dingrelay_producers.store.record import Draft, Envelope, Wakeup
from dingrelay_tasks.kinds import TASK_PREFIX

WOKEN_HEADER = "dingrelay-woken"
"""Message header: when the wake-up was decided on, in milliseconds of Redis's clock."""
FORMAT_HEADER = "dingrelay-v"
"""Message header: the number of what a wake-up is like, which grows as that of records does."""
WAKEUP_FORMAT = 1
"""Version of the wake-ups that we publish. Whatever the number, Celery's id and task name are the job's and its
kind's."""

_EVENTS, _SENT = "celeryev", "task.sent"
"""Exchange and routing key of Celery's event that a task was sent, which Flower shows."""
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
_JSON = {"content-encoding": "utf-8", "content-type": "application/json"}

_json = partial(dumps, separators=(",", ":"))


class _Texts(NamedTuple):
    """The messages of one kind, queue, app and lane, with places to fill in by ``%``."""

    before: str
    after: str
    event: str


class Envelopes:
    """Writes messages; safe to share between threads.

    Args:
        database: the number of the broker's.
        tick: Celery's logical clock, which orders events of one moment.
    """

    def __init__(self, database: int, tick: Callable[[], int]) -> None:
        self._channel = f"/{database}.{_EVENTS}/{_SENT}"
        self._tick = tick
        # As Celery calls a process that is no worker.
        self._host = f"gen{os.getpid()}@{socket.gethostname()}"
        self._texts = lru_cache(maxsize=1_000)(self._write_texts)

    def write(self, job: Draft | Wakeup) -> Envelope:
        """The message that wakes a job, and the event that it was sent."""
        texts = self._texts(job.kind, job.queue, job.app, job.lane)
        job_id, summary = _quoted(job.id)[1:-1], _quoted(job.summary)[1:-1]
        values: dict[str, Any] = {"id": job_id, "summary": summary, "tag": _tag()}
        before, after = texts.before % values, texts.after % values
        # The event's body is a text within a text.
        values = {
            "id": _quoted(job_id)[1:-1],
            "summary": _quoted(summary)[1:-1],
            "tag": _tag(),
            "time": time.time(),
            "clock": self._tick(),
        }
        return before, after, self._channel, texts.event % values

    def _write_texts(self, kind: str, queue: str, app: str, lane: str) -> _Texts:
        message = {
            "body": _json([[], {"job": {"app": app, "lane": lane}}, {}]),
            **_JSON,
            "headers": {
                "lang": "py",
                "task": TASK_PREFIX + kind,
                "id": _ID,
                "kwargsrepr": _SUMMARY,
                WOKEN_HEADER: _WOKEN,
                FORMAT_HEADER: WAKEUP_FORMAT,
            },
            "properties": {
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": _TAG,
            },
        }
        sent = {
            "hostname": self._host,
            "utcoffset": _hours_west(),
            "pid": os.getpid(),
            "clock": _CLOCK,
            "uuid": _ID,
            "root_id": _ID,
            "parent_id": None,
            "name": TASK_PREFIX + kind,
            "args": "",
            "kwargs": _SUMMARY,
            "retries": 0,
            "eta": None,
            "expires": None,
            "queue": queue,
            "exchange": "",
            "routing_key": queue,
            "timestamp": _TIME,
            "type": "task-sent",
        }
        event = {
            "body": _json(sent),
            **_JSON,
            "headers": {"hostname": self._host},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": _EVENTS, "routing_key": _SENT},
                "priority": 0,
                "delivery_tag": _TAG,
            },
        }
        before, _, after = _text(message).partition(str(_WOKEN))
        return _Texts(before, after, _text(event))


def _hours_west() -> float:
    return (time.altzone if time.localtime().tm_isdst else time.timezone) / 3600


def _text(value: Any) -> str:
    """A message as text, with its places named for ``%``."""
    text = _json(value).replace("%", "%%")
    return _PLACE.sub(lambda place: f"%({_PLACES[place[0]]})s", text)


def _tag() -> str:
    """A tag that is unique among waiting messages: no secret, and a system call would take ten times as long.

    Python reseeds its generator after a fork.
    """
    return f"{random.getrandbits(64):016x}"
