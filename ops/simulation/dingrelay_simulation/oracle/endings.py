"""Ends of jobs: every accepted one has one."""

from collections.abc import Iterator

from dingrelay_simulation.oracle.evidence import Evidence, Violation


def check_endings(evidence: Evidence) -> Iterator[Violation]:
    """Every accepted job has ended, or was discarded."""
    discarded = evidence.commanded("discard")
    for request in evidence.requests.jobs:
        job = request.job
        if request.accepted != "yes":
            continue
        status = evidence.statuses.get(job)
        if status is None:
            if job not in discarded and not evidence.forgotten(request.at, request.at):
                yield Violation("gone", f"{job} was accepted and has no record", job)
        elif not status.state.ended:
            yield Violation("open", f"{job} is {status.state} for ever: {status.error}", job)
