"""Random faults: by name, as the table of weights has them."""

import random
from collections.abc import Callable
from typing import Any

from dingrelay_chaos.faults.database import DatabaseAway, DatabaseLocked
from dingrelay_chaos.faults.dingtalk import (
    ConnectionsRefused,
    CredentialsRefused,
    DingTalkClock,
    DingTalkSpoils,
    TokensEnd,
)
from dingrelay_chaos.faults.events import EventsSpoilt, ListenerEnds, StreamBreaks
from dingrelay_chaos.faults.fault import Fault
from dingrelay_chaos.faults.gateway import GatewayEnds, GatewaySleeps
from dingrelay_chaos.faults.receiver import ReceiverAway, ReceiverMisbehaves
from dingrelay_chaos.faults.valkey import (
    ValkeyFailsOver,
    ValkeyFreezes,
    ValkeyRefuses,
    ValkeyRestarts,
)
from dingrelay_chaos.faults.workers import WorkerEnds, WorkerSleeps
from dingrelay_chaos.receiver import Manner
from dingrelay_chaos.subscribers import ALL, FIRST, GONE

APIS = (
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/topapi/processinstance/create",
    "/topapi/processinstance",
    "/v1.0/workflow",
    "/topapi/v2/",
    "/topapi/message",
    "/media/upload",
    "*",
)
REMOTE_TIMEOUT = {
    "errcode": 15,
    "errmsg": "Remote service error",
    "sub_code": "isp.remote-service-timeout",
    "sub_msg": "isp error",
}
"""An answer that does not say whether the call was carried out (API §11.2)."""
TOKEN_APIS = ("/gettoken", "/v1.0/oauth2")

Draw = Callable[[random.Random, int, float], Fault]
"""From the schedule's randomness, a worker, and the most seconds that a clock is off."""


def draw(rng: random.Random, name: str, workers: int, skew: float) -> Fault:
    """A random fault of that name in a fleet of so many workers, `skew` seconds off at most."""
    return _DRAWS[name](rng, rng.randrange(workers), skew)


def _seconds(rng: random.Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 2)


def _ends(how: str) -> Draw:
    def draw(rng: random.Random, worker: int, skew: float) -> Fault:
        off = round(rng.uniform(-skew, skew), 1) if rng.random() < 0.2 else 0.0
        return WorkerEnds(worker, how, _seconds(rng, 0.2, 6), off)

    return draw


def _spoils(rng: random.Random, kind: str, seconds: tuple[float, float], **spec: Any) -> Fault:
    return DingTalkSpoils(kind, _seconds(rng, *seconds), spec)


def _lost(rng: random.Random, worker: int, skew: float) -> Fault:
    kind = rng.choice(("lost_answer", "lost_answer", "reset_after", "reset_before", "hang"))
    extra = {"effect": rng.random() < 0.6} if kind == "hang" else {}
    return _spoils(rng, kind, (1, 8), api=rng.choice(APIS), share=_share(rng), **extra)


def _wrong(rng: random.Random, worker: int, skew: float) -> Fault:
    kind = rng.choice(("truncated", "wrong_types", "html"))
    effect = rng.random() < 0.6
    return _spoils(rng, kind, (1, 6), api=rng.choice(APIS), share=_share(rng), effect=effect)


def _sick(*, effect: bool) -> Draw:
    def draw(rng: random.Random, worker: int, skew: float) -> Fault:
        api = rng.choice(APIS)
        common: dict[str, Any] = {"api": api, "share": _share(rng), "effect": effect}
        match rng.choice(("busy", "remote", "gateway", "html")):
            case "remote":
                return _spoils(rng, "error", (1, 8), **common, status=200, body=REMOTE_TIMEOUT)
            case "busy":
                return _spoils(rng, "error", (1, 8), **common)
            case "gateway":
                status = rng.choice((500, 502, 503, 504))
                return _spoils(rng, "http", (1, 8), status=status, **common)
            case _:
                return _spoils(rng, "html", (1, 8), status=502, **common)

    return draw


def _slow(rng: random.Random, worker: int, skew: float) -> Fault:
    low = rng.choice((200, 1_000, 3_500))
    return _spoils(rng, "latency", (2, 8), api=rng.choice(APIS), min_ms=low, max_ms=low * 1.3)


def _outage(rng: random.Random, worker: int, skew: float) -> Fault:
    api = rng.choice((*APIS, *TOKEN_APIS, "*", "*"))
    kind = rng.choice(("http", "html", "error", "reset_before", "hang", "lost_answer"))
    extra: dict[str, Any] = {"status": 503} if kind in {"http", "html"} else {}
    extra |= {} if kind == "reset_before" else {"effect": rng.random() < 0.2}
    return _spoils(rng, kind, (4, 15), api=api, **extra)


