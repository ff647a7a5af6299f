"""The comparison of Redis with the database: one restored from a backup is older."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from redis import Redis
from sqlalchemy import Engine

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import moment_of
from dingrelay_tasks.sentence import en

MARGIN_MS = 60_000
"""A failover loses a second, and the history is written some seconds after a job has ended."""


class Compared(NamedTuple):
    """Redis and the database.

    Attributes:
        settle: whether jobs that are open in Redis and have ended by the history are to be as they ended.
    """

    redis: Redis
    engine: Engine
    settings: Settings
    settle: bool

    def now(self) -> int:
        """Redis's time, in ms."""
        clock: Any = self.redis.time()
        seconds, micros = clock
        return int(seconds) * 1000 + int(micros) // 1000

    def number(self, key: str) -> int:
        """The number at a key; 0 for none."""
        return int(text_of(self.redis.get(key)) or 0)


class BackupDifference(NamedTuple):
    """A sign that one of them is older; `found` and `advice` as the doctor shows them."""

    verdict: Literal["warning", "failed"]
    found: str
    advice: str


def redis_is_older(difference: str) -> BackupDifference:
    """A Redis without what happened since its backup, of which nothing would run again."""
    return BackupDifference(
        "warning",
        difference,
        en(
            "what was accepted in between and has not ended is lost: see the runbook backup-restored"
        ),
    )


def text_of(value: Any) -> str:
    """A value of Redis's as text; "" for none."""
    return value.decode() if isinstance(value, bytes) else str(value or "")


def milliseconds_of(moment: datetime | None) -> int:
    """A moment in ms since the epoch; 0 for none."""
    return int(moment.timestamp() * 1000) if moment else 0


def shown(milliseconds: int) -> str:
    """A moment for people."""
    moment = moment_of(milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if milliseconds else "never"
