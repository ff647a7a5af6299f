"""Limits: calls leave as evenly as a rule has it, DingTalk drops nothing in silence, and the month is counted as it counts.

What a limiter cannot know is how long a call is under way: calls that left evenly may arrive closer together, and
DingTalk refuses one. So what is judged is when they left.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dingrelay_simulation.operations import ASYNCSEND
from dingrelay_simulation.oracle.evidence import RECIPIENTS, Effect, Evidence, Violation
from dingrelay_workers.limiter.rules import JITTER

DUPLICATE, DAILY = "143106", "143105"
"""DingTalk's reasons for dropping a message in silence (API §5.3)."""
UNLIMITED = "/gettoken"
"""Path of the API without a published limit."""
WINDOW = 1.0
"""Seconds in which calls are counted."""
NOTED = 0.05
"""Seconds after its slot in which a call has noted itself in Redis and leaves, where nothing is struck."""
SLOT = 6.0
"""Seconds for which a call may have had its slot before it left."""
PEOPLES_WINDOW = 12.0
"""Seconds in which recipients are counted, in the worlds in which they are few, and for which a call may be under way."""


def check_calls(evidence: Evidence) -> Iterator[Violation]:
    """No second, wherever it begins, holds more calls of an API as they left than its limit.

    So one that DingTalk refuses is explained by the ways of those that it counts with it.
    """
    by_api: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    for call in evidence.calls:
        if call.path != UNLIMITED and call.verdict != "token":
            by_api[call.method, call.path].append(call)
    for (method, path), calls in by_api.items():
        calls.sort(key=lambda call: call.left)
        # A call that others join waits for them, for so long that its recipients are not late (`Limiter.stale`).
        may_be_late = JITTER if path == ASYNCSEND else NOTED
        for index in range(len(calls) - evidence.limit):
            close = calls[index : index + evidence.limit + 1]
            span = close[-1].left - close[0].left
            if span < WINDOW - may_be_late and not _late(evidence, close):
                text = f"{len(close)} calls of {method} {path} left within {span:.3f} s from {close[0].left:.2f}"
                yield Violation("limit", text, close[-1].tag)
                break


def _late(evidence: Evidence, calls: Sequence[Effect]) -> bool:
    """Whether one of these calls got its slot late, or left late with it, or Redis forgot that it gave one out."""
    since, until = calls[0].left - SLOT, calls[-1].left
    return evidence.forgotten(since, until) or any(
        evidence.kept_from_redis(worker, since, until) for worker in {call.worker for call in calls}
    )


def check_drops(evidence: Evidence) -> Iterator[Violation]:
    """No recipient is dropped by a limit of DingTalk's without a fault that explains it."""
    for effect in evidence.effects:
        for user, reason in effect.dropped.items():
            tag = effect.tag
            if reason == DUPLICATE and _for_nothing(evidence, effect, user):
                yield Violation("dropped", f"{tag!r} was sent to {user} again, for nothing", tag)
            elif reason == RECIPIENTS and not _held_up(evidence, effect):
                text = f"{tag!r} went to {user} beyond the recipients of the window"
                yield Violation("limit", text, tag)
            elif reason == DAILY:
                text = f"{tag!r} went to {user} beyond the day's messages"
                yield Violation("limit", text, tag)


def _held_up(evidence: Evidence, effect: Effect) -> bool:
    """Whether a call of the window was charged for another time than that at which it arrived, or not at all.

    DingTalk held it up, it was still under way, its worker or Redis was struck until its end was reported, or Redis forgot it.
    """
    window = [
        other
        for other in evidence.calls
        if other.path == effect.path and 0 <= effect.at - other.at <= PEOPLES_WINDOW
    ]
    return any(
        call.spoilt or _under_way(call, effect) or evidence.struck(call, call.left - SLOT)
        for call in window
    )


def _under_way(call: Effect, other: Effect) -> bool:
    """Whether a call was on a long way when another one left: it is charged again for its arrival by its answer only."""
    long = call.at - call.left > JITTER
    return long and (call.answered is None or call.answered > other.left)


def check_month(evidence: Evidence) -> Iterator[Violation]:
    """The fleet counts each call that DingTalk counts, but for those whose answers or counts were lost."""
    month = evidence.month
    lost = sum(
        answered is None or evidence.unrecorded(worker, answered)
        for worker, answered in month.answers
    )
    used = len(month.answers)
    if not used - lost <= month.counted <= used:
        text = f"the fleet counted {month.counted} calls of the month, and DingTalk {used}"
        yield Violation("month", text)


def _for_nothing(evidence: Evidence, effect: Effect, user: str) -> bool:
    """Whether a person got this before, and neither a job nor a fault explains the copy."""
    same = evidence.effects_by_tag[effect.tag]
    earlier = [other for other in same[: same.index(effect)] if user in other.delivered]
    by_hand = evidence.again_by_hand
    allowed = any(
        request.values.get("allow_duplicate") or request.name == "call" or request.job in by_hand
        for request in evidence.requests.jobs
        if request.tag == effect.tag
    )
    return bool(earlier) and not allowed and not evidence.explains(earlier[-1], effect)
