"""Approvals: once for a job that is done, and never for one that ended without.

DingTalk may carry a call out later than the settle delay after its worker gave the answer up: a search finds nothing, and
nothing shows that the call is still under way.
"""

from collections.abc import Iterator, Sequence

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Effect, Evidence, Violation

SEARCH = "/v1.0/workflow/processes/instanceIds/query"
"""API by which a worker looks for an approval whose answer was lost."""


def check_approvals(evidence: Evidence) -> Iterator[Violation]:
    """No approval exists twice for one job, none for a job that is dead or cancelled; done ones exist."""
    for tag, requests in evidence.requests_by_tag({"approval"}).items():
        existing = {instance.id for instance in evidence.instances.get(tag, ())}
        jobs = {
            request.job: evidence.statuses.get(request.job)
            for request in requests
            if request.job and request.accepted == "yes"
        }
        done = {
            job: (status.result or {}).get("instance_id")
            for job, status in jobs.items()
            if status and status.state == State.DONE
        }
        for job, instance in done.items():
            if instance not in existing and instance not in evidence.deleted:
                text = f"{job} is done and names {instance}, which does not exist"
                yield Violation("lost", text, job)
        if len(set(done.values())) < len(done):
            yield Violation("shared", f"jobs name the same instance: {done}", next(iter(done)))
        perhaps = sum(status is None or status.state == State.UNKNOWN for status in jobs.values())
        perhaps += sum(request.accepted == "perhaps" for request in requests)
        perhaps += len(evidence.again_by_hand & jobs.keys())
        effects = evidence.effects_by_tag.get(tag, [])
        perhaps += sum(
            evidence.forgotten_call(effect) or _searched_in_vain(evidence, effect, effects)
            for effect in effects
        )
        if len(existing) > len(done) + perhaps:
            states = {job: str(status.state) if status else None for job, status in jobs.items()}
            text = f"{tag!r} exists {len(existing)} times for {states}"
            yield Violation("twice", text, next(iter(jobs), ""))


def _searched_in_vain(evidence: Evidence, call: Effect, calls: Sequence[Effect]) -> bool:
    """Whether a worker that made another call looked for the effect of this one in its time, and it came later."""
    settles = evidence.settles(call)
    return call.at > settles and any(
        search.worker == other.worker and settles <= search.left < min(other.left, call.at)
        for other in calls
        for search in evidence.calls
        if search.path == SEARCH
    )
