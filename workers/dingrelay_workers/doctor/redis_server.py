"""The Redis or Valkey that holds job records and limits."""

import time
from collections.abc import Mapping
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from dingrelay_producers.settings import Settings
from dingrelay_workers.doctor.check_result import CheckResult, Verdict

TIMEOUT = 3.0
OLDEST = (6, 2)
"""The first version with all the commands that the scripts use."""
SKEW = 2.0
"""Seconds between our clock and the server's that are no worry."""

Info = Mapping[str, Any]


def check_redis(settings: Settings) -> list[CheckResult]:
    """Whether it is reachable and keeps what it is given; one finding if it can't be asked."""
    try:
        redis = Redis.from_url(
            settings.redis,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        return [CheckResult("redis", "failed", f"DINGRELAY_REDIS_URL: {error}", "correct it")]
    with redis:
        try:
            return _look(redis, strict=settings.env == "production")
        except AuthenticationError:
            return [_refused("it refuses the password")]
        except ResponseError as error:
            return [_refused(str(error))]
        except (RedisError, OSError) as error:
            return [
                CheckResult(
                    "redis",
                    "unreachable",
                    f"no answer within {TIMEOUT:g} s ({type(error).__name__})",
                    "start it, or correct DINGRELAY_REDIS_URL",
                )
            ]


def _refused(why: str) -> CheckResult:
    return CheckResult("redis", "failed", why, "correct user and password in DINGRELAY_REDIS_URL")


def _look(redis: Redis, *, strict: bool) -> list[CheckResult]:
    began = time.time()
    seconds, micros = redis.time()
    ended = time.time()
    info = redis.info()
    return [
        _version(info),
        _eviction(info),
        _persistence(info, _snapshots(redis), strict=strict),
        _clock(seconds + micros / 1e6, began, ended),
    ]


def _version(info: Info) -> CheckResult:
    # Valkey also tells the version of Redis that it is compatible with.
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    compatible = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if compatible < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return CheckResult("redis version", "failed", f"{name} {version}", f"use {wanted} or newer")
    return CheckResult("redis version", "ok", f"{name} {version}")


def _eviction(info: Info) -> CheckResult:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        return CheckResult(
            "redis eviction",
            "failed",
            f"maxmemory-policy is {policy}: jobs vanish when memory is short",
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
    check = "redis persistence"
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return CheckResult(
                check, "failed", "the last write of the AOF failed", "look at its disk"
            )
        return CheckResult(check, "ok", "append-only file")
    advice = "set appendonly yes"
    if snapshots is None:
        return CheckResult(check, "warning", "no append-only file; snapshots: may not ask", advice)
    if snapshots:
        found = f"snapshots only (save {snapshots}): a crash loses the jobs since the last one"
        return CheckResult(check, "warning", found, advice)
    verdict: Verdict = "failed" if strict else "warning"
    return CheckResult(check, verdict, "none: a restart loses every job", advice)


def _clock(server: float, began: float, ended: float) -> CheckResult:
    """Compare with the middle of the question, give or take half its duration."""
    skew = max(0.0, abs(server - (began + ended) / 2) - (ended - began) / 2)
    if skew > SKEW:
        found = f"{skew:.1f} s apart from this machine's"
        return CheckResult("redis clock", "warning", found, "run NTP on both machines")
    return CheckResult("redis clock", "ok", f"within {SKEW:g} s of this machine's")
