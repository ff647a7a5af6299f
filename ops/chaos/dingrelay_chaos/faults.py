"""The faults: what goes wrong, and how it ends.

A fault begins at its step and ends `seconds` later. Both are carried out by the driver's main
thread, one after the other.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from dingrelay_chaos.system import System

APIS = (
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/topapi/processinstance/create",
    "/topapi/processinstance",
    "/v1.0/workflow",
    "/topapi/v2/",
    "/topapi/message",
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


@runtime_checkable
class Fault(Protocol):
    """Something that goes wrong for a while."""

    @property
    def seconds(self) -> float:
        """How long."""
        ...

    def begin(self, system: System) -> None:
        """Let it go wrong."""
        ...

    def end(self, system: System) -> None:
        """Mend it; also when its end came early."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerEnds:
    """A worker is killed or told to stop, and another one comes up later."""

    worker: int
    how: str
    seconds: float
    skew: float
    """Of the clock of the one that comes up."""

    def begin(self, system: System) -> None:
        """End it."""
        worker = system.workers[self.worker]
        worker.kill() if self.how == "kill" else worker.terminate()

    def end(self, system: System) -> None:
        """Start another one in its place."""
        system.workers[self.worker].start(self.skew)


@dataclass(frozen=True, slots=True)
class WorkerSleeps:
    """A worker is stopped (SIGSTOP) and goes on."""

    worker: int
    seconds: float

    def begin(self, system: System) -> None:
        """Stop it."""
        system.workers[self.worker].suspend()

    def end(self, system: System) -> None:
        """Let it go on."""
        system.workers[self.worker].resume()


@dataclass(frozen=True, slots=True)
class ValkeyRestarts:
    """Valkey ends, and comes back with what its append-only file holds."""

    seconds: float
    how: str

    def begin(self, system: System) -> None:
        """End it."""
        system.valkey.end(kill=self.how == "kill")

    def end(self, system: System) -> None:
        """Start it again."""
        system.valkey.start()


@dataclass(frozen=True, slots=True)
class ValkeyFreezes:
    """Valkey keeps its connections and answers nothing."""

    seconds: float

    def begin(self, system: System) -> None:
        """Stop it."""
        system.valkey.suspend()

    def end(self, system: System) -> None:
        """Let it go on."""
        system.valkey.resume()


@dataclass(frozen=True, slots=True)
class ValkeyRefuses:
    """Valkey refuses writes: it is full, or a replica."""

    seconds: float
    how: str

    def begin(self, system: System) -> None:
        """Let it refuse."""
        system.valkey.refuse_writes(full=self.how == "full")

    def end(self, system: System) -> None:
        """Let it write again."""
        system.valkey.take_writes(full=self.how == "full")


@dataclass(frozen=True, slots=True)
class DatabaseLocked:
    """Somebody else holds the database's write lock."""

    seconds: float

    def begin(self, system: System) -> None:
        """Take the lock."""
        system.database.lock()

    def end(self, system: System) -> None:
        """Give it back."""
        system.database.unlock()


@dataclass(frozen=True, slots=True)
class DingTalkSpoils:
    """DingTalk, or the way to it, spoils some calls; `spec` is the sandbox's."""

    kind: str
    seconds: float
    spec: dict[str, Any] = field(default_factory=dict[str, Any])

    def begin(self, system: System) -> None:
        """Script it."""
        system.sandbox.add_fault(self.kind, seconds=max(0.1, self.seconds), **self.spec)

    def end(self, system: System) -> None:
        """Nothing: the sandbox ends it by itself."""


@dataclass(frozen=True, slots=True)
class ConnectionsRefused:
    """DingTalk's hosts refuse connections, and those that there are end."""

    seconds: float

    def begin(self, system: System) -> None:
        """Refuse."""
        system.sandbox.refuse_connections(max(0.1, self.seconds))

    def end(self, system: System) -> None:
        """Accept."""
        system.sandbox.accept_connections()


@dataclass(frozen=True, slots=True)
class DingTalkClock:
    """DingTalk's clock jumps, and jumps back."""

    seconds: float
    offset: float

    def begin(self, system: System) -> None:
        """Set it off."""
        system.sandbox.set_clock(self.offset)

    def end(self, system: System) -> None:
        """Set it as it was."""
        system.sandbox.set_clock(system.setting.sandbox_skew)


