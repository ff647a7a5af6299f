"""Ends of jobs: every accepted one has one, and only one."""

from collections.abc import Iterator

from dingrelay_simulation.operations import Request
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
            if job not in discarded and not _forgotten(evidence, request):
                yield Violation("gone", f"{job} was accepted and has no record", job)
        elif not status.state.ended:
            yield Violation("open", f"{job} is {status.state} for ever: {status.error}", job)


def _forgotten(evidence: Evidence, request: Request) -> bool:
    """Whether Redis may have forgotten the record of a job: that of a bare client's is made in a run, which is done with its message then."""
    made = [(request.at, request.at)]
    if request.name == "bare":
        made += [(run.at, run.until) for run in evidence.runs.get(request.job, ())]
    return any(evidence.forgotten(since, until) for since, until in made)


def check_single_ends(evidence: Evidence) -> Iterator[Violation]:
    """A job ends once, and once more for each time that it was requeued or that Redis forgot its end."""
    for request in evidence.requests.jobs:
        job = request.job
        ends = [
            at
            for at, worker in evidence.ends.get(job, ())
            if not evidence.forgotten_end(at, worker)
        ]
        requeued = sum(
            command.job == job and command.verb in {"requeue", "resolve"}
            for command in evidence.requests.commands
        )
        if len(ends) > 1 + requeued:
            yield Violation("ended", f"{job} ended {len(ends)} times: {ends}", job)
