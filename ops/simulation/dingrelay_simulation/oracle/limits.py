"""Limits: DingTalk drops nothing in silence but what a fault made a second call of."""

from collections.abc import Iterator

from dingrelay_simulation.oracle.evidence import Effect, Evidence, Violation

DUPLICATE, RECIPIENTS, DAILY = "143106", "143103", "143105"
"""DingTalk's reasons for dropping a message in silence (API §5.3)."""


def check_drops(evidence: Evidence) -> Iterator[Violation]:
    """No recipient is dropped by a limit of DingTalk's without a fault that explains it."""
    for effect in evidence.effects:
        for user, reason in effect.dropped.items():
            tag = effect.tag
            if reason == DUPLICATE and _for_nothing(evidence, effect, user):
                yield Violation("dropped", f"{tag!r} was sent to {user} again, for nothing", tag)
            elif reason == RECIPIENTS and not evidence.faults.forgotten:
                text = f"{tag!r} went to {user} beyond the recipients of a minute"
                yield Violation("limit", text, tag)
            elif reason == DAILY:
                text = f"{tag!r} went to {user} beyond the day's messages"
                yield Violation("limit", text, tag)


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
