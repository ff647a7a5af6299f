"""6: no window of any rule holds more than its limit, at DingTalk's side."""

from collections.abc import Iterator

from dingrelay_chaos.dingtalk import text_of
from dingrelay_chaos.evidence import TOO_MANY_A_MINUTE, Evidence, Finding
from dingrelay_chaos.operations import Send

STRAY_SHARE = 0.2
STRAY_LEAST = 6
"""So many calls may be throttled: calls leave evenly and arrive unevenly."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """People that a limit kept from a message in silence, and throttles."""
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
