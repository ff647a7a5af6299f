"""Verbs of jobs: what people do to one that was accepted. See `verbs`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from dingrelay_producers.actor import current_actor, current_reach
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import details_of, recall_of
from dingrelay_producers.client.sending import Sending
from dingrelay_producers.client.verbs import Accept, Audit, Question, Remember, Steps, verb
from dingrelay_producers.errors import (
    CannotResolve,
    JobConflict,
    JobNotFound,
    NotPermitted,
    ServiceUnavailable,
    UnreadableRecord,
)
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.record import NEWER
from dingrelay_producers.store.resolution import LONGEST_INSTANCE, Resolution
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus, state_of
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import ContractError, Document, Moment, batched
from dingrelay_tasks.robot_names import ROBOT_MESSAGE
from dingrelay_tasks.sentence import Sentence, en

Change = Literal["cancel", "postpone", "requeue", "discard", "resolve"]
ChangeOfMany = Literal["cancel", "requeue", "discard"]
"""Change that can be made to many jobs at once."""
CHANGEABLE: Mapping[Change, frozenset[State]] = {
    "cancel": frozenset(
        state for state in State if not state.ended or state in {State.CANCELLED, State.UNKNOWN}
    ),
    "postpone": frozenset({State.QUEUED, State.SNOOZED, State.RETRYING}),
    "requeue": frozenset({State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}),
    "discard": frozenset({State.DEAD, State.UNKNOWN}),
    "resolve": frozenset({State.UNKNOWN}),
}
"""The states in which a job can be changed so."""
_UNFIT: Mapping[bytes, Sentence] = {
    record.OVER: en("is over: choose a time to come"),
    record.LATE: en("must be before the job expires"),
    record.EARLY: en("must not be before the time for which the job waits already"),
}
"""Answer to a postponement → what is wrong with its moment."""
AT_ONCE = 200
"""Jobs that are changed in one step, so that nothing else waits for long."""
_SCOPE = "jobs:write"


class Postponement(Document):
    """How long a job is put off."""

    until: Annotated[
        Moment,
        Field(title=en("Not before")),
        Asked("2026-01-31T09:00, or +10m from now.", argument=True),
    ]
    """Moment before which it does not run."""


class JobResolution(Document):
    """Outcome of an unknown job: one of the three."""

    instance: Annotated[
        Annotated[str, Field(min_length=1, max_length=LONGEST_INSTANCE)] | None,
        Asked("The approval instance that the job created."),
    ] = None
    """The approval that it created."""
    not_created: Annotated[bool, Asked("It created none: create it now.")] = False
    """It created none; it is requeued."""
    sent: Annotated[
        bool | None, Asked("Whether the message was sent, or the call carried out.")
    ] = None
    """Whether the message was sent; if not, it is requeued, and if so for the calls that are left."""


class Jobs:
    """Verbs of jobs, for the actor of the present task.

    Each verb raises `JobNotFound` where there is no record that the actor may see, `JobConflict` where the job is in
    a state in which this can't be done, and `ServiceUnavailable` where Redis or the audit is away. `resolve` raises
    `CannotResolve` where not one outcome is given, or it is none for the job's kind, or the instance is another job's.

    Args:
        settings: how long records live, and whether approvals are followed.
    """

    NOUN = "job"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def status(
        self, job_id: str, *, scope: str = "jobs:read", to_change: bool = False
    ) -> Steps[JobStatus]:
        """How a job stands. One of a newer release can be read, but not `to_change` it."""
        fields = record.fields((yield record.read(job_id)))
        if b"state" not in fields:
            raise JobNotFound(job_id)
        if to_change and record.is_newer(fields):
            state_of(job_id, NEWER)
        job = JobStatus.from_record(job_id, fields)
        if not _covers(job, scope):
            raise JobNotFound(job_id)
        return job

    def details(self, job_id: str, *, scope: str = "jobs:read") -> Steps[JobDetails]:
        """A job with its people, from its record or, where that is over, from the history."""
        details = details_of(job_id, record.fields((yield record.read(job_id, payload=True))))
        if details is None:
            details = yield Remember(job_id)
        elif details.status.kind == ROBOT_MESSAGE and details.status.state.ended:
            # Its readers and its recall are in the history only, which has its end some seconds later.
            with suppress(ServiceUnavailable):
                remembered = yield Remember(job_id)
                if remembered and remembered.status.state == details.status.state:
                    details = remembered
        if details is None or not _covers(details.status, scope):
            raise JobNotFound(job_id)
        return details

    @verb("POST /v1/jobs/{id}/cancel", scope=_SCOPE, done=en("The job is cancelled."))
    def cancel(self, job_id: str) -> Steps[JobStatus]:
        """Cancel a job that does not run.

        One that runs is carried out, but not tried again; one whose call may have been carried out is unknown.
        """
        job = yield from self.status(job_id, scope=_SCOPE, to_change=True)
        if job.state.ended:
            _check("cancel", job_id, job.state)
            return job
        yield from self._note("cancel", job)
        call = record.cancel(job_id, **record.lives_of_ended(self._settings))
        yield from _transition("cancel", job_id, call)
        return (yield from self.status(job_id, scope=_SCOPE))

    @verb(
        "POST /v1/jobs/{id}/postpone",
        scope=_SCOPE,
        question=Question(
            en("Postpone this job?"),
            en("Postpone it"),
            en("It does not run before then, whatever it waits for now."),
        ),
        done=en("The job is postponed."),
    )
    def postpone(self, job_id: str, request: Postponement) -> Steps[JobStatus]:
        """Have a job that waits not run before a moment.

        Whatever it waits for. What it has done is kept, and so is its `expires_at`, which must be later. It is put off
        further only: behind its `send_at`, an earlier postponement, the pause before its retry, or the end of a pause.
        """
        job = yield from self.status(job_id, scope=_SCOPE, to_change=True)
        yield from self._postpone(job_id, request.until, rehearsal=True)
        yield from self._note("postpone", job, after={"until": request.until})
        yield from self._postpone(job_id, request.until)
        return (yield from self.status(job_id, scope=_SCOPE))

    @verb(
        "POST /v1/jobs/{id}/requeue",
        scope=_SCOPE,
        question=Question(
            en("Requeue this job?"),
            en("Requeue it"),
            en(
                "It may have happened: requeued, it may happen twice. Rather say what became of it."
            ),
        ),
        done=en("The job is requeued."),
    )
    def requeue(self, job_id: str) -> Steps[JobStatus]:
        """Give an ended job another life.

        It remembers what it has done. A `send_at` that is ahead is kept, and so is an `expires_at`; one that is over
        is forgotten. A message with ``on_unknown="stop"`` repeats the call whose answer was lost.
        """
        job = yield from self.status(job_id, scope=_SCOPE, to_change=True)
        _check_lane(job)
        yield from self._note("requeue", job)
        yield from _transition("requeue", job_id, record.requeue(job_id))
        return (yield from self.status(job_id, scope=_SCOPE))

    @verb(
        "POST /v1/jobs/{id}/discard",
        scope=_SCOPE,
        question=Question(
            en("Discard this job for good?"),
            en("Discard it"),
            en("Nothing of it is kept but its line in the history. This can't be undone."),
            ends=True,
        ),
        done=en("The job is discarded."),
    )
    def discard(self, job_id: str) -> Steps[None]:
        """Forget a dead or unknown job for good."""
        job = yield from self.status(job_id, scope=_SCOPE, to_change=True)
        yield from self._note("discard", job)
        if not (yield record.discard(job_id)):
            raise JobConflict(job_id, "discard", job.state)

    @verb("POST /v1/jobs/{id}/resolve", scope=_SCOPE)
    def resolve(
        self,
        job_id: str,
        request: JobResolution,
        by: Annotated[
            str | None, Asked("Person who reports it; the present user if not given.")
        ] = None,
    ) -> Steps[JobStatus]:
        """Say what became of an unknown job.

        Just one of the three is given, and one that the job's kind has. `dingrelay job show` lists the approvals that
        it may have created, with their links.
        """
        job = yield from self.status(job_id, scope=_SCOPE, to_change=True)
        resolution = Resolution.of(job_id, job.kind, **request.model_dump())
        if resolution.is_about_a_step(job.kind):
            answer = yield record.read(job_id, payload=True)
            resolution = resolution.of_record(job.kind, record.fields(answer))
        if resolution.requeues:
            _check_lane(job)
        by = current_actor().signature if by is None else by
        yield from self._resolve(resolution, by, rehearsal=True)
        yield from self._note("resolve", job, after=request.model_dump(exclude_defaults=True))
        yield from self._resolve(resolution, by)
        if resolution.requeues:
            # Should this never come, the job is still unknown, with nothing open.
            yield record.requeue(job_id)
        if follower := resolution.follower(job, self._settings):
            # Should this never come, the next event of the approval has it followed.
            yield Accept([follower])
        return (yield from self.status(job_id, scope=_SCOPE))

    @verb(
        "POST /v1/jobs/{id}/recall",
        scope=_SCOPE,
        question=Question(
            en("Take this message back?"),
            en("Take it back"),
            en(
                "It disappears for everybody who got it. A call that carried other messages, too, is left as it is."
            ),
            ends=True,
        ),
        done=en("It is being taken back by this job."),
    )
    def recall(self, job_id: str) -> Steps[JobStatus]:
        """Take back a message of the last 24 hours.

        By a job, which is shown, and is the same on repeated calls. A call that carried other messages like it, to
        other people, is left as it is.
        """
        details = yield from self.details(job_id, scope=_SCOPE)
        job = details.status
        recall = recall_of(details)
        recall = recall.model_copy(update={"sender": job.sender or self._settings.sender})
        change = Audit("recall", self.NOUN, [job_id], job.app, job.lane)
        (status,) = yield from Sending(self._settings).follow([recall], change)
        return status

    def change_all(self, change: ChangeOfMany, job_ids: Sequence[str]) -> Steps[list[str]]:
        """Cancel, requeue or discard jobs, some at a time; the ids of those for which it was done.

        Those in another state are left out, and so are those that the actor may not change, or this release not read.
        """
        changed: list[str] = []
        for ids in batched(job_ids, AT_ONCE):
            answers = yield [record.read(job_id) for job_id in ids]
            records = zip(ids, map(record.fields, answers), strict=True)
            jobs = [job for job in _readable(records) if self._may_change(change, job)]
            for app, lane, state in dict.fromkeys((job.app, job.lane, job.state) for job in jobs):
                if change == "cancel" and state.ended:
                    continue  # it is over already
                same = [
                    job.id for job in jobs if (job.app, job.lane, job.state) == (app, lane, state)
                ]
                yield Audit(change, self.NOUN, same, app, lane, before={"state": state})
            outcomes = yield [self._transition_of(change, job.id) for job in jobs]
            changed += [
                job.id
                for job, outcome in zip(jobs, outcomes, strict=True)
                if _is_changed(change, job.id, outcome)
            ]
        return changed

    def _transition_of(self, change: ChangeOfMany, job_id: str) -> Call:
        match change:
            case "cancel":
                return record.cancel(job_id, **record.lives_of_ended(self._settings))
            case "requeue":
                return record.requeue(job_id)
            case "discard":
                return record.discard(job_id)

    def _may_change(self, change: ChangeOfMany, job: JobStatus) -> bool:
        return (
            job.state in CHANGEABLE[change]
            and _covers(job, _SCOPE)
            and (change != "requeue" or current_reach().permits_lane(job.lane))
        )

    def _postpone(self, job_id: str, until: datetime, *, rehearsal: bool = False) -> Steps[None]:
        state = yield record.postpone(job_id, until, rehearsal=rehearsal)
        if problem := _UNFIT.get(state):
            raise ContractError("until", problem)
        _check_answer("postpone", job_id, state)

    def _resolve(self, resolution: Resolution, by: str, *, rehearsal: bool = False) -> Steps[None]:
        job_id = resolution.job_id
        answer = yield resolution.call(self._settings, by=by, rehearsal=rehearsal)
        if answer is None:
            raise JobNotFound(job_id)
        state, *holder = (text.decode() for text in answer)
        if holder:
            raise CannotResolve(job_id, self._taken(resolution.instance, holder[0]))
        _check("resolve", job_id, state_of(job_id, state.encode()))

    def _note(
        self, change: Change, job: JobStatus, after: dict[str, Any] | None = None
    ) -> Steps[None]:
        """Have the audit know of a change that is about to be made, and that can be."""
        _check(change, job.id, job.state)
        before = {"state": job.state}
        yield Audit(change, self.NOUN, [job.id], job.app, job.lane, before=before, after=after)

    def _taken(self, instance: str, holder: str) -> str:
        """Why an approval can't be a job's; without the other job's id for a caller who may not see all jobs."""
        if current_reach().sees_all:
            return en("can't have {}: it is the one of job {}", instance, holder)
        return en("can't have this instance: it is another job's")


