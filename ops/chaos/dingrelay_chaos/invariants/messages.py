"""2: a message that is done is in each named person's inbox, once; or they are named truly."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, cast

from dingrelay_chaos.asked import MessageAsked
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.people import STAYING
from dingrelay_chaos.snapshot import USER_DAY, Snapshot
from dingrelay_chaos.system import System
from dingrelay_producers import JobStatus, State
from dingrelay_tasks import addresses

EARLY_SECONDS = 0.5
LATE_SECONDS = 12
"""A call that was about to leave in time may wait for its slot, and be suspended with its worker."""
SILENT_ENDS = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Messages that did not arrive and are said to have, and those whose reason is not true."""
    snapshot = evidence.snapshot
    askers = Counter(each.content for each in evidence.asked.messages)
    for asked in evidence.asked.messages:
        status = evidence.statuses.get(asked.job)
        if status is None or asked.accepted != "yes":
            continue
        if status.state in {State.DONE, State.DUPLICATE}:
            by_user = _outcomes(status)
            unresolved = _unresolved(status)
            yield from _named_truly(evidence, asked, status, unresolved)
            for user in _expected(asked, snapshot, unresolved):
                yield from _judged(evidence, asked, user, by_user.get(user, ""))
        if status.state == State.DEAD and asked.addressed:
            yield from _nobody(evidence, asked, status)
        if askers[asked.content] == 1:
            yield from _silent(asked, status, evidence)
            yield from _times(asked, status, evidence, system)
    for content, people in snapshot.by_content.items():
        for user in people:
            if snapshot.delivered(content, user) > 1:
                yield Violation(2, f"{user} has {content!r} more than once a day", content)


def _unresolved(status: JobStatus) -> dict[str, str]:
    """Address → why it names nobody."""
    addresses: list[dict[str, str]] = (status.result or {}).get("unresolved", [])
    return {
        value: each["reason"]
        for each in addresses
        for kind, value in each.items()
        if kind != "reason"
    }


def _named_truly(
    evidence: Evidence, asked: MessageAsked, status: JobStatus, unresolved: dict[str, str]
) -> Iterator[Violation]:
    """Whether addresses that name nobody do so, and whether somebody else got the message."""
    if not asked.addressed:
        return
    settled = status.settled_at
    ended = settled.timestamp() - evidence.began_at if settled else float("inf")
    for kind, address, user in asked.addressed:
        reason = unresolved.get(_compared(kind, address))
        if reason and (reason != "unknown" or not _unknown(evidence, kind, user, asked.at, ended)):
            text = f"{asked.job} calls {user}'s {kind} {address} {reason}"
            yield Violation(2, text, asked.job)
    strangers = set(evidence.snapshot.by_content.get(asked.content, {})) - set(asked.named)
    if strangers:
        yield Violation(2, f"{asked.job} went to {sorted(strangers)} as well", asked.job)


def _nobody(evidence: Evidence, asked: MessageAsked, status: JobStatus) -> Iterator[Violation]:
    """Whether a message died of having nobody to go to although somebody was there."""
    if status.error is None or status.error.code != "nobody_found":
        return
    known = [
        user
        for kind, _, user in asked.addressed
        if not _unknown(evidence, kind, user, asked.at, float("inf"))
    ]
    if known or asked.users:
        yield Violation(2, f"{asked.job} says that it found nobody, not even {known}", asked.job)


def _compared(kind: str, address: str) -> str:
    return addresses.PARSERS[cast("addresses.AddressKind", kind)](address)


def _unknown(evidence: Evidence, kind: str, user: str, since: float, until: float) -> bool:
    """Whether somebody may not have been known by an address.

    DingTalk itself is asked for mobile numbers. For the rest the directory is, which hears of those
    who come a little later, or only in its next walk.
    """
    if kind == "mobile":
        return evidence.asked.was_absent(user, since - EARLY_SECONDS, until + EARLY_SECONDS)
    return evidence.asked.was_absent(user)


def _silent(asked: MessageAsked, status: JobStatus, evidence: Evidence) -> Iterator[Violation]:
    """Whether a job that ended without success hides that somebody got it."""
    if status.state in SILENT_ENDS and not (status.result or {}).get("calls"):
        reached = evidence.snapshot.reached(asked.content, besides=evidence.unnoted)
        if reached:
            text = f"{status.id} is {status.state} and tells of no call, but {reached} have it"
            yield Violation(2, text, status.id)


def _times(
    asked: MessageAsked, status: JobStatus, evidence: Evidence, system: System
) -> Iterator[Violation]:
    """Whether a message left in its time, by the clock of the machine, which is Redis's."""
    calls = {each["id"]: each["monotonic"] - system.began for each in evidence.snapshot.calls}
    people = evidence.snapshot.by_content.get(asked.content, {})
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


def _outcomes(status: JobStatus) -> dict[str, str]:
    """Person → why the result says that they did not get it."""
    result: dict[str, Any] = status.result or {}
    by_user = {
        user: reason
        for reason in (
            "duplicate",
            "daily_cap",
            "unknown_user",
            "out_of_scope",
            "invalid",
            "unreached",
            "failed",
        )
        for user in _names(result.get(reason))
    }
    return by_user | {each["userid"]: "forbidden" for each in result.get("forbidden", ())}


def _names(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _expected(asked: MessageAsked, snapshot: Snapshot, unresolved: Collection[str]) -> list[str]:
    """Its people. Of departments and everyone only those count who were there all along."""
    if asked.everyone:
        return list(STAYING)
    users = list(asked.users)
    users += [
        user
        for kind, address, user in asked.addressed
        if _compared(kind, address) not in unresolved
    ]
    if asked.departments:
        meant = snapshot.below(asked.departments)
        users += [user for user in STAYING if meant & set(snapshot.people[user]["dept_id_list"])]
    return list(dict.fromkeys(users))


def _judged(evidence: Evidence, asked: MessageAsked, user: str, reason: str) -> Iterator[Violation]:
    snapshot = evidence.snapshot
    has = snapshot.delivered(asked.content, user)
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
            received = snapshot.received(user)
            if received < USER_DAY:
                yield Violation(2, f"{asked.job}: {user} had {received} messages only", asked.job)
        case "unknown_user" | "out_of_scope":
            yield from _left_out(evidence, asked, user, reason)
        case "invalid" | "forbidden":
            entries = snapshot.by_content.get(asked.content, {}).get(user, ())
            if not any(each["reason"] for each in entries):
                text = f"{asked.job} calls {user} {reason}, and nothing says so at DingTalk"
                yield Violation(2, text, asked.job)
        case _:
            pass


def _left_out(
    evidence: Evidence, asked: MessageAsked, user: str, reason: str
) -> Iterator[Violation]:
    """Whether somebody was not sent to who was there all along; everybody sees the app."""
    if reason == "out_of_scope" or not evidence.asked.was_absent(user):
        yield Violation(2, f"{asked.job} calls {user} {reason}, who could be reached", asked.job)


def _perhaps_sent(evidence: Evidence, asked: MessageAsked, user: str) -> bool:
    """Whether a job that honestly does not know may have sent it, or tried to somebody absent."""
    if evidence.unreachable(asked.content, user):
        return True
    for other in evidence.asked.messages:
        status = evidence.statuses.get(other.job)
        same = other.content == asked.content and user in other.named
        if same and status is not None and status.state == State.UNKNOWN:
            return True
    return False
