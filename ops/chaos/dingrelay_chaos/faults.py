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
SHARES = (0.1, 0.3, 0.7, 1.0)
MOST_SKEW = 60.0
"""Seconds by which a clock may be wrong, either way."""
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
    def bounded(self) -> float:
        """Its seconds, as the sandbox takes them."""
        return max(0.1, self.seconds)


Draw = Callable[[random.Random], dict[str, Any]]
"""The values of a fault, with its seconds."""
Act = Callable[[System, Fault], object]


def _by_itself(system: System, fault: Fault) -> None:
    """The sandbox ends it, or what it was about is replaced anyway."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a fault comes, how it is drawn, and what begins and ends it."""

    weight: float
    draw: Draw
    begin: Act
    end: Act = _by_itself


def draw(rng: random.Random, name: str, workers: int) -> Fault:
    """A random fault of that name in a fleet of so many workers."""
    worker = rng.randrange(workers)
    values = FAULTS[name].draw(rng)
    seconds = values.pop("seconds")
    return Fault(name, seconds, {"worker": worker, **values} if name in OF_WORKERS else values)


def _each(**values: Any) -> Draw:
    """Values that are drawn in this order: from a tuple, by a function, or as they stand."""

    def draw(rng: random.Random) -> dict[str, Any]:
        return {name: _value(rng, each) for name, each in values.items()}

    return draw


def _value(rng: random.Random, each: Any) -> Any:
    if isinstance(each, tuple):
        return rng.choice(each)
    return each(rng) if callable(each) else each


def _within(low: float, *highs: float, digits: int = 2) -> Callable[[random.Random], float]:
    """A number up to one of the higher ones."""

    def number(rng: random.Random) -> float:
        return round(rng.uniform(low, rng.choice(highs) if len(highs) > 1 else highs[0]), digits)

    return number


def _odds(share: float) -> Callable[[random.Random], bool]:
    return lambda rng: rng.random() < share


_SKEW = _within(-MOST_SKEW, MOST_SKEW, digits=1)


def _ends(rng: random.Random) -> dict[str, Any]:
    off = _SKEW(rng) if rng.random() < 0.2 else 0.0
    return {"seconds": _within(0.2, 6)(rng), "skew": off}


def _lost(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("lost_answer", "lost_answer", "reset_after", "reset_before", "hang"))
    extra = {"effect": rng.random() < 0.6} if kind == "hang" else {}
    drawn = _each(kind=kind, api=APIS, share=SHARES, seconds=_within(1, 8))
    return {**drawn(rng), **extra}


def _sick(*, effect: bool) -> Draw:
    def draw(rng: random.Random) -> dict[str, Any]:
        common = _each(api=APIS, share=SHARES, effect=effect)(rng)
        own = SICK[rng.choice(("busy", "remote", "gateway", "html"))]
        return {**common, **_each(**own, seconds=_within(1, 8))(rng)}

    return draw


SICK: Mapping[str, Mapping[str, Any]] = {
    "busy": {"kind": "error"},
    "remote": {"kind": "error", "status": 200, "body": REMOTE_TIMEOUT},
    "gateway": {"kind": "http", "status": (500, 502, 503, 504)},
    "html": {"kind": "html", "status": 502},
}


def _slow(rng: random.Random) -> dict[str, Any]:
    low = rng.choice((200, 1_000, 3_500))
    drawn = _each(kind="latency", api=APIS, min_ms=low, max_ms=low * 1.3, seconds=_within(2, 8))
    return drawn(rng)


def _outage(rng: random.Random) -> dict[str, Any]:
    api = rng.choice((*APIS, *TOKEN_APIS, "*", "*"))
    kind = rng.choice(("http", "html", "error", "reset_before", "hang", "lost_answer"))
    extra: dict[str, Any] = {"status": 503} if kind in {"http", "html"} else {}
    extra |= {} if kind == "reset_before" else {"effect": _odds(0.2)}
    return _each(kind=kind, api=api, **extra, seconds=_within(4, 15))(rng)


