"""Whether Redis and the database know the same jobs as ended."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import cast

from redis import Redis
from sqlalchemy import Engine, Row, func, inspect, select

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.scripts import run
from dingrelay_producers.store.states import State
from dingrelay_tasks.sentence import en
from dingrelay_workers.history.models import JobRow
from dingrelay_workers.store import backups, transitions
from dingrelay_workers.store.backups import BackupDifference, Compared

EndedJob = Row[str, str, datetime]
"""Id, state and end of a job, by the history."""
DAY_MS = 86_400_000
PAGE = 1_000
"""Jobs that are compared at a time."""
_OPEN = {str(state) for state in State if not state.ended}


def compare(servers: Compared) -> BackupDifference | None:
    """Compare the last end of a job that Redis knows with the last one in the history.

    Redis publishes every end before the history writes it, so a history that is ahead belongs to a
    Redis that is gone; Redis also holds which end the history wrote last.
    """
    redis, engine, days = servers.redis, servers.engine, servers.settings.history.days
    if not days:
        return None
    now, in_redis, written = servers.now(), _last_end(redis), servers.number(keys.HISTORY_WRITTEN)
    in_history = _newest(engine)
    # Redis forgets its ends after a week in which no job ended.
    if in_history - in_redis > backups.MARGIN_MS and in_history > now - keys.ENDINGS_TTL_MS:
        return _redis_is_older(servers, in_redis, in_history)
    # Older rows may have been deleted.
    if written - in_history > backups.MARGIN_MS and written > now - days * DAY_MS:
        return BackupDifference(
            "failed",
            en(
                "the database is older than Redis: jobs ended until {}, in its history until "
                "{}; campaigns go on where they stood then, and send again",
                backups.shown(written),
                backups.shown(in_history),
            ),
            en("before workers start, see the runbook backup-restored"),
        )
    return None


def _redis_is_older(servers: Compared, in_redis: int, in_history: int) -> BackupDifference:
    redis = servers.redis
    ended = list(_ended_and_open(redis, servers.engine, in_redis))
    if ended and servers.settle:
        for job in ended:
            _restore(redis, job, servers.settings)
        ended = []
    if not ended:
        return backups.redis_is_older(
            en(
                "Redis is older than the database: jobs ended in it until {}, in the history "
                "until {}",
                backups.shown(in_redis),
                backups.shown(in_history),
            )
        )
    return BackupDifference(
        "failed",
        en(
            "Redis is older than the database: jobs ended in it until {}, in the history until "
            "{}; open jobs that have ended since, and would run again: {}",
            backups.shown(in_redis),
            backups.shown(in_history),
            len(ended),
        ),
        en("before workers start, run dingrelay doctor --settle-ended"),
    )


def _ended_and_open(redis: Redis, engine: Engine, moment: int) -> Iterator[EndedJob]:
    """Jobs that ended after a moment (ms) by the history, and are open in Redis."""
    for page in _read_ended(engine, moment):
        pipe = redis.pipeline(transaction=False)
        for ended in page:
            pipe.hget(keys.job(ended.job), "state")
        for ended, state in zip(page, cast("list[bytes | None]", pipe.execute()), strict=True):
            if state is not None and state.decode() in _OPEN:
                yield ended


def _restore(redis: Redis, ended: EndedJob, settings: Settings) -> None:
    call = transitions.restore_end(
        record=keys.job(ended.job),
        dead=keys.DEAD,
        job=ended.job,
        state=ended.state,
        settled=int(ended.ended_at.timestamp() * 1000),
        ttl=int(settings.record_ttl * 1000),
        dead_ttl=int(settings.dead_ttl * 1000),
    )
    run(redis, call)


def _read_ended(engine: Engine, moment: int) -> Iterator[Sequence[EndedJob]]:
    since, last = moment_of(moment), ""
    with engine.connect() as connection:
        while True:
            rows = connection.execute(
                select(JobRow.job, JobRow.state, JobRow.ended_at)
                .where(JobRow.ended_at > since, JobRow.job > last)
                .order_by(JobRow.job)
                .limit(PAGE)
            )
            page = rows.all()
            if not page:
                return
            yield page
            last = page[-1].job


def _newest(engine: Engine) -> int:
    """When the last job of the history ended; 0 for none."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(JobRow.__tablename__):
            return 0
        newest = connection.scalar(select(func.max(JobRow.ended_at)))
    return backups.milliseconds_of(newest)


def _last_end(redis: Redis) -> int:
    """When the last job ended that Redis knows of; 0 for none."""
    if not redis.exists(keys.ENDINGS):
        return 0
    stream = redis.xinfo_stream(keys.ENDINGS)
    return int(backups.text_of(stream["last-generated-id"]).partition("-")[0])
