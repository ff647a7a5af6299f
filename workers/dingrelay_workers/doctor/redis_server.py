"""The Redis or Valkey that holds job records and limits."""

import time
from collections.abc import Mapping
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_sync
from dingrelay_tasks.sentence import en
from dingrelay_workers.doctor.causes import CheckResult, Verdict, cause
from dingrelay_workers.doctor.other_protocol import check_protocol

TIMEOUT = 3.0
OLDEST = (7, 2)
"""The oldest version that the scripts were tried on; 6.2 does not know what some of them ask of PEXPIRE."""
TRIAL_MS = 10_000
"""Milliseconds for which what is written to try it stays."""
ACL_ADVICE = en("give the user the rights that the operating guide names")
SKEW = 2.0
"""Seconds between our clock and the server's that are no worry."""

Info = Mapping[str, Any]


def check_redis(settings: Settings) -> list[CheckResult]:
    """Whether it is reachable and stores data; one result if it can't be reached."""
    try:
        redis = open_sync(
            settings.redis_address,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        return [
            CheckResult("redis", "failed", en("{}: {}", "DINGRELAY_REDIS_URL", error), "correct it")
        ]
    with redis:
        try:
            # The last one shows whether it takes writes.
            return _check_server(redis, strict=settings.env == "production")
        except AuthenticationError:
            return [_refused(en("it refuses the password"))]
        except BusyLoadingError:
            advice = en("wait: it answers once that is done")
            return [CheckResult("redis", "unreachable", "it is still loading its data", advice)]
        except (RedisError, OSError) as error:
            address, variable = settings.redis_address, "DINGRELAY_REDIS_URL"
            answers = isinstance(error, ResponseError)
            if not answers and (other_protocol := check_protocol("redis", address, variable)):
                return [other_protocol]
            if known_cause := cause("redis", error, variable, unshown=address.unshown):
                return [known_cause]
            if answers:
                return [_refused(str(error))]
            return [
                CheckResult(
                    "redis",
                    "unreachable",
                    en("no answer within {:g} s ({})", TIMEOUT, type(error).__name__),
                    "start it, or correct DINGRELAY_REDIS_URL",
                )
            ]


def _refused(why: str) -> CheckResult:
    return CheckResult("redis", "failed", why, "correct user and password in DINGRELAY_REDIS_URL")


def _check_server(redis: Redis, *, strict: bool) -> list[CheckResult]:
    began = time.time()
    seconds, micros = redis.time()
    ended = time.time()
    info = redis.info()
    return [
        check_version(info),
        _eviction(info),
        _persistence(info, _snapshots(redis), strict=strict),
        _clock(seconds + micros / 1e6, began, ended),
        _writes(redis, info),
    ]


def _writes(redis: Redis, info: Info) -> CheckResult:
    """Whether it takes what every job needs written."""
    check = en("redis writes")
    try:
        redis.set(keys.DOCTOR, 1, px=TRIAL_MS)
    except ReadOnlyError:
        where = info.get("master_host", "")
        finding = (
            en("refused: it is a replica of {}", where) if where else en("refused: it is a replica")
        )
        return CheckResult(
            check, "failed", finding, "name the primary, or the Sentinels, in DINGRELAY_REDIS_URL"
        )
    except OutOfMemoryError:
        used, most = info.get("used_memory_human", "?"), info.get("maxmemory_human", "?")
        finding = en("refused: memory is full ({} of {})", used, most)
        return CheckResult(check, "failed", finding, "raise maxmemory, or free what else is in it")
    except NoPermissionError as error:
        return CheckResult(check, "failed", en("refused: {}", error), ACL_ADVICE)
    except ResponseError as error:
        return CheckResult(check, "failed", en("refused: {}", error), "look at its log")
    return CheckResult(check, "ok", "accepted")


def check_version(info: Info) -> CheckResult:
    """Whether it is new enough, by its INFO."""
    # Valkey also has the version of Redis that it is compatible with.
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    compatible = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if compatible < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return CheckResult(
            "redis version", "failed", f"{name} {version}", en("use {} or newer", oldest)
        )
    return CheckResult("redis version", "ok", f"{name} {version}")


def _eviction(info: Info) -> CheckResult:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        return CheckResult(
            "redis eviction",
            "failed",
            en("maxmemory-policy is {}: jobs vanish when memory is short", policy),
            "set maxmemory-policy noeviction",
        )
    return CheckResult("redis eviction", "ok", "noeviction")


def _snapshots(redis: Redis) -> str | None:
    """The server's `save` setting; None where we may not ask for it."""
    try:
        config = cast("dict[str, str]", redis.config_get("save"))
    except ResponseError:
        return None
    return config.get("save", "")


def _persistence(info: Info, snapshots: str | None, *, strict: bool) -> CheckResult:
    check = en("redis persistence")
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return CheckResult(
                check, "failed", "the last write of the AOF failed", "look at its disk"
            )
        return CheckResult(check, "ok", "append-only file")
    advice = en("set appendonly yes")
    if snapshots is None:
        return CheckResult(check, "warning", "no append-only file; snapshots: may not ask", advice)
    if snapshots:
        finding = en(
            "snapshots only (save {}): a crash loses the jobs since the last one", snapshots
        )
        return CheckResult(check, "warning", finding, advice)
    verdict: Verdict = "failed" if strict else "warning"
    return CheckResult(check, verdict, "none: a restart loses every job", advice)


def _clock(server: float, began: float, ended: float) -> CheckResult:
    """Compare with the middle of the question, give or take half its duration."""
    skew = max(0.0, abs(server - (began + ended) / 2) - (ended - began) / 2)
    if skew > SKEW:
        finding = en("{:.1f} s apart from this machine's", skew)
        return CheckResult("redis clock", "warning", finding, "run NTP on both machines")
    return CheckResult("redis clock", "ok", en("within {:g} s of this machine's", SKEW))
