"""2: a message that is done is in each named person's inbox, once; or they are named truly."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, cast

from dingrelay_chaos.dingtalk import MADE_UP, POOLED, STAYING
from dingrelay_chaos.evidence import USER_DAY, Evidence, Finding, Snapshot
from dingrelay_chaos.operations import Post, Send
from dingrelay_chaos.requests import AlertRequest, Request
from dingrelay_producers import JobStatus, State
from dingrelay_tasks import addresses

EARLY_SECONDS = 0.5
LATE_SECONDS = 12
"""A call that was about to leave in time may wait for its slot, and be suspended with its worker."""
REASONS = (
    *("duplicate", "daily_cap", "unknown_user", "out_of_scope"),
    *("invalid", "unreached", "failed"),
)
SILENT_ENDS = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Messages that did not arrive and are said to have, and those whose reason is not true."""
    snapshot = evidence.snapshot
    askers = Counter(each.what.tag for each in evidence.requests.of(Send))
    for request in evidence.requests.of(Send):
        status = evidence.statuses.get(request.job)
        if status is None or request.accepted != "yes":
            continue
        if status.state in {State.DONE, State.DUPLICATE}:
            by_user = _outcomes(status)
            unresolved = _unresolved(status)
            yield from _named_truly(evidence, request, status, unresolved)
            for user in _expected(request, snapshot, unresolved):
                yield from _checked(evidence, request, user, by_user.get(user, ""))
        if status.state == State.DEAD and request.what.addressed:
            yield from _no_recipient(evidence, request, status)
        if askers[request.what.tag] == 1:
            yield from _silent(request, status, evidence)
            yield from _times(request, status, evidence)
    for content, people in snapshot.by_content.items():
        for user in people:
            if snapshot.delivered(content, user) > 1:
                yield f"{user} has {content!r} more than once a day", content


def _unresolved(status: JobStatus) -> dict[str, str]:
    """Address → why it names no person."""
    addresses: list[dict[str, Any]] = (status.result or {}).get("unresolved", [])
    return {
        each[kind]: each["reason"]
        for each in addresses
        for kind in ("mobile", "email", "job_number")
        if kind in each
    }


def _named_truly(
    evidence: Evidence, request: Request[Send], status: JobStatus, unresolved: dict[str, str]
) -> Iterator[Finding]:
    """Whether addresses that name no person do so, and whether a stranger got the message."""
    if not request.what.addressed:
        return
    settled = status.settled_at
    ended = settled.timestamp() - evidence.system.began_at if settled else float("inf")
    for kind, address, user in request.what.addressed:
        reason = unresolved.get(_compared(kind, address))
        true = reason == "unknown" and _unknown(evidence, kind, user, request.at, ended)
        if reason and not true:
            yield f"{request.job} calls {user}'s {kind} {address} {reason}", request.job
    strangers = set(evidence.snapshot.by_content.get(request.what.tag, {})) - set(
        request.what.named
    )
    if strangers:
        yield f"{request.job} went to {sorted(strangers)} as well", request.job


def _no_recipient(
    evidence: Evidence, request: Request[Send], status: JobStatus
) -> Iterator[Finding]:
    """Whether a message died without recipients although one of them was there."""
    if status.error is None or status.error.code != "nobody_found":
        return
    known = [
        user
        for kind, _, user in request.what.addressed
        if not _unknown(evidence, kind, user, request.at, float("inf"))
    ]
    if known or request.what.users:
        yield f"{request.job} says that it found no recipient, not even {known}", request.job


def _compared(kind: str, address: str) -> str:
    return addresses.PARSERS[cast("addresses.AddressKind", kind)](address)


def _unknown(evidence: Evidence, kind: str, user: str, since: float, until: float) -> bool:
    """Whether a person may not have been known by an address.

    DingTalk itself is asked for mobile numbers. For the rest the directory is, which gets an event of those
    who come a little later, or finds them in its next walk.
    """
    if kind == "mobile":
        return evidence.requests.was_absent(user, since - EARLY_SECONDS, until + EARLY_SECONDS)
    return evidence.requests.was_absent(user)


def _silent(request: Request[Send], status: JobStatus, evidence: Evidence) -> Iterator[Finding]:
    """Whether a job that ended without success hides that a person got it."""
    if status.state in SILENT_ENDS and not (status.result or {}).get("calls"):
        reached = evidence.snapshot.reached(request.what.tag, besides=evidence.unnoted)
        if reached:
            text = f"{status.id} is {status.state} and reports no call, but {reached} have it"
            yield text, status.id


def _times(request: Request[Send], status: JobStatus, evidence: Evidence) -> Iterator[Finding]:
    """Whether a message left in its time, by the clock of the machine, which is Redis's."""
    calls = {each["id"]: each["moment"] for each in evidence.snapshot.calls}
    people = evidence.snapshot.by_content.get(request.what.tag, {})
    left = [calls[each["call_id"]] for entries in people.values() for each in entries]
    send_in, expires_in = request.what.send_in, request.what.expires_in
    if send_in is not None and left and min(left) < request.at + send_in - EARLY_SECONDS:
        early = request.at + send_in - min(left)
        yield f"{request.job} left {early:.1f} s before its send_at", request.job
    if expires_in is None:
        return
    not_after = request.at + expires_in
    # A job that is requeued after its time is wanted all the same.
    requeued = any(
        each.at > not_after and each.answer != "False"
        for each in evidence.requests.commands_on(request.job, "requeue")
    )
    if left and not requeued and min(left) > not_after + LATE_SECONDS:
        late = min(left) - not_after
        yield f"{request.job} left {late:.1f} s after its expires_at", request.job
    if status.state == State.EXPIRED and status.settled_at is not None:
        settled = status.settled_at.timestamp() - evidence.system.began_at
        if settled < not_after - EARLY_SECONDS:
            early = not_after - settled
            yield f"{request.job} expired {early:.1f} s before its time", request.job


