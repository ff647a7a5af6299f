"""The oracle: what must hold of a run, judged call by call from what was asked and what DingTalk holds.

A call too many is forgiven only where a fault explains this call: its answer was lost, or its worker, or Redis, was
struck between the call and the record of its end.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_simulation import campaigns
from dingrelay_simulation.campaigns import Broadcast
from dingrelay_simulation.faults import Faults
from dingrelay_simulation.operations import ASYNCSEND, Request, Requests

NOT_DONE = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})
SENDS = frozenset(
    {
        "send",
        "send_many",
        "keyed",
        "equal",
        "bare",
        "times",
        "stop_on_unknown",
        "allow_duplicate",
        "confirm",
    }
)
REASONS = (
    "duplicate",
    "daily_cap",
    "unknown_user",
    "out_of_scope",
    "invalid",
    "unreached",
    "failed",
)
SKEW = 61.0
"""Seconds by which the clock of Redis may be wrong in a run."""
LATE_SECONDS = 16.0


@dataclass
class Effect:
    """A call that DingTalk carried out.

    Attributes:
        at: when it was, in seconds from the beginning.
        day: of Beijing, by DingTalk's clock.
        worker: who made it.
        tag: the text in it.
        delivered: users that got something by it.
        dropped: users that got nothing, and DingTalk's reason.
        answered: when its sane answer was there; None if it never was.
    """

    id: int
    at: float
    worker: str
    path: str
    tag: str
    users: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict[str, str])
    answered: float | None = None
    day: int = 0


@dataclass(frozen=True)
class Violation:
    """Something that does not hold, and the job or text that it is about."""

    kind: str
    text: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Evidence:
    """All that the oracle knows."""

    requests: Requests
    statuses: dict[str, JobStatus | None]
    effects: list[Effect]
    faults: Faults
    instances: dict[str, list[Any]]
    posts: dict[str, int]
    keys_without_end: list[str]
    redis_skew: float
    broadcasts: Sequence[Broadcast] = ()


def verify(evidence: Evidence) -> list[Violation]:
    """Everything that does not hold."""
    return [
        violation
        for check in (
            _ended,
            _messages,
            _calls,
            _silent,
            _times,
            _approvals,
            _robots,
            _campaigns,
            _drops,
            _keys,
        )
        for violation in check(evidence)
    ]


def _lost_records(evidence: Evidence) -> bool:
    """Whether Redis came back without its last moment: what was accepted in it may be gone."""
    return any(trouble.name == "redis restart" for trouble in evidence.faults.troubles)


def _lost(evidence: Evidence, at: float) -> bool:
    """Whether Redis forgot what happened at this moment."""
    return any(
        trouble.name == "redis restart" and trouble.since - 0.01 <= at <= trouble.since + 1.2
        for trouble in evidence.faults.troubles
    )


def _ended(evidence: Evidence) -> Iterator[Violation]:
    """Every accepted job has ended."""
    for request in evidence.requests.jobs:
        if request.accepted != "yes":
            continue
        status = evidence.statuses.get(request.job)
        if status is None:
            discarded = any(
                command.verb == "discard" and command.job == request.job
                for command in evidence.requests.commands
            )
            if not discarded and not _lost(evidence, request.at):
                yield Violation(
                    "gone", f"{request.job} was accepted and has no record", request.job
                )
        elif not status.state.ended:
            yield Violation(
                "open", f"{request.job} is {status.state} for ever: {status.error}", request.job
            )


def _by_tag(requests: list[Request]) -> dict[str, list[Request]]:
    groups: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        groups[request.tag].append(request)
    return groups


def _outcomes(status: JobStatus) -> dict[str, str]:
    """Person → why the result says that they did not get it."""
    result: dict[str, Any] = status.result or {}
    named: dict[str, str] = {}
    for reason in REASONS:
        users: Any = result.get(reason)
        if isinstance(users, list):
            named |= {user: reason for user in users if isinstance(user, str)}
    return named | {each["userid"]: "forbidden" for each in result.get("forbidden", ())}


def _messages(evidence: Evidence) -> Iterator[Violation]:
    """A message that is done is in each named inbox; those left out are named with a true reason."""
    for tag, requests in _by_tag(
        [each for each in evidence.requests.jobs if each.name in SENDS]
    ).items():
        effects = [effect for effect in evidence.effects if effect.tag == tag]
        got = {user for effect in effects for user in effect.delivered}
        for request in requests:
            status = evidence.statuses.get(request.job)
            if request.accepted != "yes" or status is None:
                continue
            if status.state not in {State.DONE, State.DUPLICATE}:
                continue
            outcomes = _outcomes(status)
            for user in request.values["users"]:
                reason = outcomes.get(user, "")
                if user in got:
                    continue
                if reason == "":
                    yield Violation(
                        "lost",
                        f"{request.job} is {status.state}, and {user} never got {tag!r}",
                        request.job,
                    )
                elif reason in {"invalid", "forbidden", "unreached"}:
                    if not any(user in effect.dropped for effect in effects):
                        yield Violation(
                            "untrue",
                            f"{request.job} calls {user} {reason}, who was sent nothing",
                            request.job,
                        )
                elif reason == "duplicate":
                    if not _perhaps_reserved(evidence, tag, user):
                        yield Violation(
                            "untrue",
                            f"{request.job} calls {tag!r} a duplicate for {user}, who has none",
                            request.job,
                        )
                else:
                    yield Violation("untrue", f"{request.job} calls {user} {reason}", request.job)


def _perhaps_reserved(evidence: Evidence, tag: str, user: str) -> bool:
    """Whether another job of the same text may hold the person's reservation: it is unknown, or still open."""
    others = [
        evidence.statuses.get(each.job)
        for each in evidence.requests.jobs
        if each.tag == tag and user in each.values.get("users", ())
    ]
    return any(status is None or status.state in {State.UNKNOWN, State.DEAD} for status in others)