def check_change(change: Change, job: JobStatus) -> None:
    """Refuse a change of a job that is in none of its states.

    Raises:
        JobConflict: says which state it is in.
    """
    _check(change, job.id, job.state)


def _check(change: Change, job_id: str, state: State) -> None:
    if state not in CHANGEABLE[change]:
        raise JobConflict(job_id, change, state)


def _check_lane(job: JobStatus) -> None:
    if not current_reach().permits_lane(job.lane):
        raise NotPermitted("lane", en("the key is not for the lane {}", job.lane))


def _readable(records: Iterable[tuple[str, Mapping[bytes, bytes]]]) -> Iterator[JobStatus]:
    """The jobs with a record that this release can read, and change."""
    for job_id, fields in records:
        if b"state" in fields and not record.is_newer(fields):
            with suppress(UnreadableRecord):
                yield JobStatus.from_record(job_id, fields)


def _covers(job: JobStatus, scope: str) -> bool:
    return current_reach().reaches(
        scope, app=job.app, sender=job.sender, lane=job.lane, target=job.target
    )


def _transition(change: Change, job_id: str, call: Call) -> Steps[None]:
    """Make a transition whose script answers a state that must be one of the change's."""
    _check_answer(change, job_id, (yield call))


def _check_answer(change: Change, job_id: str, state: bytes | None) -> None:
    if state is None:
        raise JobNotFound(job_id)
    _check(change, job_id, state_of(job_id, state))


def _is_changed(change: Change, job_id: str, outcome: Any) -> bool:
    if change == "discard":
        return bool(outcome)
    return outcome not in {None, NEWER} and state_of(job_id, outcome) in CHANGEABLE[change]