def _share(rng: random.Random) -> float:
    return rng.choice((0.1, 0.3, 0.7, 1.0))


def _again(rng: random.Random, worker: int, skew: float) -> Fault:
    late: dict[str, Any] = {"min_ms": 0, "max_ms": rng.choice((100, 3_000))}
    spec = {"share": _share(rng), "copies": rng.randint(1, 3), **late}
    return EventsSpoilt("duplicate", _seconds(rng, 1, 10), spec)


def _late(rng: random.Random, worker: int, skew: float) -> Fault:
    spec = {"share": _share(rng), "min_ms": 0, "max_ms": rng.choice((1_000, 10_000))}
    return EventsSpoilt("delay", _seconds(rng, 1, 10), spec)


def _mixed(rng: random.Random, worker: int, skew: float) -> Fault:
    spec = {"window": rng.choice((3, 10, 30)), "max_ms": rng.choice((500, 3_000))}
    return EventsSpoilt("reorder", _seconds(rng, 1, 10), spec)


def _stream(rng: random.Random, worker: int, skew: float) -> Fault:
    how: tuple[Any, ...] = ("drop", "drop", "disconnect", "disconnect", "die", "silence")
    return StreamBreaks(
        rng.choice((*how, "no_registered", "deaf", "silent")), _seconds(rng, 0.5, 5)
    )


def _receiver(rng: random.Random, worker: int, skew: float) -> Fault:
    manners: tuple[Manner, ...] = (
        *("slow", "error", "error", "busy", "garbage"),
        *("cut", "endless", "redirect", "flap", "half"),
    )
    if rng.random() < 0.1:
        return ReceiverMisbehaves("gone", GONE, _seconds(rng, 1, 5))
    name = rng.choice(("*", ALL, *FIRST))
    return ReceiverMisbehaves(rng.choice(manners), name, _seconds(rng, 0.5, 10))


_DRAWS: dict[str, Draw] = {
    "kill": _ends("kill"),
    "terminate": _ends("terminate"),
    "suspend": lambda rng, worker, _: WorkerSleeps(
        worker, _seconds(rng, 1, rng.choice((4, 10, 20)))
    ),
    "gateway_kill": lambda rng, _, __: GatewayEnds(_seconds(rng, 0.1, 4)),
    "valkey_restart": lambda rng, _, __: ValkeyRestarts(
        _seconds(rng, 0.2, 4), rng.choice(("kill", "terminate"))
    ),
    "valkey_failover": lambda rng, _, __: ValkeyFailsOver(
        _seconds(rng, 0.2, 3), rng.choice((0, 0, 0.3, 1))
    ),
    "valkey_freeze": lambda rng, _, __: ValkeyFreezes(_seconds(rng, 0.5, 8)),
    "valkey_full": lambda rng, _, __: ValkeyRefuses(_seconds(rng, 0.5, 6), "full"),
    "valkey_read_only": lambda rng, _, __: ValkeyRefuses(_seconds(rng, 0.5, 6), "read only"),
    "database_locked": lambda rng, _, __: DatabaseLocked(_seconds(rng, 0.5, 8)),
    "database_away": lambda rng, _, __: DatabaseAway(_seconds(rng, 0.5, 8)),
    "lost_answer": _lost,
    "wrong_answer": _wrong,
    "sick_after_effect": _sick(effect=True),
    "sick_before_effect": _sick(effect=False),
    "slow": _slow,
    "outage": _outage,
    "throttle": lambda rng, _, __: _spoils(
        rng, "throttle", (0.5, 4), api=rng.choice(APIS), share=_share(rng)
    ),
    "token": lambda rng, _, __: TokensEnd(rng.choice(("revoke", "expire"))),
    "credentials": lambda rng, _, __: CredentialsRefused(_seconds(rng, 1, 6)),
    "connections_refused": lambda rng, _, __: ConnectionsRefused(_seconds(rng, 0.5, 8)),
    "dingtalk_clock": lambda rng, _, skew: DingTalkClock(
        _seconds(rng, 2, 15), round(rng.uniform(-skew, skew), 1)
    ),
    "gateway_suspend": lambda rng, _, __: GatewaySleeps(_seconds(rng, 0.5, rng.choice((3, 10)))),
    "event_swallow": lambda rng, _, __: EventsSpoilt(
        "swallow", _seconds(rng, 1, 8), {"share": _share(rng)}
    ),
    "event_duplicate": _again,
    "event_delay": _late,
    "event_reorder": _mixed,
    "stream": _stream,
    "listener_kill": lambda rng, _, __: ListenerEnds(_seconds(rng, 0.1, 4)),
    "receiver": _receiver,
    "receiver_away": lambda rng, _, __: ReceiverAway(_seconds(rng, 0.5, 12)),
}