def _explained(evidence: Evidence, first: Effect, second: Effect) -> bool:
    """Whether a fault explains that a call was made again: its answer was lost, or what it said could not be written."""
    if first.answered is None:
        return True
    struck = evidence.faults.around(first.at - 0.05, second.at, first.worker, "redis")
    return bool(struck)


def _calls(evidence: Evidence) -> Iterator[Violation]:
    """Each call but the first of a job is explained by a fault that struck the one before."""
    allowed: dict[str, int] = defaultdict(int)
    for request in evidence.requests.jobs:
        allowed[request.tag] += 1
    requeued = {command.job for command in evidence.requests.commands if command.verb == "requeue"}
    single: dict[str, list[Request]] = _by_tag(
        [each for each in evidence.requests.jobs if each.name in SENDS | {"call"}]
    )
    for tag, requests in single.items():
        effects = [effect for effect in evidence.effects if effect.tag == tag]
        if any(each.job in requeued for each in requests):
            continue
        people: dict[str, list[Effect]] = defaultdict(list)
        for effect in effects:
            for user in effect.users:
                people[user].append(effect)
        for user, calls in people.items():
            # A job may ask for its own copy only where it allows that.
            asked = sum(
                user in each.values.get("users", (each.values.get("user"),))
                for each in requests
                if each.accepted != "no"
            )
            free = (
                asked
                if any(
                    each.values.get("allow_duplicate") or each.name == "call" for each in requests
                )
                else 1
            )
            for first, second in zip(calls[free - 1 :], calls[free:], strict=False):
                if len(requests) > 1 and first.day != second.day:
                    continue  # another job's, which may send the same text on another day
                if not _explained(evidence, first, second):
                    text = f"{tag!r} was sent to {user} again by {second.worker}, and nothing explains it"
                    yield Violation("again", text, requests[0].job)
        for request in requests:
            if (
                request.values.get("effect") == "once"
                and len(effects) > 1
                and not _lost_records(evidence)
            ):
                yield Violation(
                    "twice",
                    f"{tag!r} was to be called once, and was {len(effects)} times",
                    request.job,
                )
            if (
                request.name == "stop_on_unknown"
                and len(effects) > 1
                and not _lost_records(evidence)
            ):
                if any(first.answered is None for first in effects[:-1]):
                    yield Violation("twice", f"{tag!r} went on after a lost answer", request.job)


def _silent(evidence: Evidence) -> Iterator[Violation]:
    """A job that ended without success, and reports no call, has reached no one."""
    for tag, requests in _by_tag(
        [each for each in evidence.requests.jobs if each.name in SENDS | {"call"}]
    ).items():
        if len(requests) > 1 or requests[0].accepted != "yes":
            continue
        status = evidence.statuses.get(requests[0].job)
        if status is None or status.state not in NOT_DONE or (status.result or {}).get("calls"):
            continue
        reached = [effect for effect in evidence.effects if effect.tag == tag and effect.delivered]
        reached = [effect for effect in reached if not _lost(evidence, effect.at)]
        resolved = any(
            each.job == requests[0].job and each.verb == "discard"
            for each in evidence.requests.commands
        )
        if reached and not resolved:
            yield Violation(
                "silent", f"{status.id} is {status.state}, and {tag!r} was sent", status.id
            )


def _times(evidence: Evidence) -> Iterator[Violation]:
    """A message leaves in its time, by Redis' clock."""
    requeued = {command.job for command in evidence.requests.commands if command.verb == "requeue"}
    for request in evidence.requests.jobs:
        if request.name != "times" or request.accepted != "yes":
            continue
        left = [
            effect.at + evidence.redis_skew
            for effect in evidence.effects
            if effect.tag == request.tag
        ]
        send_in, expires_in = request.values.get("send_in"), request.values.get("expires_in")
        if left and send_in and min(left) < request.at + send_in - 0.5:
            yield Violation("early", f"{request.job} left before its send_at", request.job)
        if left and expires_in and request.job not in requeued:
            frozen = evidence.faults.around(0, 1e9, "w0", "w1", "w2")
            margin = LATE_SECONDS if frozen else 1.0
            if min(left) > request.at + expires_in + margin:
                yield Violation("late", f"{request.job} left after its expires_at", request.job)


