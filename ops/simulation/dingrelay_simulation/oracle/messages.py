"""Messages to people: in their inboxes, or left out with a true reason; in their time."""

from collections.abc import Iterator
from typing import Any

from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_simulation.operations import Request
from dingrelay_simulation.oracle.evidence import SENDS, Evidence, Violation

REASONS = (
    "duplicate",
    "daily_cap",
    "unknown_user",
    "out_of_scope",
    "invalid",
    "unreached",
    "failed",
)
"""Fields of a result that name people."""
CALLED = frozenset({"invalid", "forbidden", "unreached"})
"""Reasons that DingTalk gives after a call."""
EARLY, LATE = 0.5, 1.0
"""Seconds by which a message may leave before its time, and after it: the clock of its producer is not Redis'."""
LATE_IF_HELD_UP = 16.0
"""Seconds by which a message may leave late whose worker was held up at its end."""


def check_messages(evidence: Evidence) -> Iterator[Violation]:
    """A message that is done is in each named inbox; people left out are named with a true reason."""
    for tag, requests in evidence.requests_by_tag(SENDS).items():
        for request in requests:
            status = evidence.statuses.get(request.job)
            if request.accepted != "yes" or status is None:
                continue
            if status.state in {State.DONE, State.DUPLICATE}:
                yield from _check_people(evidence, tag, request, status)


def _check_people(
    evidence: Evidence, tag: str, request: Request, status: JobStatus
) -> Iterator[Violation]:
    job = request.job
    effects = evidence.effects_by_tag.get(tag, [])
    received = {user for effect in effects for user in effect.delivered}
    dropped = {user for effect in effects for user in effect.dropped}
    reasons = _reasons(status)
    for user in request.values["users"]:
        reason = reasons.get(user, "")
        if user in received:
            continue
        # The fleet cannot know of it, nor that an equal message was lost so; `limits.py` judges whether it may be.
        if reason in {"", "duplicate"} and user in evidence.over_limit(tag):
            continue
        if reason == "":
            yield Violation("lost", f"{job} is {status.state}, and {user} never got {tag!r}", job)
        elif reason in CALLED:
            if user not in dropped:
                yield Violation("untrue", f"{job} calls {user} {reason}, who was sent nothing", job)
        elif reason != "duplicate":
            yield Violation("untrue", f"{job} calls {user} {reason}", job)
        elif not _perhaps_reserved(evidence, tag, user):
            text = f"{job} calls {tag!r} a duplicate for {user}, who has none"
            yield Violation("untrue", text, job)


def _reasons(status: JobStatus) -> dict[str, str]:
    """Person → why the result says that they did not get it."""
    result: dict[str, Any] = status.result or {}
    named: dict[str, str] = {}
    for reason in REASONS:
        users: Any = result.get(reason)
        if isinstance(users, list):
            named |= {user: reason for user in users if isinstance(user, str)}
    return named | {person["userid"]: "forbidden" for person in result.get("forbidden", ())}


def _perhaps_reserved(evidence: Evidence, tag: str, user: str) -> bool:
    """Whether another job of the same text may hold the person's reservation: unknown, or still open."""
    others = [
        evidence.statuses.get(request.job)
        for request in evidence.requests.jobs
        if request.tag == tag and user in request.values.get("users", ())
    ]
    return any(status is None or status.state in {State.UNKNOWN, State.DEAD} for status in others)


def check_times(evidence: Evidence) -> Iterator[Violation]:
    """A message leaves in its time, by Redis' clock."""
    by_hand = evidence.again_by_hand
    for request in evidence.requests.jobs:
        effects = evidence.effects_by_tag.get(request.tag)
        if request.name != "times" or request.accepted != "yes" or not effects:
            continue
        first = min(effects, key=lambda effect: effect.left)
        begins = request.at - evidence.redis_skew
        send_in, expires_in = request.values.get("send_in"), request.values.get("expires_in")
        if send_in and first.left < begins + send_in - EARLY:
            yield Violation("early", f"{request.job} left before its send_at", request.job)
        if expires_in and request.job not in by_hand:
            end = begins + expires_in
            # Its worker heard that there was time, and stood still, or Redis's answer was under way.
            held_up = evidence.kept_from_redis(first.worker, end - LATE, end + LATE)
            if first.departed > end + (LATE_IF_HELD_UP if held_up else LATE):
                yield Violation("late", f"{request.job} left after its expires_at", request.job)
