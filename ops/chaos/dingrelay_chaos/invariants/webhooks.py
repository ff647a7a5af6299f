"""9: every subscriber gets everything at least once, by one id, well signed; and nothing untrue."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.invariants import changes
from dingrelay_chaos.invariants.approvals import task_states, true_state
from dingrelay_chaos.subscribers import ALL, Subscriber
from dingrelay_sandbox.admin import Row

CACHED_SECONDS = 10
"""Time after a rotation in which a delivery may be signed by the old secret alone."""
LONGEST_OVERLAP = 10
"""Seconds for which an old secret signs, too, at most."""
REVIVING = ("requeue", "resolve", "cancel", "discard")
"""Commands after which an ended job can end again."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Notices that subscribers missed, or got wrongly."""
    state = evidence.system_state
    received: dict[str, set[str]] = {}
    for request in state.requests:
        if request.taken:
            received.setdefault(request.path, set()).add(request.id)
    received["celery"] = {each for each, _ in state.published}
    for each in evidence.system.subscribers.all.values():
        yield from _completeness(evidence, each, received.get(each.name, set()))
    yield from _ids(evidence)
    yield from _signatures(evidence)
    if ALL in evidence.system.subscribers.all and not evidence.lost:
        notices = [each for each in state.notices if each["id"] in received.get(ALL, set())]
        yield from _jobs(evidence, notices)
        yield from _approvals(evidence, notices)
        yield from _tasks(evidence, notices)
        skews = evidence.system.setting.worker_skews
        yield from _people(evidence, notices, max(skews) - min(skews))
        yield from _campaigns(evidence, notices)
        yield from _events(evidence, notices)


def _completeness(evidence: Evidence, of: Subscriber, received: set[str]) -> Iterator[Finding]:
    """Whether an endpoint got all that was passed on since it was there."""
    row = evidence.system_state.endpoints.get(of.id)
    if not of.surely or of.removed or of.skipped:
        return
    if row is None:
        yield f"the endpoint {of.name} is gone", ""
        return
    if of.ends:
        return
    if row["state"] != "enabled":
        yield f"the endpoint {of.name} is {row['state']}: {row['reason']}", ""
        return
    if of.name == "celery" and evidence.lost:
        return  # messages are as safe as the broker
    missed = [
        each
        for each in evidence.system_state.notices
        if each["number"] > of.born and _takes(of, each["type"]) and each["id"] not in received
    ]
    for number in evidence.system_state.given_up.get(of.id, ()):
        yield f"the notice {number} for {of.name} was given up within minutes", ""
    for each in missed:
        text = f"{of.name} never got {each['type']} {each['id']}: {each['data']}"
        yield text, _subject(each)


def _takes(of: Subscriber, name: str) -> bool:
    return any(
        name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))
        for pattern in of.types
    )


def _subject(notice: Mapping[str, Any]) -> str:
    """The subject of its story."""
    data = notice["data"]
    return str(data.get("instance") or data.get("userid") or data.get("id") or "")


def _ids(evidence: Evidence) -> Iterator[Finding]:
    """One id, one document, for every receiver and each time; one document, one id.

    An event may come before the answer that says which job made its approval: a copy that is sent again
    after that names the job.
    """
    documents: dict[str, set[str]] = {}
    for request in evidence.system_state.requests:
        documents.setdefault(request.id, set()).add(_canonical(json.loads(request.body)))
    for notice, document in evidence.system_state.published:
        documents.setdefault(notice, set()).add(_canonical(document))
    for notice, bodies in documents.items():
        if len({_without_job(body) for body in bodies}) > 1:
            yield f"{notice} is reported as {sorted(bodies)}", ""
    ids: dict[str, set[str]] = {}
    for notice, bodies in documents.items():
        for body in bodies:
            if "webhook.test" not in body:
                ids.setdefault(body, set()).add(notice)
    for body, notices in ids.items():
        if len(notices) > 1:
            yield f"{body} is reported as {sorted(notices)}", ""


def _without_job(body: str) -> str:
    document = json.loads(body)
    if str(document["type"]).startswith("approval."):
        document["data"].pop("job", None)
    return _canonical(document)


def _canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


def _signatures(evidence: Evidence) -> Iterator[Finding]:
    for request in evidence.system_state.requests:
        of = evidence.system.subscribers.all.get(request.path)
        if of is None or not of.surely:
            continue
        newest = max((at for at, _ in of.secrets), default=0)
        secrets = [
            secret
            for at, secret in of.secrets
            if at == newest or request.at < newest + CACHED_SECONDS + LONGEST_OVERLAP
        ]
        at, body = datetime.fromtimestamp(int(request.timestamp), UTC), request.body.decode()
        right = {Webhook(secret).sign(request.id, at, body) for secret in secrets}
        if not right & set(request.signatures.split()):
            yield f"{request.path} got {request.id} with a wrong signature", ""