def _approvals(evidence: Evidence) -> Iterator[Violation]:
    """No approval exists twice for one job, none for a job that is dead or cancelled; done ones exist."""
    for tag, requests in _by_tag(
        [each for each in evidence.requests.jobs if each.name == "approval"]
    ).items():
        made = {instance.id for instance in evidence.instances.get(tag, ())}
        jobs = {
            each.job: evidence.statuses.get(each.job)
            for each in requests
            if each.job and each.accepted == "yes"
        }
        done = {
            job: (status.result or {}).get("instance_id")
            for job, status in jobs.items()
            if status and status.state == State.DONE
        }
        for job, instance in done.items():
            if instance not in made:
                yield Violation(
                    "lost", f"{job} is done and names {instance}, which does not exist", job
                )
        if len(set(done.values())) < len(done):
            yield Violation("shared", f"jobs name the same instance: {done}", next(iter(done)))
        perhaps = sum(status is None or status.state == State.UNKNOWN for status in jobs.values())
        perhaps += sum(each.accepted == "perhaps" for each in requests)
        effects = [effect for effect in evidence.effects if effect.tag == tag]
        perhaps += sum(_lost(evidence, effect.at) for effect in effects)
        if len(made) > len(done) + perhaps:
            states = {job: str(status.state) if status else None for job, status in jobs.items()}
            yield Violation(
                "twice", f"{tag!r} exists {len(made)} times for {states}", next(iter(jobs), "")
            )


def _robots(evidence: Evidence) -> Iterator[Violation]:
    """A robot's message that is done is in the group, once."""
    for request in evidence.requests.jobs:
        if request.name != "robot" or request.accepted != "yes":
            continue
        status = evidence.statuses.get(request.job)
        times = evidence.posts.get(request.tag, 0)
        if status and status.state == State.DONE and not times:
            yield Violation(
                "lost",
                f"{request.job} is done, and {request.tag!r} is not in the group",
                request.job,
            )
        requeued = any(
            each.job == request.job and each.verb == "requeue"
            for each in evidence.requests.commands
        )
        if times > 1 and not requeued and not request.values["digest"]:
            yield Violation("twice", f"{request.tag!r} is in the group {times} times", request.job)


def _campaigns(evidence: Evidence) -> Iterator[Violation]:
    """A campaign's people get it once each, or are named with a true reason; its report adds up."""
    got: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for effect in evidence.effects:
        for user in effect.delivered:
            got[effect.tag][user] += 1
    for kind, text, about in campaigns.violations(evidence.broadcasts, got):
        yield Violation(kind, text, about)


def _drops(evidence: Evidence) -> Iterator[Violation]:
    """DingTalk drops nothing in silence but what a fault made a second call of."""
    for index, effect in enumerate(evidence.effects):
        for user, reason in effect.dropped.items():
            if reason == "143106":
                earlier = [
                    each
                    for each in evidence.effects[:index]
                    if each.tag == effect.tag and user in each.delivered
                ]
                requests = [each for each in evidence.requests.jobs if each.tag == effect.tag]
                forgiven = any(
                    each.values.get("allow_duplicate") or each.name in {"call"} for each in requests
                )
                requeued = {
                    command.job
                    for command in evidence.requests.commands
                    if command.verb == "requeue"
                }
                forgiven = forgiven or any(each.job in requeued for each in requests)
                if earlier and not forgiven and not _explained(evidence, earlier[-1], effect):
                    yield Violation(
                        "dropped",
                        f"{effect.tag!r} was sent to {user} again, for nothing",
                        effect.tag,
                    )
            elif reason == "143103" and not _lost_records(evidence):
                yield Violation(
                    "limit",
                    f"{effect.tag!r} went to {user} beyond the recipients of a minute",
                    effect.tag,
                )
            elif reason == "143105":
                yield Violation(
                    "limit", f"{effect.tag!r} went to {user} beyond the day's messages", effect.tag
                )


def _keys(evidence: Evidence) -> Iterator[Violation]:
    """Redis holds no key without an end."""
    for key in evidence.keys_without_end:
        yield Violation("key", f"{key} has no end", key)


def tag_of(path: str, payload: Any) -> tuple[str, tuple[str, ...]]:
    """The text of a call, and its people."""
    if not isinstance(payload, dict):
        return "", ()
    if path == ASYNCSEND:
        message = payload.get("msg")
        message = json.loads(message) if isinstance(message, str) else message or {}
        users = str(payload.get("userid_list") or "")
        return str(message.get("text", {}).get("content", "")), tuple(
            filter(None, users.split(","))
        )
    for name in ("formComponentValues", "form_component_values"):
        for control in payload.get(name) or ():
            if control.get("name") == "事由":
                return str(control.get("value")), ()
    return "", ()