def _receiver(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.1:
        return _each(seconds=_within(1, 5), endpoint=GONE, manner="gone")(rng)
    endpoints = ("*", ALL, *FIRST)
    return _each(endpoint=endpoints, manner=MANNERS, seconds=_within(0.5, 10))(rng)


def _break_streams(system: System, fault: Fault) -> None:
    """To those that are open, or to those that are opened next. Nothing comes of it where events are pushed."""
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
    """What spoils calls, at the sandbox."""
    return Kind(
        weight,
        draw,
        lambda system, fault: system.sandbox.add_fault(seconds=fault.bounded, **fault.values),
    )


def _events(weight: float, **values: Any) -> Kind:
    """What spoils events, likewise."""
    return Kind(
        weight,
        _each(**values),
        lambda system, fault: system.sandbox.add_event_fault(seconds=fault.bounded, **fault.values),
    )


def _of(part: str, weight: float, begin: str, end: str, *seconds: float) -> Kind:
    """What a part of the system does to itself, and how it mends that, by the names of its methods."""

    def act(method: str) -> Act:
        return lambda system, _: getattr(getattr(system, part), method)()

    return Kind(weight, _each(seconds=_within(*seconds)), act(begin), act(end))


OF_WORKERS = frozenset({"kill", "terminate", "suspend"})

FAULTS: Mapping[str, Kind] = {
    "kill": Kind(5, _ends, _worker("kill"), _start_worker),
    "terminate": Kind(3, _ends, _worker("terminate"), _start_worker),
    "suspend": Kind(3, _each(seconds=_within(1, 4, 10, 20)), _worker("suspend"), _worker("resume")),
    "gateway_kill": _of("gateway", 3, "kill", "start", 0.1, 4),
    "valkey_restart": Kind(
        2,
        _each(seconds=_within(0.2, 4), how=("kill", "terminate")),
        lambda system, fault: system.valkey.end(kill=fault.values["how"] == "kill"),
        lambda system, _: system.valkey.start(),
    ),
    "valkey_failover": Kind(
        2,
        _each(seconds=_within(0.2, 3), losing=(0, 0, 0.3, 1)),
        lambda system, fault: system.valkey.fail_over(fault.values["losing"]),
        lambda system, _: system.valkey.promote(),
    ),
    "valkey_freeze": _of("valkey", 2, "suspend", "resume", 0.5, 8),
    "valkey_full": _of("valkey", 2, "fill", "empty", 0.5, 6),
    "valkey_read_only": _of("valkey", 2, "follow", "lead", 0.5, 6),
    "database_locked": _of("database", 2, "lock", "unlock", 0.5, 8),
    "database_away": _of("database", 2, "take_away", "bring_back", 0.5, 8),
    "lost_answer": _calls(6, _lost),
    "wrong_answer": _calls(
        4,
        _each(
            kind=("truncated", "wrong_types", "html"),
            effect=_odds(0.6),
            api=APIS,
            share=SHARES,
            seconds=_within(1, 6),
        ),
    ),
    "sick_after_effect": _calls(5, _sick(effect=True)),
    "sick_before_effect": _calls(4, _sick(effect=False)),
    "slow": _calls(3, _slow),
    "outage": _calls(4, _outage),
    "throttle": _calls(4, _each(kind="throttle", api=APIS, share=SHARES, seconds=_within(0.5, 4))),
    "token": Kind(3, _each(seconds=0, how=("revoke", "expire")), _end_tokens),
    "credentials": Kind(
        2,
        _each(seconds=_within(1, 6)),
        _change_secret("changed-at-dingtalk"),
        _change_secret(APP_SECRET),
    ),
    "connections_refused": Kind(
        3,
        _each(seconds=_within(0.5, 8)),
        lambda system, fault: system.sandbox.refuse_connections(fault.bounded),
        lambda system, _: system.sandbox.accept_connections(),
    ),
    "dingtalk_clock": Kind(
        2,
        _each(seconds=_within(2, 15), offset=_SKEW),
        lambda system, fault: system.sandbox.set_clock(fault.values["offset"]),
        lambda system, _: system.sandbox.set_clock(system.setting.sandbox_skew),
    ),
    "gateway_suspend": _of("gateway", 2, "suspend", "resume", 0.5, 3, 10),
    "event_swallow": _events(3, seconds=_within(1, 8), kind="swallow", share=SHARES),
    "event_duplicate": _events(
        3,
        kind="duplicate",
        max_ms=(100, 3_000),
        share=SHARES,
        copies=lambda rng: rng.randint(1, 3),
        seconds=_within(1, 10),
    ),
    "event_delay": _events(
        3, kind="delay", share=SHARES, max_ms=(1_000, 10_000), seconds=_within(1, 10)
    ),
    "event_reorder": _events(
        2, kind="reorder", window=(3, 10, 30), max_ms=(500, 3_000), seconds=_within(1, 10)
    ),
    "stream": Kind(
        3,
        _each(how=(*ON_OPEN_STREAMS, *ON_NEW_STREAMS), seconds=_within(0.5, 5)),
        _break_streams,
    ),
    "listener_kill": _of("listener", 2, "kill", "start", 0.1, 4),
    "receiver": Kind(
        4,
        _receiver,
        lambda system, fault: system.receiver.manners.update(
            {fault.values["endpoint"]: fault.values["manner"]}
        ),
        lambda system, fault: system.receiver.manners.pop(fault.values["endpoint"], None),
    ),
    "receiver_away": _of("receiver", 2, "go_away", "come_back", 0.5, 12),
}
"""A seed leaves some of them out, so that others come more often."""
