"""Whether Redis and the database are of the same time: one restored from a backup is older."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, Row, func, inspect, or_, select
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_sync
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.scripts import run
from dingrelay_producers.store.states import State
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.doctor.causes import CheckResult
from dingrelay_workers.history.models import JobRow
from dingrelay_workers.store import transitions

CHECK = "backups"
MARGIN_MS = 60_000
"""A failover loses a second, and the history is written some seconds after a job has ended."""
EndedJob = Row[str, str, datetime]
"""Id, state and end of a job, by the history."""
DAY_MS = 86_400_000
PAGE = 1_000
"""Jobs that are compared at a time."""


def check_backups(settings: Settings, *, settle: bool = False) -> CheckResult:
    """Compare the last end of a job that Redis knows with the last one in the history, and so of chunks.

    Redis publishes every end before the history writes it, so a history that is ahead belongs to a
    Redis that is gone; Redis also holds which end the history wrote last, and when chunks were last
    settled.

    Args:
        settings: of Redis and database.
        settle: let jobs that are open in Redis and have ended by the history be as they ended.
    """
    engine = sync_engine(settings.database)
    try:
        with open_sync(settings.redis_address) as redis:
            if settings.history.days:
                found = _compare(redis, engine, settings, settle=settle)
            else:
                found = CheckResult(CHECK, "ok", "not compared: there is no history")
            return found if found.verdict != "ok" else _compare_chunks(redis, engine) or found
    except (SQLAlchemyError, RedisError, OSError, ValueError) as error:
        return CheckResult(CHECK, "unreachable", en("not compared ({})", type(error).__name__))
    finally:
        engine.dispose()


def _compare(redis: Redis, engine: Engine, settings: Settings, *, settle: bool) -> CheckResult:
    now = _milliseconds(redis.time())
    # Older rows may have been deleted.
    remembered = now - settings.history.days * DAY_MS
    in_redis, written = _last_end(redis), int(_text(redis.get(keys.HISTORY_WRITTEN)) or 0)
    kept = _newest(engine)
    # Redis forgets its ends after a week in which no job ended.
    if kept - in_redis > MARGIN_MS and kept > now - keys.ENDINGS_TTL_MS:
        return _redis_is_older(redis, engine, in_redis, kept, settings if settle else None)
    if written - kept > MARGIN_MS and written > remembered:
        return CheckResult(
            CHECK,
            "failed",
            en(
                "the database is older than Redis: jobs ended until {}, in its history until "
                "{}; campaigns go on where they stood then, and send again",
                _moment(written),
                _moment(kept),
            ),
            "before workers start, see the runbook backup-restored",
        )
    return CheckResult(CHECK, "ok", "Redis and the database are of the same time")


def _redis_is_older(
    redis: Redis, engine: Engine, in_redis: int, kept: int, settle: Settings | None
) -> CheckResult:
    ended = list(_ended_and_open(redis, engine, in_redis))
    if ended and settle:
        for job in ended:
            _restore(redis, job, settle)
        ended = []
    if not ended:
        return _older(
            en(
                "Redis is older than the database: jobs ended in it until {}, in the history "
                "until {}",
                _moment(in_redis),
                _moment(kept),
            )
        )
    return CheckResult(
        CHECK,
        "failed",
        en(
            "Redis is older than the database: jobs ended in it until {}, in the history until "
            "{}; open jobs that have ended since, and would run again: {}",
            _moment(in_redis),
            _moment(kept),
            len(ended),
        ),
        "before workers start, run dingrelay doctor --settle-ended",
    )


def _compare_chunks(redis: Redis, engine: Engine) -> CheckResult | None:
    """Whether SQL has settled chunks since this state of Redis. Their jobs end without a call."""
    now, settled = _milliseconds(redis.time()), int(_text(redis.get(keys.CAMPAIGNS_SETTLED)) or 0)
    since = moment_of(now - keys.ENDINGS_TTL_MS)
    with engine.connect() as connection:
        if not settled or not inspect(connection).has_table(ChunkRow.__tablename__):
            return None
        newest = connection.scalar(
            select(func.max(ChunkRow.called_at))
            .join(CampaignRow, CampaignRow.id == ChunkRow.campaign)
            .where(
                ChunkRow.state == ChunkState.SETTLED,
                or_(CampaignRow.ended_at.is_(None), CampaignRow.ended_at > since),
            )
        )
    called = _ms(newest)
    if called - settled <= MARGIN_MS:
        return None
    return _older(
        en(
            "Redis is older than the database: chunks of campaigns were settled until {}, in "
            "the database until {}",
            _moment(settled),
            _moment(called),
        )
    )


def _ended_and_open(redis: Redis, engine: Engine, moment: int) -> Iterator[EndedJob]:
    """Jobs that ended after a moment (ms) by the history, and are open in Redis."""
    for page in _ended(engine, moment):
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


_OPEN = {str(state) for state in State if not state.ended}


def _ended(engine: Engine, moment: int) -> Iterator[Sequence[EndedJob]]:
    since, last = moment_of(moment), ""
    with engine.connect() as connection:
        while True:
            found = connection.execute(
                select(JobRow.job, JobRow.state, JobRow.ended_at)
                .where(JobRow.ended_at > since, JobRow.job > last)
                .order_by(JobRow.job)
                .limit(PAGE)
            )
            page = found.all()
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
    return _ms(newest)


def _older(found: str) -> CheckResult:
    return CheckResult(
        CHECK,
        "warning",
        found,
        "what was accepted in between and has not ended is lost: see the runbook backup-restored",
    )


def _ms(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


def _last_end(redis: Redis) -> int:
    """When the last job ended that Redis knows of; 0 for none."""
    if not redis.exists(keys.ENDINGS):
        return 0
    stream = redis.xinfo_stream(keys.ENDINGS)
    return int(_text(stream["last-generated-id"]).partition("-")[0])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _milliseconds(clock: Any) -> int:
    seconds, micros = clock
    return int(seconds) * 1000 + int(micros) // 1000


def _moment(milliseconds: int) -> str:
    moment = moment_of(milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if milliseconds else "never"
