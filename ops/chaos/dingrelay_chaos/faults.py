"""The faults: what goes wrong, how often, and how it ends.

A fault begins at its step and ends `seconds` later. Both are carried out by the driver's main thread,
one after the other.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dingrelay_chaos.dingtalk import AGENT_ID, APP_KEY, APP_SECRET
from dingrelay_chaos.subscribers import ALL, FIRST, GONE
from dingrelay_chaos.system import System

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
TOKEN_APIS = ("/gettoken", "/v1.0/oauth2")
REMOTE_TIMEOUT = {
    "errcode": 15,
    "errmsg": "Remote service error",
    "sub_code": "isp.remote-service-timeout",
    "sub_msg": "isp error",
}
"""An answer that does not say whether the call was carried out (API §11.2)."""
MANNERS = (
    *("slow", "error", "error", "busy", "garbage"),
    *("cut", "endless", "redirect", "flap", "half"),
)
ON_OPEN_STREAMS = ("drop", "drop", "disconnect", "disconnect", "die", "silence")
ON_NEW_STREAMS = ("no_registered", "deaf", "silent")

LOSES_MESSAGES = frozenset(
    {"kill", "terminate", "valkey_restart", "valkey_failover", "valkey_freeze"}
)
"""Faults under which Celery itself loses or delays a message."""
LOSES_ANSWERS = LOSES_MESSAGES | {"suspend", "valkey_full", "valkey_read_only"}
"""Faults in which answers of DingTalk's, or what was counted of them, are lost."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a schedule.

    Attributes:
        name: in the table of faults.
        seconds: how long.
        values: what else was drawn, such as the worker.
    """

    name: str
    seconds: float
    values: Mapping[str, Any]

    def begin(self, system: System) -> None:
        """Let it go wrong."""
        FAULTS[self.name].begin(system, self)

    def end(self, system: System) -> None:
        """Mend it; also when its end came early."""
        FAULTS[self.name].end(system, self)

    def shortened(self, seconds: float) -> "Fault":
        """The fault, ending within so many seconds."""
        return self if self.seconds <= seconds else replace(self, seconds=round(seconds, 2))

    @property
    def loses_answers(self) -> bool:
        """Whether answers of DingTalk's may be lost in it."""
        return self.name in LOSES_ANSWERS

    @property
    def holds_up_reports(self) -> bool:
        """Whether a worker may report nothing in it of what it has counted."""
        return self.name == "suspend" or self.name.startswith("valkey_")

    @property
    def bounded(self) -> float:
        """Seconds of the fault, as the sandbox takes them."""
        return max(0.1, self.seconds)


