"""Approvals after they were created: the product learns how each of them ends."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.approvals import true_state
from dingrelay_simulation.operations import Request
from dingrelay_simulation.oracle.evidence import Evidence, Violation


def check_followed(evidence: Evidence) -> Iterator[Violation]:
    """The state of each approval that a job created is in its table, once it is decided."""
    true = {
        instance.id: true_state(instance)
        for instances in evidence.instances.values()
        for instance in instances
    }
    for request in evidence.requests.jobs:
        status = evidence.statuses.get(request.job)
        if request.name != "approval" or status is None or status.state != State.DONE:
            continue
        instance = str((status.result or {}).get("instance_id"))
        row, state = evidence.followed.get(instance), true.get(instance, "deleted")
        if row is not None and row.state == state:
            continue
        if not _may_be_forgotten(evidence, request):
            known = f"known to be {row.state}" if row else "not followed"
            text = f"{instance} of {request.job} is {state}, and {known}"
            yield Violation("unfollowed", text, instance)


def _may_be_forgotten(evidence: Evidence, request: Request) -> bool:
    """Whether Redis may have forgotten the job that follows it, and not that its own job ended.

    Where a person names the approval, it is followed from the next event on if that job never comes.
    """
    if request.job in evidence.commanded("resolve"):
        return True
    effects = evidence.effects_by_tag.get(request.tag, ())
    first = min((effect.at for effect in effects), default=request.at)
    ends = [at for at, _ in evidence.ends.get(request.job, ())]
    return evidence.forgotten(first, max(ends, default=first))
