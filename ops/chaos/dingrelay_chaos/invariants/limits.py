"""6: no window of any rule holds more than its limit, at DingTalk's side; the month is right."""

import json
import time
from collections.abc import Iterator

from dingrelay_chaos.dingtalk import text_of
from dingrelay_chaos.evidence import TOO_MANY_A_MINUTE, Evidence, Finding
from dingrelay_chaos.faults import Fault
from dingrelay_chaos.operations import Send
from dingrelay_chaos.process import dingrelay

SHOWN_SECONDS, SHOWN_PAUSE = 5.0, 0.5
"""How long a process may take to publish what it has counted, and the pause between two looks."""
STRAY_SHARE = 0.2
STRAY_LEAST = 6
"""So many calls may be throttled: calls leave evenly and arrive unevenly."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """People that a limit kept from a message in silence, throttles, and the month's count."""
    snapshot = evidence.snapshot
    contents: dict[int, str] = {}
    dropped: dict[int, list[str]] = {}
    for entry in snapshot.entries:
        if entry["reason"] == TOO_MANY_A_MINUTE and entry["call_id"] not in evidence.uncounted:
            dropped.setdefault(entry["call_id"], []).append(entry["user"])
            contents[entry["call_id"]] = text_of(entry)
    for call, users in dropped.items():
        content = contents[call]
        job = next((a.job for a in evidence.requests.of(Send) if a.what.tag == content), content)
        text = f"{users} did not get {content!r}: {_window(evidence, call)}"
        yield text, job
    throttled = [each for each in snapshot.calls if each["verdict"] == "throttled"]
    stray = [each for each in throttled if not each["fault"]]
    if len(stray) > max(STRAY_LEAST, STRAY_SHARE * len(snapshot.calls)):
        yield f"{len(stray)} of {len(snapshot.calls)} calls were throttled", ""
    yield from _month(evidence)


def _window(evidence: Evidence, number: int) -> str:
    """The calls that had filled the recipients' window when this call came."""
    limit, _, window = evidence.schedule.setting.recipients.partition("/")
    calls = {each["id"]: each for each in evidence.snapshot.calls}
    last = calls[number]["moment"]
    since = last - float(window.removesuffix("s"))
    before = [
        f"{each['recipients']} at {each['moment']:.3f}"
        for each in evidence.snapshot.calls
        if each["recipients"] and since < each["moment"] <= last
    ]
    return f"more than {limit} recipients in {window}: {', '.join(before)}"


def _month(evidence: Evidence) -> Iterator[Finding]:
    """The fleet counts answered calls; what it can't have counted is what no answer came to."""
    counted = sum(evidence.snapshot.audit["quota"].values())
    # Some of those that were slow were given up.
    spoilt = sum(
        bool(each["fault"]) or evidence.under(each["moment"], lambda fault: fault.name == "slow")
        for each in evidence.snapshot.calls
    )
    broken = sum(
        isinstance(step.what, Fault) and step.what.loses_answers for step in evidence.schedule.steps
    )
    # A process publishes five times a second what it has counted, so each that ends may take some
    # along, and so may each time that Redis is away. One that is busy may be late.
    slack = spoilt + broken * evidence.schedule.setting.concurrency
    deadline = time.monotonic() + SHOWN_SECONDS
    while True:
        document = json.loads(dingrelay("limits", "--json"))
        used = sum(int(row["used"]) for row in document["quota"] if row["counts"] == "calls")
        # Approvals are still looked at, so there may have been calls since the first count.
        since = sum(evidence.system.sandbox.audit()["quota"].values())
        if counted - slack <= used <= since + slack:
            return
        if used > since + slack or time.monotonic() > deadline:
            break
        time.sleep(SHOWN_PAUSE)
    counts = f"{counted}, then {since} (± {slack})"
    yield f"{used} calls of the month, and DingTalk counts {counts}", ""
