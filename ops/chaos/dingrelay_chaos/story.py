"""The shortest story of a job: what was asked, what went wrong, what every program did, in time order."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from dingrelay_chaos.dingtalk import text_of
from dingrelay_chaos.evidence import Evidence
from dingrelay_chaos.operations import Approve, Send, brief
from dingrelay_chaos.requests import Command, Request, Requests
from dingrelay_chaos.system import System

NEAR_SECONDS = 3.0
"""Faults that ended so long before the job was asked for may still concern it."""
MOST_LINES = 60
_TIMESTAMP = re.compile(r'"timestamp": "([^"]+)"')
_HIDDEN = frozenset({"timestamp", "level", "logger", "event", "job_id", "job"})

Line = tuple[float, str, str]
"""Seconds from the start, who, what."""


def story(evidence: Evidence, job: str) -> str:
    """The story of a job, a campaign, or a content."""
    ids = _ids(evidence.requests, job)
    lines = [
        *_driver(evidence.requests, ids),
        *_logged(evidence, ids),
        *_at_dingtalk(evidence, ids),
    ]
    if not lines:
        return ""
    first, last = min(line[0] for line in lines), max(line[0] for line in lines)
    lines += _faults(evidence.requests, first - NEAR_SECONDS, last)
    lines.sort(key=lambda line: line[0])
    half = MOST_LINES // 2
    if (left_out := len(lines) - MOST_LINES) > 0:
        gap = (lines[half][0], "…", f"{left_out} lines are left out")
        lines = [*lines[:half], gap, *lines[-half:]]
    shown = [f"{at:8.3f}  {source:8} {what}" for at, source, what in lines]
    return "\n".join([*shown, *_records(evidence.system, ids)])


def _ids(requests: Requests, job: str) -> set[str]:
    """The job with all that were asked alike: equal approvals, messages of one content."""
    tagged: list[Request[Any]] = [*requests.of(Send), *requests.of(Approve)]
    tags = {each.what.tag for each in tagged if job in {each.job, each.what.tag}}
    return {job, *(each.job for each in tagged if each.what.tag in tags)} - {""}


def _driver(requests: Requests, ids: set[str]) -> Iterator[Line]:
    asked: list[Request[Any] | Command]
    asked = [*requests.jobs, *requests.campaigns, *requests.commands]
    for each in asked:
        if each.job in ids:
            yield each.at, "asked", f"#{each.step} {brief(each)}"


def _faults(requests: Requests, since: float, until: float) -> Iterator[Line]:
    for fault in requests.faults:
        if fault.ended >= since and fault.began <= until:
            yield fault.began, "FAULT", f"begins: {brief(fault.what)}"
            yield fault.ended, "FAULT", f"ends: {brief(fault.what)}"


def _logged(evidence: Evidence, ids: set[str]) -> Iterator[Line]:
    for worker in evidence.system.workers:
        for line in evidence.logs.get(worker.name, "").splitlines():
            if any(each in line for each in ids):
                found = _TIMESTAMP.search(line)
                at = datetime.fromisoformat(found[1]).timestamp() if found else 0.0
                at -= _skew(worker.skews, at) + evidence.system.began_at
                yield at, worker.name, _short(line)


def _skew(skews: list[tuple[float, float]], at: float) -> float:
    """Deviation of the clock that wrote a time."""
    past = [seconds for since, seconds in skews if at - seconds >= since]
    return past[-1] if past else skews[0][1] if skews else 0.0


def _short(line: str) -> str:
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        return line[:200]
    rest = ", ".join(
        f"{k}={v}" for k, v in fields.items() if k not in _HIDDEN and v not in ("", None)
    )
    return f"{fields.get('event')}: {rest}"[:300]


def _at_dingtalk(evidence: Evidence, ids: set[str]) -> Iterator[Line]:
    snapshot, requests = evidence.snapshot, evidence.requests
    contents = {each.what.tag for each in requests.of(Send) if each.job in ids} | ids
    campaigns = tuple(each.what.tag for each in requests.campaigns if each.job in ids)
    calls: dict[int, list[str]] = {}
    for entry in snapshot.entries:
        text = text_of(entry)
        if text in contents or (campaigns and text.startswith(campaigns)):
            outcome = f"{entry['user']} {entry['reason'] or ''}".rstrip()
            calls.setdefault(entry["call_id"], []).append(outcome)
    for tag in {each.what.tag for each in requests.of(Approve) if each.job in ids}:
        for instance in snapshot.instances(tag):
            calls.setdefault(instance["call_id"], []).append(f"creates {instance['id']}")
    for call in snapshot.calls:
        if call["id"] in calls:
            spoilt = f" spoilt: {call['fault']}" if call["fault"] else ""
            what = f"{call['api']} {call['verdict']}{spoilt}: {', '.join(calls[call['id']])}"
            yield call["moment"], "dingtalk", what


def _records(system: System, ids: set[str]) -> Iterator[str]:
    with system.valkey.connect() as redis:
        for each in sorted(ids):
            record = cast("dict[bytes, bytes]", redis.hgetall(f"dingrelay:job:{each}"))
            if record:
                fields = {name.decode(): value.decode() for name, value in record.items()}
                yield f"record {each}: {json.dumps(fields, ensure_ascii=False)}"
