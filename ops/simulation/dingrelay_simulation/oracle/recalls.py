"""Recalls: what is recalled was to be, whole; and what a recall says is true."""

import re
from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation

CAMPAIGN = re.compile(r"b\d")
"""The texts of campaigns, which are taken back as a whole."""


def check_recalls(evidence: Evidence) -> Iterator[Violation]:
    """A call is taken back only with all that it carried, and a recall that is done took back what it names."""
    by_job = {request.job: request for request in evidence.requests.jobs if request.job}
    asked: dict[str, set[str]] = {}
    for request in evidence.requests.jobs:
        if request.name != "recall":
            continue
        recalled = by_job[request.values["of"]]
        asked.setdefault(recalled.tag, set()).update(recalled.values["users"])
        status = evidence.statuses.get(request.job)
        if status is None or status.state != State.DONE:
            continue
        for task in (status.result or {})["recalled"]:
            if task not in evidence.recalled:
                text = f"{request.job} says that it took back {task}, which is still there"
                yield Violation("untrue", text, request.job)
    for task, (tag, users) in evidence.recalled.items():
        if not CAMPAIGN.match(tag) and not users <= asked.get(tag, set()):
            text = f"{task} was taken back from {sorted(users - asked.get(tag, set()))}, who were to keep {tag!r}"
            yield Violation("recalled", text, tag)
