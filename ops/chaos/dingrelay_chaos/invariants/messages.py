"""2: a message that is done is in each named person's inbox, once; or they are named truly."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, cast

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.people import STAYING
from dingrelay_chaos.requests import MessageRequest
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
    askers = Counter(each.content for each in evidence.requests.messages)
    for request in evidence.requests.messages:
        status = evidence.statuses.get(request.job)
        if status is None or request.accepted != "yes":
            continue
        if status.state in {State.DONE, State.DUPLICATE}:
            by_user = _outcomes(status)
            unresolved = _unresolved(status)
            yield from _named_truly(evidence, request, status, unresolved)
            for user in _expected(request, snapshot, unresolved):
                yield from _checked(evidence, request, user, by_user.get(user, ""))
        if status.state == State.DEAD and request.addressed:
            yield from _nobody(evidence, request, status)
        if askers[request.content] == 1:
            yield from _silent(request, status, evidence)
            yield from _times(request, status, evidence, system)
    for content, people in snapshot.by_content.items():
        for user in people:
            if snapshot.delivered(content, user) > 1:
                yield Violation(2, f"{user} has {content!r} more than once a day", content)


def _unresolved(status: JobStatus) -> dict[str, str]:
    """Address → why it names nobody."""
    addresses: list[dict[str, Any]] = (status.result or {}).get("unresolved", [])
    return {
        each[kind]: each["reason"]
        for each in addresses
        for kind in ("mobile", "email", "job_number")
        if kind in each
    }


def _named_truly(
    evidence: Evidence, request: MessageRequest, status: JobStatus, unresolved: dict[str, str]
) -> Iterator[Violation]:
    """Whether addresses that name nobody do so, and whether somebody else got the message."""
    if not request.addressed:
        return
    settled = status.settled_at
    ended = settled.timestamp() - evidence.began_at if settled else float("inf")
    for kind, address, user in request.addressed:
        reason = unresolved.get(_compared(kind, address))
        if reason and (
            reason != "unknown" or not _unknown(evidence, kind, user, request.at, ended)
        ):
            text = f"{request.job} calls {user}'s {kind} {address} {reason}"
            yield Violation(2, text, request.job)
    strangers = set(evidence.snapshot.by_content.get(request.content, {})) - set(request.named)
    if strangers:
        yield Violation(2, f"{request.job} went to {sorted(strangers)} as well", request.job)


def _nobody(evidence: Evidence, request: MessageRequest, status: JobStatus) -> Iterator[Violation]:
    """Whether a message died of having nobody to go to although somebody was there."""
    if status.error is None or status.error.code != "nobody_found":
        return
    known = [
        user
        for kind, _, user in request.addressed
        if not _unknown(evidence, kind, user, request.at, float("inf"))
    ]
    if known or request.users:
        yield Violation(
            2, f"{request.job} says that it found nobody, not even {known}", request.job
        )


def _compared(kind: str, address: str) -> str:
    return addresses.PARSERS[cast("addresses.AddressKind", kind)](address)


def _unknown(evidence: Evidence, kind: str, user: str, since: float, until: float) -> bool:
    """Whether somebody may not have been known by an address.

    DingTalk itself is asked for mobile numbers. For the rest the directory is, which hears of those
    who come a little later, or only in its next walk.
    """
    if kind == "mobile":
        return evidence.requests.was_absent(user, since - EARLY_SECONDS, until + EARLY_SECONDS)
    return evidence.requests.was_absent(user)


def _silent(request: MessageRequest, status: JobStatus, evidence: Evidence) -> Iterator[Violation]:
    """Whether a job that ended without success hides that somebody got it."""
    if status.state in SILENT_ENDS and not (status.result or {}).get("calls"):
        reached = evidence.snapshot.reached(request.content, besides=evidence.unnoted)
        if reached:
            text = f"{status.id} is {status.state} and tells of no call, but {reached} have it"
            yield Violation(2, text, status.id)


def _times(
    request: MessageRequest, status: JobStatus, evidence: Evidence, system: System
) -> Iterator[Violation]:
    """Whether a message left in its time, by the clock of the machine, which is Redis's."""
    calls = {each["id"]: each["monotonic"] - system.began for each in evidence.snapshot.calls}
    people = evidence.snapshot.by_content.get(request.content, {})
    left = [calls[each["call_id"]] for entries in people.values() for each in entries]
    if request.not_before is not None and left and min(left) < request.not_before - EARLY_SECONDS:
        early = request.not_before - min(left)
        yield Violation(2, f"{request.job} left {early:.1f} s before its send_at", request.job)
    if request.not_after is None:
        return
    # Whoever requeues a job whose time is over wants it done all the same.
    requeued = any(
        each.at > request.not_after and each.answer != "False"
        for each in evidence.requests.commands_on(request.job, "requeue")
    )
    if left and not requeued and min(left) > request.not_after + LATE_SECONDS:
        late = min(left) - request.not_after
        yield Violation(2, f"{request.job} left {late:.1f} s after its expires_at", request.job)
    if status.state == State.EXPIRED and status.settled_at is not None:
        settled = status.settled_at.timestamp() - system.began_at
        if settled < request.not_after - EARLY_SECONDS:
            early = request.not_after - settled
            yield Violation(2, f"{request.job} expired {early:.1f} s before its time", request.job)


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


