"""Limits: DingTalk drops nothing in silence but what a fault made a second call of, and refuses hardly a call.

The month is counted as DingTalk counts it.
"""

from collections.abc import Iterator

from dingrelay_simulation.oracle.evidence import RECIPIENTS, RECORDED, Effect, Evidence, Violation

DUPLICATE, DAILY = "143106", "143105"
"""DingTalk's reasons for dropping a message in silence (API §5.3)."""

WINDOW = 12.0
"""Seconds in which recipients are counted, in the worlds in which they are few, and for which a call may be held up."""
STRAY_LEAST, STRAY_SHARE = 6, 0.2
"""So many calls may be throttled, or such a share."""


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
    """Whether calls of the window may have left at other times than they arrived, or Redis forgot some."""
    return bool(evidence.faults.forgotten) or evidence.faults.any_within(
        effect.at - WINDOW, effect.at
    )


def check_throttles(evidence: Evidence) -> Iterator[Violation]:
    """Calls hardly meet a limit that the fleet knows: they leave evenly, and arrive unevenly."""
    throttled = [
        attempt
        for attempt in evidence.attempts
        if attempt.verdict == "throttled" and not attempt.spoilt
    ]
    if len(throttled) > max(STRAY_LEAST, STRAY_SHARE * len(evidence.attempts)):
        text = f"{len(throttled)} of {len(evidence.attempts)} calls were throttled"
        yield Violation("throttled", text, throttled[0].tag)


def check_month(evidence: Evidence) -> Iterator[Violation]:
    """The fleet counts the calls that DingTalk counts, but for those whose answers were lost."""
    month, faults = evidence.month, evidence.faults
    lost = sum(
        answered is None or bool(faults.around(answered, answered + RECORDED, worker))
        for worker, answered in month.answers
    )
    away = any(
        "redis" in (trouble.subject, trouble.name.split()[-1]) for trouble in faults.troubles
    )
    if away or month.used - lost <= month.counted <= month.used:
        return
    text = f"the fleet counted {month.counted} calls of the month, and DingTalk {month.used}"
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