@dataclass(frozen=True, slots=True)
class TokensEnd:
    """DingTalk revokes or expires all tokens."""

    how: str
    seconds: float = 0

    def begin(self, system: System) -> None:
        """End them."""
        end = system.sandbox.revoke_tokens if self.how == "revoke" else system.sandbox.expire_tokens
        end()

    def end(self, system: System) -> None:
        """Nothing: new ones are fetched."""


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """DingTalk refuses the app's secret, and all of its tokens."""

    seconds: float

    def begin(self, system: System) -> None:
        """Change the secret at DingTalk."""
        system.put_app(secret="changed-at-dingtalk")
        system.sandbox.revoke_tokens()

    def end(self, system: System) -> None:
        """Change it back."""
        system.put_app()


def draw(rng: random.Random, name: str, workers: int, skew: float) -> Fault:
    """A random fault of that name in a fleet of so many workers, `skew` seconds off at most."""
    return _DRAWS[name](rng, rng.randrange(workers), skew)


def shortened(fault: Fault, seconds: float) -> Fault:
    """The fault, ending within so many seconds."""
    if fault.seconds <= seconds:
        return fault
    return replace(fault, seconds=round(seconds, 2))  # type: ignore[type-var]


def _seconds(rng: random.Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 2)


def _ends(how: str) -> Callable[[random.Random, int, float], Fault]:
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


def _sick(*, effect: bool) -> Callable[[random.Random, int, float], Fault]:
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


def _throttle(rng: random.Random, worker: int, skew: float) -> Fault:
    return _spoils(rng, "throttle", (0.5, 4), api=rng.choice(APIS), share=_share(rng))


def _token(rng: random.Random, worker: int, skew: float) -> Fault:
    return TokensEnd(rng.choice(("revoke", "expire")))


def _share(rng: random.Random) -> float:
    return rng.choice((0.1, 0.3, 0.7, 1.0))


def _sleeps(rng: random.Random, worker: int, skew: float) -> Fault:
    return WorkerSleeps(worker, _seconds(rng, 1, rng.choice((4, 10, 20))))


def _restarts(rng: random.Random, worker: int, skew: float) -> Fault:
    return ValkeyRestarts(_seconds(rng, 0.2, 4), rng.choice(("kill", "terminate")))


def _freezes(rng: random.Random, worker: int, skew: float) -> Fault:
    return ValkeyFreezes(_seconds(rng, 0.5, 8))


def _refuses(how: str) -> Callable[[random.Random, int, float], Fault]:
    return lambda rng, worker, skew: ValkeyRefuses(_seconds(rng, 0.5, 6), how)


def _locked(rng: random.Random, worker: int, skew: float) -> Fault:
    return DatabaseLocked(_seconds(rng, 0.5, 8))


def _credentials(rng: random.Random, worker: int, skew: float) -> Fault:
    return CredentialsRefused(_seconds(rng, 1, 6))


def _refused(rng: random.Random, worker: int, skew: float) -> Fault:
    return ConnectionsRefused(_seconds(rng, 0.5, 8))


def _jumps(rng: random.Random, worker: int, skew: float) -> Fault:
    return DingTalkClock(_seconds(rng, 2, 15), round(rng.uniform(-skew, skew), 1))


_DRAWS: dict[str, Callable[[random.Random, int, float], Fault]] = {
    "kill": _ends("kill"),
    "terminate": _ends("terminate"),
    "suspend": _sleeps,
    "valkey_restart": _restarts,
    "valkey_freeze": _freezes,
    "valkey_full": _refuses("full"),
    "valkey_read_only": _refuses("read only"),
    "database_locked": _locked,
    "lost_answer": _lost,
    "wrong_answer": _wrong,
    "sick_after_effect": _sick(effect=True),
    "sick_before_effect": _sick(effect=False),
    "slow": _slow,
    "outage": _outage,
    "throttle": _throttle,
    "token": _token,
    "credentials": _credentials,
    "connections_refused": _refused,
    "dingtalk_clock": _jumps,
}