def _reported(documents: list[Row], prefix: str) -> Iterator[tuple[str, Row]]:
    """The subjects of a kind's notices, with their data."""
    for each in documents:
        if each["type"].startswith(prefix):
            yield each["type"].removeprefix(prefix), each["data"]


def _jobs(evidence: Evidence, documents: list[Row]) -> Iterator[Finding]:
    """Every end of a job is reported; an end that it does not have was one before it was revived."""
    ends: dict[str, list[str]] = {}
    for end, data in _reported(documents, "job."):
        ends.setdefault(data["id"], []).append(end)
    for job, kind in evidence.requests.accepted().items():
        status = evidence.statuses.get(job)
        if status is None or not status.state.ended:
            continue
        reported = ends.get(job, [])
        if str(status.state) not in reported:
            text = f"it was not reported that the {kind} {job} is {status.state}, only {reported}"
            yield text, job
        revived = any(evidence.requests.commands_on(job, verb) for verb in REVIVING)
        if len(reported) > 1 and not revived:
            yield f"the {kind} {job} is reported to have ended as {reported}", job


def _approvals(evidence: Evidence, documents: list[Row]) -> Iterator[Finding]:
    """How approvals ended is reported, and is true."""
    instances = {each["id"]: each for each in evidence.snapshot.approvals}
    reported: set[tuple[str, str]] = set()
    for what, data in _reported(documents, "approval."):
        if what == "task":
            continue
        instance = data["instance"]
        reported.add((instance, what))
        true = true_state(instances[instance]) if instance in instances else "deleted"
        if what != true and instance not in evidence.system.deleted:
            yield f"{instance} is reported to be {what}, and is {true}", instance
    for instance, row in evidence.system_state.approvals.items():
        if row["state"] != "running" and (instance, row["state"]) not in reported:
            yield f"it was not reported that {instance} is {row['state']}", instance


def _tasks(evidence: Evidence, documents: list[Row]) -> Iterator[Finding]:
    """Approval tasks and decisions must be reported, and true."""
    reported: dict[str, set[tuple[str, ...]]] = {}
    for what, data in _reported(documents, "approval."):
        if what == "task":
            one = tuple(data["task"][name] for name in ("id", "user", "state"))
            reported.setdefault(data["instance"], set()).add(one)
    for instance, rows in evidence.system_state.tasks.items():
        for row in rows:
            one = (row["task"], row["user"], row["state"])
            if one not in reported.get(instance, set()):
                yield f"the task {one} of {instance} was not reported", instance
    for true in evidence.snapshot.approvals:
        known = task_states(true)
        for number, user, state in sorted(reported.get(true["id"], ())):
            real = known.get(number)
            if real is None or real[0] != user or state not in {"running", real[1]}:
                text = f"task {number} of {true['id']} is reported as {state} of {user}, is {real}"
                yield text, true["id"]


def _people(evidence: Evidence, documents: list[Row], skew: float) -> Iterator[Finding]:
    """Findings of the directory must be reported once each, and no others."""
    yield from changes.violations(evidence.system_state.changes, documents, skew)
    for user, what in {(d["userid"], what) for what, d in _reported(documents, changes.PREFIX)}:
        if what in {"added", "left"} and not evidence.requests.was_absent(user):
            yield f"{user} is reported to be {what}, and was there all the time", user


def _campaigns(evidence: Evidence, documents: list[Row]) -> Iterator[Finding]:
    reported = {(str(data.get("id")), what) for what, data in _reported(documents, "campaign.")}
    for number, campaign in evidence.campaigns.items():
        end = {"done": "completed", "cancelled": "cancelled"}.get(campaign.row["state"])
        if end and (str(number), end) not in reported:
            yield f"it was not reported that campaign {number} was {end}", number


def _events(evidence: Evidence, documents: list[Row]) -> Iterator[Finding]:
    """DingTalk's events are passed on, once each."""
    reported = Counter(data["event_id"] for _, data in _reported(documents, "dingtalk."))
    known = {event["id"] for event in evidence.system_state.events}
    for event in evidence.system_state.events:
        pushed = any(each["state"] == "delivered" for each in event["deliveries"])
        if pushed and event["id"] not in evidence.lost_events and reported[event["id"]] != 1:
            times = f"is reported {reported[event['id']]} times"
            yield f"the event {event['type']} {event['id']} {times}", event["id"]
    for event in reported.keys() - known - {""}:
        yield f"an event is reported that never was: {event}", ""
