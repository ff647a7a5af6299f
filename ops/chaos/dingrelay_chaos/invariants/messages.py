"""2: a message that is done is in each named person's inbox, once; or they are named truly."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dingrelay_chaos.asked import MessageAsked
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.people import STAYING
from dingrelay_chaos.system import System
from dingrelay_chaos.truth import Truth
from dingrelay_producers import JobStatus, State

USER_DAY = 500
"""Messages a day to one person (API §2.1)."""
EARLY_SECONDS = 0.5
LATE_SECONDS = 12
"""A call that was about to leave in time may wait for its slot, and be suspended with its worker."""
SILENT_ENDS = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Messages that did not arrive and are said to have, and those whose reason is not true."""
    truth = evidence.truth
    askers = Counter(each.content for each in evidence.asked.messages)
    for asked in evidence.asked.messages:
        status = evidence.statuses.get(asked.job)
        if status is None or asked.accepted != "yes":
            continue
        if status.state in {State.DONE, State.DUPLICATE}:
            told = _told(status)
            for user in _expected(asked, truth):
                yield from _judged(evidence, asked, user, told.get(user, ""))
        if askers[asked.content] == 1:
            yield from _silent(asked, status, evidence)
            yield from _times(asked, status, evidence, system)
    for content, people in truth.by_content.items():
        for user in people:
            if truth.delivered(content, user) > 1:
                yield Violation(2, f"{user} has {content!r} more than once", content)


def _silent(asked: MessageAsked, status: JobStatus, evidence: Evidence) -> Iterator[Violation]:
    """Whether a job that ended without success hides that somebody got it."""
    if status.state in SILENT_ENDS and not (status.result or {}).get("calls"):
        reached = evidence.truth.reached(asked.content, besides=evidence.unnoted)
        if reached:
            text = f"{status.id} is {status.state} and tells of no call, but {reached} have it"
            yield Violation(2, text, status.id)


def _times(
    asked: MessageAsked, status: JobStatus, evidence: Evidence, system: System
) -> Iterator[Violation]:
    """Whether a message left in its time, by the clock of the machine, which is Redis's."""
    calls = {each["id"]: each["monotonic"] - system.began for each in evidence.truth.calls}
    people = evidence.truth.by_content.get(asked.content, {})
    left = [calls[each["call_id"]] for entries in people.values() for each in entries]
    if asked.not_before is not None and left and min(left) < asked.not_before - EARLY_SECONDS:
        early = asked.not_before - min(left)
        yield Violation(2, f"{asked.job} left {early:.1f} s before its send_at", asked.job)
    if asked.not_after is None:
        return
    # Whoever requeues a job whose time is over wants it done all the same.
    requeued = any(
        each.at > asked.not_after and each.answer != "False"
        for each in evidence.asked.commands_on(asked.job, "requeue")
    )
    if left and not requeued and min(left) > asked.not_after + LATE_SECONDS:
        late = min(left) - asked.not_after
        yield Violation(2, f"{asked.job} left {late:.1f} s after its expires_at", asked.job)
    if status.state == State.EXPIRED and status.settled_at is not None:
        settled = status.settled_at.timestamp() - system.began_at
        if settled < asked.not_after - EARLY_SECONDS:
            early = asked.not_after - settled
            yield Violation(2, f"{asked.job} expired {early:.1f} s before its time", asked.job)


def _told(status: JobStatus) -> dict[str, str]:
    """Person → why the result says that they did not get it."""
    result: dict[str, Any] = status.result or {}
    told = {
        user: reason
        for reason in ("duplicate", "daily_cap", "invalid", "unreached", "failed")
        for user in _names(result.get(reason))
    }
    return told | {each["userid"]: "forbidden" for each in result.get("forbidden", ())}


def _names(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _expected(asked: MessageAsked, truth: Truth) -> list[str]:
    """Its people. Of departments and everyone only those count who were there all along."""
    if asked.everyone:
        return list(STAYING)
    users = list(asked.users)
    if asked.departments:
        meant = truth.below(asked.departments)
        users += [user for user in STAYING if meant & set(truth.people[user]["dept_id_list"])]
    return list(dict.fromkeys(users))


def _judged(evidence: Evidence, asked: MessageAsked, user: str, reason: str) -> Iterator[Violation]:
    truth = evidence.truth
    has = truth.delivered(asked.content, user)
    match reason:
        case "":
            if not has and not evidence.unreachable(asked.content, user):
                text = f"{asked.job} is done, and {user} never got {asked.content!r}"
                yield Violation(2, text, asked.job)
        case "duplicate":
            # Somebody may have left after they were sent it.
            if not has and not _perhaps_sent(evidence, asked, user):
                text = f"{asked.job} calls {asked.content!r} a duplicate for {user}, who has none"
                yield Violation(2, text, asked.job)
        case "daily_cap":
            received = sum(each["user"] == user for each in truth.entries if not each["reason"])
            if received < USER_DAY:
                yield Violation(2, f"{asked.job}: {user} had {received} messages only", asked.job)
        case "invalid" | "forbidden":
            entries = truth.by_content.get(asked.content, {}).get(user, ())
            if not any(each["reason"] for each in entries):
                text = f"{asked.job} calls {user} {reason}, and nothing says so at DingTalk"
                yield Violation(2, text, asked.job)
        case _:
            pass


def _perhaps_sent(evidence: Evidence, asked: MessageAsked, user: str) -> bool:
    """Whether a job that honestly does not know may have sent it, or tried to somebody absent."""
    if evidence.unreachable(asked.content, user):
        return True
    for other in evidence.asked.messages:
        status = evidence.statuses.get(other.job)
        same = other.content == asked.content and user in other.users
        if same and status is not None and status.state == State.UNKNOWN:
            return True
    return False
