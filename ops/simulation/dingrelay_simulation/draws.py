"""Draws of a plan: how often each operation and each fault comes, and how its values are drawn."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

USERS = tuple(f"u{number}" for number in range(1, 21))
WORKERS = 3
LANES = ("urgent", "normal", "normal", "bulk")
MOVING = ("u21", "u22", "u23", "u24", "new1", "new2")
"""People who come, go and move; the others are always there."""
PORTS = {"redis": 6379, "dingtalk": 8443, "application": 8700}


@dataclass
class Draft:
    """A plan that is being drawn.

    Attributes:
        number: of the next operation.
        sends, approvals, equal, later, cancelled, jobs, campaigns, endpoints: numbers of those that others are about.
    """

    rng: random.Random
    number: int = 0
    sends: list[int] = field(default_factory=list[int])
    approvals: list[int] = field(default_factory=list[int])
    equal: list[int] = field(default_factory=list[int])
    later: list[int] = field(default_factory=list[int])
    cancelled: list[int] = field(default_factory=list[int])
    jobs: list[int] = field(default_factory=list[int])
    campaigns: list[int] = field(default_factory=list[int])
    endpoints: list[int] = field(default_factory=list[int])

    def users(self, most: int = 4) -> list[str]:
        """Recipients of a message, so many at most."""
        return self.rng.sample(USERS, self.rng.randint(1, most))


def _send(draft: Draft, **more: Any) -> dict[str, Any]:
    rng = draft.rng
    draft.sends.append(draft.number)
    draft.jobs.append(draft.number)
    return {"users": draft.users(), "lane": rng.choice(LANES), "tag": f"m{draft.number}", **more}


def _keyed(draft: Draft) -> dict[str, Any]:
    return _send(draft, key=f"k{draft.rng.randint(1, 3)}", tag="keyed", users=["u1", "u2"])


def _equal(draft: Draft) -> dict[str, Any]:
    draft.equal.append(draft.number)
    return _send(draft, tag=f"equal{draft.rng.randint(1, 2)}", users=draft.users(3), lane="normal")


def _times(draft: Draft) -> dict[str, Any]:
    rng = draft.rng
    send_in = round(rng.uniform(0.5, 20), 2) if rng.random() < 0.6 else None
    if send_in:
        draft.later.append(draft.number)
    expires_in = (
        None if send_in and rng.random() < 0.5 else round((send_in or 0) + rng.uniform(1, 20), 2)
    )
    return _send(draft, send_in=send_in, expires_in=expires_in)


def _approval(draft: Draft) -> dict[str, Any]:
    rng = draft.rng
    again = draft.approvals and rng.random() < 0.5
    form = rng.choice(draft.approvals) if again else draft.number
    draft.approvals.append(form)
    draft.jobs.append(draft.number)
    return {
        "tag": f"a{form}",
        "originator": "u5",
        "steps": rng.choice((0, 1, 2)),
        "rows": form % 3,
    }


def _decide(draft: Draft) -> dict[str, Any] | None:
    if not draft.approvals:
        return None
    verb = draft.rng.choice(("agree", "agree", "refuse", "terminate", "delete"))
    return {"tag": f"a{draft.rng.choice(draft.approvals)}", "verb": verb}


def _call(draft: Draft) -> dict[str, Any]:
    draft.jobs.append(draft.number)
    effect = draft.rng.choice(("once", "once", "repeatable"))
    return {"tag": f"c{draft.number}", "user": draft.rng.choice(USERS), "effect": effect}


def _sync(draft: Draft) -> dict[str, Any]:
    draft.jobs.append(draft.number)
    return {"scope": "everything"}


def draw_change(draft: Draft) -> dict[str, Any]:
    """A change of the organisation."""
    rng = draft.rng
    verbs = ("join", "move", "rename", "leave", "leave", "add department", "rename department")
    return {
        "verb": rng.choice((*verbs, "delete department")),
        "user": rng.choice(MOVING),
        "department": rng.choice((1, 2, 3, 4)),
        "other": rng.choice((5, 6)),
    }


def _webhook(draft: Draft) -> dict[str, Any] | None:
    if len(draft.endpoints) == 2:
        return None
    draft.endpoints.append(draft.number)
    return {"types": draft.rng.choice((("*",), ("job.*",), ("job.dead", "job.done")))}


def _webhook_command(draft: Draft) -> dict[str, Any] | None:
    if not draft.endpoints:
        return None
    verb = draft.rng.choice(("pause", "resume", "resume", "rotate", "remove"))
    return {"target": draft.rng.choice(draft.endpoints), "verb": verb}


def _robot(draft: Draft) -> dict[str, Any]:
    rng = draft.rng
    draft.jobs.append(draft.number)
    return {
        "tag": f"r{draft.number}",
        "lane": rng.choice(LANES),
        "digest": rng.choice((None, None, "3s")),
    }


def _campaign(draft: Draft) -> dict[str, Any]:
    rng = draft.rng
    draft.campaigns.append(draft.number)
    users = [*rng.sample(USERS, rng.randint(3, len(USERS))), rng.choice(USERS)]
    return {
        "tag": f"b{draft.number}",
        "users": users,
        "fields": rng.random() < 0.4,
        "rate": rng.choice((None, None, 600)),
    }


def _campaign_command(draft: Draft) -> dict[str, Any] | None:
    if not draft.campaigns:
        return None
    verb = draft.rng.choice(("pause", "resume", "resume", "cancel", "recall", "start"))
    return {"target": draft.rng.choice(draft.campaigns[-2:]), "verb": verb}


def _recall(draft: Draft) -> dict[str, Any] | None:
    if not draft.sends:
        return None
    # Equal messages share calls.
    among = draft.equal if draft.equal and draft.rng.random() < 0.7 else draft.sends
    return {"target": draft.rng.choice(among[-8:])}


def _command(verb: str) -> Any:
    def draw_command(draft: Draft) -> dict[str, Any] | None:
        if not draft.jobs:
            return None
        among = draft.jobs[-8:] if draft.rng.random() < 0.7 else draft.jobs
        # A job that waits for its time can be cancelled, and what was cancelled can be requeued.
        early = [job for job in draft.cancelled if job in draft.later]
        apt = draft.later if verb == "cancel" else early or draft.cancelled
        if apt and draft.rng.random() < 0.5:
            among = apt
        target = draft.rng.choice(among)
        if verb == "cancel":
            draft.cancelled.append(target)
        return {"target": target, "verb": verb}

    return draw_command


OPERATIONS: dict[str, tuple[float, Callable[[Draft], dict[str, Any] | None]]] = {
    "send": (20, _send),
    "send_many": (3, lambda draft: {**_send(draft), "count": draft.rng.randint(2, 12)}),
    "keyed": (4, _keyed),
    "equal": (10, _equal),
    "bare": (4, lambda draft: _send(draft, bare=True)),
    "times": (6, _times),
    "stop_on_unknown": (3, lambda draft: _send(draft, on_unknown="stop")),
    "allow_duplicate": (2, lambda draft: _send(draft, allow_duplicate=True)),
    "confirm": (2, lambda draft: _send(draft, confirm=True)),
    "approval": (10, _approval),
    "call": (8, _call),
    "cancel": (5, _command("cancel")),
    "requeue": (4, _command("requeue")),
    "discard": (2, _command("discard")),
    "sync": (4, _sync),
    "campaign": (3, _campaign),
    "campaign_command": (5, _campaign_command),
    "robot": (6, _robot),
    "decide": (6, _decide),
    "recall": (3, _recall),
    "resolve": (2, lambda draft: {}),
    "organisation": (5, draw_change),
    "webhook": (3, _webhook),
    "webhook_command": (3, _webhook_command),
}
"""Operation → its weight, and how its values are drawn."""


def _worker(rng: random.Random) -> int:
    return rng.randrange(WORKERS)


def _pause(rng: random.Random) -> float:
    """Seconds of a standstill: short, about as long as a lease and as a worker counts as alive, or longer than any."""
    return round(rng.uniform(*rng.choice(((0.3, 3), (6, 14), (6, 14), (14, 45)))), 1)


def _message(rng: random.Random, what: str) -> dict[str, Any]:
    """A fault at a wait: the n-th message of a worker to a server from then on, or its answer."""
    return {
        "worker": _worker(rng),
        "to": rng.choice(("redis", "redis", "dingtalk")),
        "count": rng.choice((1, 1, 2, 3, 5, 8, 13, 21)),
        "when": rng.choice(("before", "after", "answer")),
        "what": what,
        "seconds": _pause(rng),
    }


APIS = (
    "*",
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/gettoken",
    "/topapi/v2",
    "/robot/send",
    "/topapi/processinstance",
)


def _dingtalk(kinds: tuple[str, ...]) -> Any:
    def draw_fault(rng: random.Random) -> dict[str, Any]:
        values: dict[str, Any] = {"kind": rng.choice(kinds), "api": rng.choice(APIS)}
        if rng.random() < 0.5:
            values |= {
                "seconds": round(rng.uniform(1, 30), 1),
                "share": rng.choice((0.3, 0.7, 1.0)),
            }
        else:
            values |= {"count": rng.choice((1, 1, 2, 3, 6))}
        if values["kind"] == "latency":
            values |= {
                "min_ms": 200,
                "max_ms": rng.choice((2_000, 12_000, 30_000)),
                "effect": rng.random() < 0.6,
            }
        elif values["kind"] in {"error", "html", "http"}:
            values["effect"] = rng.random() < 0.5
        return values

    return draw_fault


FAULTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "kill": lambda rng: {"worker": _worker(rng), "back": round(rng.uniform(0.2, 20), 1)},
    "stop": lambda rng: {"worker": _worker(rng), "back": round(rng.uniform(0.2, 20), 1)},
    "freeze": lambda rng: {
        "worker": _worker(rng),
        "seconds": _pause(rng),
    },
    "kill_at": lambda rng: _message(rng, "kill"),
    "freeze_at": lambda rng: _message(rng, "freeze"),
    "cut_at": lambda rng: _message(rng, "cut"),
    "lose_at": lambda rng: _message(rng, "lose"),
    "cut": lambda rng: {
        "worker": _worker(rng),
        "to": rng.choice(list(PORTS)),
        "seconds": round(rng.uniform(1, 20), 1),
    },
    "clock": lambda rng: {"worker": _worker(rng), "by": round(rng.uniform(-60, 60), 2)},
    "redis_slow": lambda rng: {
        "by": rng.choice((0.05, 0.5, 2.0)),
        "seconds": round(rng.uniform(1, 15), 1),
    },
    "redis_silent": lambda rng: {"seconds": round(rng.uniform(1, 15), 1)},
    "redis_restart": lambda rng: {
        "lost": rng.choice((0.0, 0.3, 1.0)),
        "seconds": round(rng.uniform(0.1, 5), 1),
    },
    "redis_full": lambda rng: {"seconds": round(rng.uniform(1, 10), 1)},
    "dingtalk_away": lambda rng: {"seconds": round(rng.uniform(1, 25), 1)},
    "throttle": _dingtalk(("throttle",)),
    "lost_answer": _dingtalk(
        ("lost_answer", "reset_after", "truncated", "wrong_types", "reset_before", "hang")
    ),
    "sick": _dingtalk(("error", "html", "http")),
    "slow": _dingtalk(("latency",)),
    "token": _dingtalk(("token_expired",)),
    "credentials": _dingtalk(("credentials_refused",)),
    "database": lambda rng: {
        "worker": _worker(rng),
        "when": rng.choice(("before", "after")),
        "share": rng.choice((0.1, 0.4, 1.0)),
        "seconds": round(rng.uniform(1, 12), 1),
    },
    "application": lambda rng: {
        "manner": rng.choice(("away", "slow", "error", "busy", "cut", "redirect")),
        "seconds": round(rng.uniform(1, 20), 1),
    },
}
"""Fault → how its values are drawn."""