def _outcomes(status: JobStatus) -> dict[str, str]:
    """Person → why the result says that they did not get it."""
    result: dict[str, Any] = status.result or {}
    named = {reason: result.get(reason) for reason in REASONS}
    by_user = {
        user: reason
        for reason, users in named.items()
        if isinstance(users, list)
        for user in users
        if isinstance(user, str)
    }
    return by_user | {each["userid"]: "forbidden" for each in result.get("forbidden", ())}


def _expected(request: Request[Send], snapshot: Snapshot, unresolved: Collection[str]) -> list[str]:
    """Expected recipients. Of departments and everyone only those count who were there all along."""
    if request.what.everyone:
        return list(STAYING)
    users = list(request.what.users)
    users += [
        user
        for kind, address, user in request.what.addressed
        if _compared(kind, address) not in unresolved
    ]
    if request.what.departments:
        meant = snapshot.below(request.what.departments)
        users += [user for user in STAYING if meant & set(snapshot.people[user]["dept_id_list"])]
    return list(dict.fromkeys(users))


def _checked(
    evidence: Evidence, request: Request[Send], user: str, reason: str
) -> Iterator[Finding]:
    snapshot = evidence.snapshot
    has = snapshot.delivered(request.what.tag, user)
    match reason:
        case "" if not has and not evidence.unreachable(request.what.tag, user):
            yield f"{request.job} is done, and {user} never got {request.what.tag!r}", request.job
        # A person may have left after they were sent it.
        case "duplicate" if not has and not _perhaps_sent(evidence, request, user):
            what = f"calls {request.what.tag!r} a duplicate for {user}, who has none"
            yield f"{request.job} {what}", request.job
        case "daily_cap" if (received := snapshot.received(user)) < USER_DAY:
            yield f"{request.job}: {user} had {received} messages only", request.job
        case "unknown_user" | "out_of_scope":
            # The app is visible to all.
            if reason == "out_of_scope" or not evidence.requests.was_absent(user):
                yield f"{request.job} calls {user} {reason}, who could be reached", request.job
        case "invalid" | "forbidden":
            if not any(each["reason"] for each in snapshot.sent(request.what.tag, user)):
                text = f"{request.job} calls {user} {reason}, and nothing says so at DingTalk"
                yield text, request.job
        case _:
            pass


def _perhaps_sent(evidence: Evidence, request: Request[Send], user: str) -> bool:
    """Whether a job that does not know may have sent it, or tried to an absent person."""
    if evidence.unreachable(request.what.tag, user):
        return True
    return any(
        other.what.tag == request.what.tag
        and user in other.what.named
        and (status := evidence.statuses.get(other.job)) is not None
        and status.state == State.UNKNOWN
        for other in evidence.requests.of(Send)
    )


def violations_of_alerts(evidence: Evidence) -> Iterator[Finding]:
    """Alerts that are missing, or there too often."""
    posts = Counter(
        (post["robot"], post["message"]["text"]["content"])
        for post in evidence.system.sandbox.robot_posts()
        if post["message"]["msgtype"] == "text"
    )
    for request in evidence.requests.alerts:
        found = posts[request.robot, request.text]
        if request.robot == MADE_UP or evidence.lost_between(request.at, request.until):
            continue
        least = request.answered
        if _gateway_ended(evidence, request):
            # It may have ended between an answer and the note of that: then the next equal alert is the same one.
            least = min(least, 1)
        if not least <= found <= request.asked:
            said = f"asked for {request.asked} times, answered {request.answered} times"
            yield f"{request.text!r} is {found} times in its group: {said}", request.text


def violations_of_posts(evidence: Evidence) -> Iterator[Finding]:
    """Messages to a pool that are done and not there, or there twice, alone or in digests."""
    shown = [
        text
        for post in evidence.system.sandbox.robot_posts()
        if post["robot"] in POOLED
        for text in [json.dumps(post["message"], ensure_ascii=False)]
    ]
    # What a failover lost may be of the digests.
    for request in () if evidence.lost else evidence.requests.of(Post):
        status = evidence.statuses.get(request.job)
        # The end of a text is the end of a line, or of the message.
        ends = re.compile(re.escape(request.what.texts[0]) + r"(?!\d)")
        found = sum(bool(ends.search(text)) for text in shown)
        if found > 1 or (found == 0 and status is not None and status.state == State.DONE):
            yield f"{request.what.texts[0]!r} is {found} times in its group", request.job


def _gateway_ended(evidence: Evidence, request: AlertRequest) -> bool:
    return any(
        fault.what.name == "gateway_kill" and request.at <= fault.began <= request.until
        for fault in evidence.requests.faults
    )