Spec = tuple[float, dict[str, Any]]
"""Seconds and values of a fault."""
Draw = Callable[[random.Random, float], Spec]
"""From the schedule's randomness, and the most seconds that a clock is off."""
Act = Callable[[System, Fault], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a fault comes, how it is drawn, and what begins and ends it."""

    weight: float
    draw: Draw
    begin: Act
    end: Act


def draw(rng: random.Random, name: str, workers: int, skew: float) -> Fault:
    """A random fault of that name in a fleet of so many workers, `skew` seconds off at most."""
    worker = rng.randrange(workers)
    seconds, values = FAULTS[name].draw(rng, skew)
    return Fault(name, seconds, {"worker": worker, **values} if name in OF_WORKERS else values)


def _seconds(rng: random.Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 2)


def _for(low: float, high: float, *or_high: float) -> Draw:
    def draw(rng: random.Random, skew: float) -> Spec:
        return _seconds(rng, low, rng.choice((high, *or_high)) if or_high else high), {}

    return draw


def _share(rng: random.Random) -> float:
    return rng.choice((0.1, 0.3, 0.7, 1.0))


def _ends(rng: random.Random, skew: float) -> Spec:
    off = round(rng.uniform(-skew, skew), 1) if rng.random() < 0.2 else 0.0
    return _seconds(rng, 0.2, 6), {"skew": off}


def _spoils(rng: random.Random, low: float, high: float, kind: str, **spec: Any) -> Spec:
    return _seconds(rng, low, high), {"kind": kind, **spec}


def _lost(rng: random.Random, skew: float) -> Spec:
    kind = rng.choice(("lost_answer", "lost_answer", "reset_after", "reset_before", "hang"))
    extra = {"effect": rng.random() < 0.6} if kind == "hang" else {}
    return _spoils(rng, 1, 8, kind, api=rng.choice(APIS), share=_share(rng), **extra)


def _wrong(rng: random.Random, skew: float) -> Spec:
    kind = rng.choice(("truncated", "wrong_types", "html"))
    effect = rng.random() < 0.6
    return _spoils(rng, 1, 6, kind, api=rng.choice(APIS), share=_share(rng), effect=effect)


SICK: tuple[dict[str, Any], ...] = (
    {"kind": "error"},
    {"kind": "error", "status": 200, "body": REMOTE_TIMEOUT},
    {"kind": "http"},
    {"kind": "html", "status": 502},
)


def _sick(*, effect: bool) -> Draw:
    def draw(rng: random.Random, skew: float) -> Spec:
        api, share = rng.choice(APIS), _share(rng)
        answer: dict[str, Any] = rng.choice(SICK)
        if answer["kind"] == "http":
            answer = {**answer, "status": rng.choice((500, 502, 503, 504))}
        return _spoils(rng, 1, 8, **answer, api=api, share=share, effect=effect)

    return draw


def _slow(rng: random.Random, skew: float) -> Spec:
    low = rng.choice((200, 1_000, 3_500))
    # Of a call, or of its answer: others can meet its effect before the caller knows of it.
    spec = {"effect": rng.random() < 0.5, "min_ms": low, "max_ms": low * 1.3}
    return _spoils(rng, 2, 8, "latency", api=rng.choice(APIS), **spec)


def _outage(rng: random.Random, skew: float) -> Spec:
    api = rng.choice((*APIS, *TOKEN_APIS, "*", "*"))
    kind = rng.choice(("http", "html", "error", "reset_before", "hang", "lost_answer"))
    extra: dict[str, Any] = {"status": 503} if kind in {"http", "html"} else {}
    extra |= {} if kind == "reset_before" else {"effect": rng.random() < 0.2}
    return _spoils(rng, 4, 15, kind, api=api, **extra)


def _throttles(rng: random.Random, skew: float) -> Spec:
    return _spoils(rng, 0.5, 4, "throttle", api=rng.choice(APIS), share=_share(rng))


def _clock(rng: random.Random, skew: float) -> Spec:
    return _seconds(rng, 2, 15), {"offset": round(rng.uniform(-skew, skew), 1)}


def _swallowed(rng: random.Random, skew: float) -> Spec:
    return _seconds(rng, 1, 8), {"kind": "swallow", "share": _share(rng)}


def _again(rng: random.Random, skew: float) -> Spec:
    late = rng.choice((100, 3_000))
    spec = {"share": _share(rng), "copies": rng.randint(1, 3), "min_ms": 0, "max_ms": late}
    return _spoils(rng, 1, 10, "duplicate", **spec)


def _late(rng: random.Random, skew: float) -> Spec:
    spec = {"share": _share(rng), "min_ms": 0, "max_ms": rng.choice((1_000, 10_000))}
    return _spoils(rng, 1, 10, "delay", **spec)


def _mixed(rng: random.Random, skew: float) -> Spec:
    spec = {"window": rng.choice((3, 10, 30)), "max_ms": rng.choice((500, 3_000))}
    return _spoils(rng, 1, 10, "reorder", **spec)


def _stream(rng: random.Random, skew: float) -> Spec:
    how = rng.choice((*ON_OPEN_STREAMS, *ON_NEW_STREAMS))
    return _seconds(rng, 0.5, 5), {"how": how}


def _receiver(rng: random.Random, skew: float) -> Spec:
    if rng.random() < 0.1:
        return _seconds(rng, 1, 5), {"endpoint": GONE, "manner": "gone"}
    endpoint, manner = rng.choice(("*", ALL, *FIRST)), rng.choice(MANNERS)
    return _seconds(rng, 0.5, 10), {"endpoint": endpoint, "manner": manner}


def _by_itself(system: System, fault: Fault) -> None:
    """The sandbox ends it, or what it was about is replaced anyway."""


def _spoil_calls(system: System, fault: Fault) -> None:
    system.sandbox.add_fault(seconds=fault.bounded, **fault.values)


def _spoil_events(system: System, fault: Fault) -> None:
    system.sandbox.add_event_fault(seconds=fault.bounded, **fault.values)


def _break_streams(system: System, fault: Fault) -> None:
    """Break the open connections, or the next ones. Nothing comes of it where events are pushed."""
    how = fault.values["how"]
    if how in ON_NEW_STREAMS:
        system.sandbox.add_event_fault(how, seconds=fault.bounded)
        how = "drop"
    system.sandbox.act_on_streams(how)


def _end_tokens(system: System, fault: Fault) -> None:
    revoke = fault.values["how"] == "revoke"
    (system.sandbox.revoke_tokens if revoke else system.sandbox.expire_tokens)()


def _change_secret(secret: str) -> Act:
    """At DingTalk, which refuses all tokens then."""

    def act(system: System, fault: Fault) -> None:
        system.sandbox.add_app(app_key=APP_KEY, app_secret=secret, agent_id=AGENT_ID)
        if secret != APP_SECRET:
            system.sandbox.revoke_tokens()

    return act


def _worker(method: str) -> Act:
    return lambda system, fault: getattr(system.workers[fault.values["worker"]], method)()


def _start_worker(system: System, fault: Fault) -> None:
    system.workers[fault.values["worker"]].start(fault.values["skew"])


def _calls(weight: float, draw: Draw) -> Kind:
    return Kind(weight, draw, _spoil_calls, _by_itself)


def _events(weight: float, draw: Draw) -> Kind:
    return Kind(weight, draw, _spoil_events, _by_itself)


def _of(part: str, weight: float, draw: Draw, begin: str, end: str) -> Kind:
    """A fault of a part of the system, and its mend, by the names of the part's methods."""

    def act(method: str) -> Act:
        return lambda system, _: getattr(getattr(system, part), method)()

    return Kind(weight, draw, act(begin), act(end))


def _refuses_writes(*, full: bool) -> Kind:
    return Kind(
        2,
        _for(0.5, 6),
        lambda system, _: system.valkey.refuse_writes(full=full),
        lambda system, _: system.valkey.take_writes(full=full),
    )


OF_WORKERS = frozenset({"kill", "terminate", "suspend"})

FAULTS: Mapping[str, Kind] = {
    "kill": Kind(5, _ends, _worker("kill"), _start_worker),
    "terminate": Kind(3, _ends, _worker("terminate"), _start_worker),
    "suspend": Kind(3, _for(1, 4, 10, 20), _worker("suspend"), _worker("resume")),
    "gateway_kill": _of("gateway", 3, _for(0.1, 4), "kill", "start"),
    "valkey_restart": Kind(
        2,
        lambda rng, _: (_seconds(rng, 0.2, 4), {"how": rng.choice(("kill", "terminate"))}),
        lambda system, fault: system.valkey.end(kill=fault.values["how"] == "kill"),
        lambda system, _: system.valkey.start(),
    ),
    "valkey_failover": Kind(
        2,
        lambda rng, _: (_seconds(rng, 0.2, 3), {"losing": rng.choice((0, 0, 0.3, 1))}),
        lambda system, fault: system.valkey.fail_over(fault.values["losing"]),
        lambda system, _: system.valkey.promote(),
    ),
    "valkey_freeze": _of("valkey", 2, _for(0.5, 8), "suspend", "resume"),
    "valkey_full": _refuses_writes(full=True),
    "valkey_read_only": _refuses_writes(full=False),
    "database_locked": _of("database", 2, _for(0.5, 8), "lock", "unlock"),
    "database_away": _of("database", 2, _for(0.5, 8), "take_away", "bring_back"),
    "lost_answer": _calls(6, _lost),
    "wrong_answer": _calls(4, _wrong),
    "sick_after_effect": _calls(5, _sick(effect=True)),
    "sick_before_effect": _calls(4, _sick(effect=False)),
    "slow": _calls(3, _slow),
    "outage": _calls(4, _outage),
    "throttle": _calls(4, _throttles),
    "token": Kind(
        3, lambda rng, _: (0, {"how": rng.choice(("revoke", "expire"))}), _end_tokens, _by_itself
    ),
    "credentials": Kind(
        2, _for(1, 6), _change_secret("changed-at-dingtalk"), _change_secret(APP_SECRET)
    ),
    "connections_refused": Kind(
        3,
        _for(0.5, 8),
        lambda system, fault: system.sandbox.refuse_connections(fault.bounded),
        lambda system, _: system.sandbox.accept_connections(),
    ),
    "dingtalk_clock": Kind(
        2,
        _clock,
        lambda system, fault: system.sandbox.set_clock(fault.values["offset"]),
        lambda system, _: system.sandbox.set_clock(system.setting.sandbox_skew),
    ),
    "gateway_suspend": _of("gateway", 2, _for(0.5, 3, 10), "suspend", "resume"),
    "event_swallow": _events(3, _swallowed),
    "event_duplicate": _events(3, _again),
    "event_delay": _events(3, _late),
    "event_reorder": _events(2, _mixed),
    "stream": Kind(3, _stream, _break_streams, _by_itself),
    "listener_kill": _of("listener", 2, _for(0.1, 4), "kill", "start"),
    "receiver": Kind(
        4,
        _receiver,
        lambda system, fault: system.receiver.manners.update(
            {fault.values["endpoint"]: fault.values["manner"]}
        ),
        lambda system, fault: system.receiver.manners.pop(fault.values["endpoint"], None),
    ),
    "receiver_away": _of("receiver", 2, _for(0.5, 12), "go_away", "come_back"),
}
"""A seed leaves some of them out, so that others come more often."""