def _expected(
    request: MessageRequest, snapshot: Snapshot, unresolved: Collection[str]
) -> list[str]:
    """Its people. Of departments and everyone only those count who were there all along."""
    if request.everyone:
        return list(STAYING)
    users = list(request.users)
    users += [
        user
        for kind, address, user in request.addressed
        if _compared(kind, address) not in unresolved
    ]
    if request.departments:
        meant = snapshot.below(request.departments)
        users += [user for user in STAYING if meant & set(snapshot.people[user]["dept_id_list"])]
    return list(dict.fromkeys(users))


def _checked(
    evidence: Evidence, request: MessageRequest, user: str, reason: str
) -> Iterator[Violation]:
    snapshot = evidence.snapshot
    has = snapshot.delivered(request.content, user)
    match reason:
        case "":
            if not has and not evidence.unreachable(request.content, user):
                text = f"{request.job} is done, and {user} never got {request.content!r}"
                yield Violation(2, text, request.job)
        case "duplicate":
            # Somebody may have left after they were sent it.
            if not has and not _perhaps_sent(evidence, request, user):
                text = (
                    f"{request.job} calls {request.content!r} a duplicate for {user}, who has none"
                )
                yield Violation(2, text, request.job)
        case "daily_cap":
            received = snapshot.received(user)
            if received < USER_DAY:
                yield Violation(
                    2, f"{request.job}: {user} had {received} messages only", request.job
                )
        case "unknown_user" | "out_of_scope":
            yield from _left_out(evidence, request, user, reason)
        case "invalid" | "forbidden":
            entries = snapshot.by_content.get(request.content, {}).get(user, ())
            if not any(each["reason"] for each in entries):
                text = f"{request.job} calls {user} {reason}, and nothing says so at DingTalk"
                yield Violation(2, text, request.job)
        case _:
            pass


def _left_out(
    evidence: Evidence, request: MessageRequest, user: str, reason: str
) -> Iterator[Violation]:
    """Whether somebody was not sent to who was there all along; everybody sees the app."""
    if reason == "out_of_scope" or not evidence.requests.was_absent(user):
        yield Violation(
            2, f"{request.job} calls {user} {reason}, who could be reached", request.job
        )


def _perhaps_sent(evidence: Evidence, request: MessageRequest, user: str) -> bool:
    """Whether a job that honestly does not know may have sent it, or tried to somebody absent."""
    if evidence.unreachable(request.content, user):
        return True
    for other in evidence.requests.messages:
        status = evidence.statuses.get(other.job)
        same = other.content == request.content and user in other.named
        if same and status is not None and status.state == State.UNKNOWN:
            return True
    return False
