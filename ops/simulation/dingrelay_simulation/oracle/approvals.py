"""Approvals: once for a job that is done, and never for one that ended without."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation


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
        perhaps += sum(evidence.forgotten_call(effect) for effect in effects)
        if len(existing) > len(done) + perhaps:
            states = {job: str(status.state) if status else None for job, status in jobs.items()}
            text = f"{tag!r} exists {len(existing)} times for {states}"
            yield Violation("twice", text, next(iter(jobs), ""))
