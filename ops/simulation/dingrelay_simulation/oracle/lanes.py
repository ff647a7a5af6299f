"""Lanes: no job of one that is paused begins, and what had begun may be finished."""

from collections.abc import Iterator, Sequence

from dingrelay_simulation.lanes import LanePause
from dingrelay_simulation.operations import Request
from dingrelay_simulation.oracle.evidence import BEFORE, SENDS, Effect, Evidence, Violation

ALL = "all"
"""Name of all lanes."""


def check_paused_lanes(evidence: Evidence) -> Iterator[Violation]:
    """No call of a job leaves in a pause of its lane, unless the job had begun before."""
    for pause in evidence.lane_pauses:
        for tag, requests in evidence.requests_by_tag(SENDS | {"approval"}).items():
            if not all(request.job and _is_paused(pause, request) for request in requests):
                continue
            for call in evidence.attempts_by_tag.get(tag, ()):
                within = pause.since + BEFORE < call.left < pause.until - BEFORE
                if within and not _had_begun(evidence, requests, pause, call):
                    text = f"{tag!r} was called at {call.left:.2f}, and lane {pause.lane} paused from {pause.since:.2f}"
                    yield Violation("paused", text, requests[0].job)


def _is_paused(pause: LanePause, request: Request) -> bool:
    return pause.lane in {ALL, request.values.get("lane", "normal")}


def _had_begun(
    evidence: Evidence, requests: Sequence[Request], pause: LanePause, call: Effect
) -> bool:
    """Whether the run that made a call began before a pause, or an earlier one may have made a call, or Redis forgot the pause."""
    begun = [
        run
        for request in requests
        for run in evidence.runs.get(request.job, ())
        if run.at <= pause.since
    ]
    if not begun and call.tag not in evidence.left_open:
        return evidence.forgotten(pause.since, pause.since)
    if any(run.made(call.worker, call.left) for run in begun):
        return True
    since = min(request.at for request in requests)
    return evidence.forgotten(pause.since, pause.since) or evidence.in_doubt(
        call.tag, since, call.left
    )
