"""Calls: each but the first of a job is explained by a fault that struck the one before."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dingrelay_producers.store.states import State
from dingrelay_simulation.operations import ASYNCSEND, Request
from dingrelay_simulation.oracle.evidence import SENDS, UNDER_WAY, Effect, Evidence, Violation
from dingrelay_workers.limiter.daily_limits import ARRIVES_MS

CALLS = SENDS | {"call"}
ARRIVES = ARRIVES_MS / 1000
"""Seconds in which a call arrives, for which nothing leaves before midnight."""
NOT_DONE = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})
"""States in which a job says that it reached no one, unless its result has calls."""


def check_repeats(evidence: Evidence) -> Iterator[Violation]:
    """A person gets a call again only where a fault explains it."""
    by_hand = evidence.again_by_hand
    for tag, requests in evidence.requests_by_tag(CALLS).items():
        if any(request.job in by_hand for request in requests):
            continue
        for user, calls in _calls_by_person(evidence.effects_by_tag.get(tag, [])).items():
            free = _permitted(requests, user)
            for first, second in pairwise(calls[free - 1 :]):
                # Days are those of work notifications: of a call of another API no copy is dropped on any.
                if first.path == ASYNCSEND and first.day != second.day:
                    # Of several jobs each may send the same text on its day.
                    if len(requests) == 1 and _arrived_twice(evidence, first, second, user):
                        text = (
                            f"{tag!r} was sent to {user} on two days, and DingTalk dropped no copy"
                        )
                        yield Violation("again", text, requests[0].job)
                    continue
                if not evidence.explains(first, second):
                    text = f"{tag!r} was sent to {user} again by {second.worker}, and nothing explains it"
                    yield Violation("again", text, requests[0].job)


def _arrived_twice(evidence: Evidence, first: Effect, second: Effect, user: str) -> bool:
    """Whether a person has the text twice, Redis knew of the call before, and the second one was not just long on its way."""
    both = user in first.delivered and user in second.delivered
    held_up = second.left_on == first.day and second.at - second.departed > ARRIVES
    return both and not held_up and not evidence.forgotten_call(first)


def _calls_by_person(effects: Sequence[Effect]) -> dict[str, list[Effect]]:
    people: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        for user in effect.users:
            people[user].append(effect)
    return people


def _permitted(requests: Sequence[Request], user: str) -> int:
    """How many calls with one text a person may get: more than one only where jobs allow a copy."""
    if not any(
        request.values.get("allow_duplicate") or request.name == "call" for request in requests
    ):
        return 1
    return sum(
        user in request.values.get("users", (request.values.get("user"),))
        for request in requests
        if request.accepted != "no"
    )


def check_runs(evidence: Evidence) -> Iterator[Violation]:
    """A call leaves its worker while a run of its job is under way there."""
    for request in evidence.single_requests:
        runs = evidence.runs.get(request.job, ())
        for call in evidence.attempts_by_tag.get(request.tag, ()):
            if not any(run.made(call.worker, call.left) for run in runs):
                text = f"{request.tag!r} left {call.worker} at {call.left:.2f}, and no run made it"
                yield Violation("stray", text, request.job)


def check_days(evidence: Evidence) -> Iterator[Violation]:
    """A message arrives on the day on which it left, by DingTalk's clock: for that one it was admitted."""
    for effect in evidence.effects:
        if effect.path != ASYNCSEND or effect.day == effect.left_on:
            continue
        # Its worker knows Redis' time by an answer that was long on its way.
        misled = evidence.kept_from_redis(effect.worker, effect.left - UNDER_WAY, effect.departed)
        if effect.at - effect.departed <= ARRIVES and not misled:
            text = f"{effect.tag!r} left at {effect.departed:.2f}, and arrived on the next day"
            yield Violation("midnight", text, effect.tag)


def check_single_calls(evidence: Evidence) -> Iterator[Violation]:
    """A call that must not be repeated is not, unless Redis forgot it."""
    by_hand = evidence.again_by_hand
    for tag, requests in evidence.requests_by_tag({"call", "stop_on_unknown"}).items():
        effects = evidence.effects_by_tag.get(tag, [])
        remembered = [effect for effect in effects[:-1] if not evidence.forgotten_call(effect)]
        for request in requests:
            if request.job in by_hand:
                continue
            if request.values.get("effect") == "once" and remembered:
                text = f"{tag!r} was to be called once, and was {len(effects)} times"
                yield Violation("twice", text, request.job)
            if request.name == "stop_on_unknown" and any(
                effect.answered is None for effect in remembered
            ):
                yield Violation("twice", f"{tag!r} went on after a lost answer", request.job)


def check_silence(evidence: Evidence) -> Iterator[Violation]:
    """A job that ended without success, and reports no call, has reached no one."""
    excused = evidence.commanded("discard") | evidence.resolved_in_doubt
    for tag, requests in evidence.requests_by_tag(CALLS).items():
        if len(requests) > 1 or requests[0].accepted != "yes" or requests[0].job in excused:
            continue
        status = evidence.statuses.get(requests[0].job)
        if status is None or status.state not in NOT_DONE or (status.result or {}).get("calls"):
            continue
        if any(
            effect.delivered and not evidence.forgotten_call(effect)
            for effect in evidence.effects_by_tag.get(tag, [])
        ):
            text = f"{status.id} is {status.state}, and {tag!r} was sent"
            yield Violation("silent", text, status.id)
