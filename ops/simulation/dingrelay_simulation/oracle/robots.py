"""Robots' messages: in the group, once."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation


def check_robots(evidence: Evidence) -> Iterator[Violation]:
    """A robot's message that is done is in the group, once."""
    requeued = evidence.commanded("requeue")
    for request in evidence.requests.jobs:
        job, tag = request.job, request.tag
        if request.name != "robot" or request.accepted != "yes":
            continue
        status = evidence.statuses.get(job)
        times = evidence.posts.get(tag, 0)
        if status and status.state == State.DONE and not times:
            yield Violation("lost", f"{job} is done, and {tag!r} is not in the group", job)
        if times > 1 and job not in requeued and not request.values["digest"]:
            yield Violation("twice", f"{tag!r} is in the group {times} times", job)
