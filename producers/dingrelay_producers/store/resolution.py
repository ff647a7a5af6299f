"""Resolution of a call whose answer was lost, as a person reports it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from pydantic import ValidationError

from dingrelay_producers.errors import CannotResolve
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, transitions
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.status import JobStatus, json_object, steps_in
from dingrelay_tasks.contract import Json
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.sentence import en

LONGEST_INSTANCE = 255


@dataclass(frozen=True, slots=True)
class Resolution:
    """Outcome of an unknown job.

    Attributes:
        happened: whether DingTalk carried the call out.
        instance: the approval that it made; empty if it was no approval, or made none.
        step: the step whose call happened, if the job remembers its outcome.
        outcome: of that step.
        goes_on: the job has other calls to make.
    """

    job_id: str
    happened: bool
    instance: str = ""
    step: str = ""
    outcome: Json | None = None
    goes_on: bool = False

    @property
    def requeues(self) -> bool:
        """Whether the job has another life by it."""
        return self.goes_on or not self.happened

    def is_about_a_step(self, kind: str) -> bool:
        """Whether it is about one call among several of a job of this kind, so that `of_record` is needed."""
        return self.happened and kind in KINDS and KINDS[kind].stated is not None

    def of_record(self, kind: str, fields: Mapping[bytes, bytes]) -> Self:
        """The same, with what the job's record, its payload included, says of the call."""
        stated = KINDS[kind].stated
        assert stated is not None
        step = json_object(fields.get(b"intent", b"")).get("step")
        if not isinstance(step, str):
            return self
        job = json_object(fields.get(b"payload", b""))
        try:
            outcome, goes_on = stated(job, steps_in(fields), step)
        except (KeyError, TypeError, AttributeError):
            return self  # another release wrote it
        return replace(self, step=step, outcome=outcome, goes_on=goes_on)

    @classmethod
    def of(
        cls, job_id: str, kind: str, *, instance: str | None, not_created: bool, sent: bool | None
    ) -> Self:
        """A decision given in one of three ways, which must be the one of the job's kind.

        Raises:
            CannotResolve: it is not.
        """
        if sum([instance is not None, not_created, sent is not None]) != 1:
            raise CannotResolve(job_id, "needs one of instance, not_created and sent")
        needed = KINDS[kind].resolved_by if kind in KINDS else "nothing"
        if needed != ("sent" if sent is not None else "instance or not_created"):
            raise CannotResolve(
                job_id, en("is a job of kind {}, which is resolved by {}", kind, needed)
            )
        if instance is not None and not (
            0 < len(instance) <= LONGEST_INSTANCE and instance.isprintable() and " " not in instance
        ):
            raise CannotResolve(job_id, "instance: must be the id of an approval instance")
        return cls(job_id, bool(sent) or instance is not None, instance or "")

    def follower(self, job: JobStatus, settings: Settings) -> Draft | None:
        """The job that follows the approval from now on; None if there is none to follow."""
        if not self.instance or settings.approvals.follow == "none":
            return None
        from dingrelay_tasks.approval_follow import ApprovalFollow  # noqa: PLC0415 - few need it

        try:
            follow = ApprovalFollow(app=job.app, instance=self.instance)
        except ValidationError:
            return None  # an id that DingTalk does not give: there is nothing to look up
        return record.draft(follow, key=self.instance, sender=job.sender)

    def call(self, settings: Settings, *, by: str, rehearsal: bool = False) -> Call:
        """The script that writes it down; in a rehearsal it only says how that would go.

        Answers the state before as a list of one, or ``taken`` and the job that has the instance;
        nil if there is no such job. Only an unknown job is changed.
        """
        approval = self.instance or None
        return transitions.resolve(
            record=keys.job(self.job_id),
            dead=keys.DEAD,
            approval_owner=approval and keys.approval_owner(approval),
            job_approval=approval and keys.job_approval(self.job_id),
            job=self.job_id,
            happened=self.happened,
            step=self.step or None,
            outcome=record.canonical_json(self.outcome) if self.outcome else None,
            goes_on=self.goes_on,
            decision=record.canonical_json({"by": by, "happened": self.happened}),
            result=approval and record.canonical_json({"instance_id": approval}),
            ttl=int(settings.record_ttl * 1000),
            approval=approval,
            approval_ttl=record.longest_life_ms(settings),
            job_ttl=keys.JOB_MARGIN_MS,
            rehearsal=rehearsal,
        )
