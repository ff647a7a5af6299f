"""Robots' messages: in the group, once."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation


def check_robots(evidence: Evidence) -> Iterator[Violation]:
    """A robot's message that is done is in the group, once."""
    by_hand = evidence.again_by_hand
    for request in evidence.requests.jobs:
        job, tag = request.job, request.tag
        if request.name != "robot" or request.accepted != "yes":
            continue
        status = evidence.statuses.get(job)
        posts = evidence.posts.get(tag, [])
        if status and status.state == State.DONE and not posts:
            yield Violation("lost", f"{job} is done, and {tag!r} is not in the group", job)
        # One post has one key at DingTalk; a Redis that forgets which digest a message was in puts it into another.
        forgotten = request.values["digest"] and posts and evidence.forgotten(request.at, posts[-1])
        if len(posts) > 1 and job not in by_hand and not forgotten:
            yield Violation("twice", f"{tag!r} is in the group {len(posts)} times", job)
