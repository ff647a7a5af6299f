"""The verb that makes jobs: through whichever door one comes, this body accepts it. See `verbs`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dingrelay_producers.actor import Reach, current_once, current_reach
from dingrelay_producers.client.groups import Group, grouped
from dingrelay_producers.client.verbs import Accept, Admit, Audit, FindApproval, Steps
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, NotPermitted, QueueFull
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft, Enqueued, moment_of
from dingrelay_producers.store.served_names import names_of
from dingrelay_producers.store.status import JobStatus
from dingrelay_producers.store.transitions import WrittenJob
from dingrelay_tasks.contract import LANES, Contract, ContractError
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.approvals import ApprovalStatus

Refusal = ContractError | DingrelayError
"""Why a job is not accepted."""


class _Gathered(NamedTuple):
    job: Contract
    names: Sequence[tuple[str, str]]
    draft: Draft


@dataclass(slots=True)
class JobBatch:
    """Jobs that are accepted together.

    Attributes:
        whole: whether none is accepted if one is refused, whose refusal is raised. One of a key comes too late for that.
        places: of each job that was given, its place among those to be accepted, or why it is refused.
        jobs: to be accepted.
        written: the same as arguments of the script, if they were wanted.
    """

    whole: bool
    places: list[int | Refusal] = field(default_factory=list[int | Refusal])
    jobs: list[_Gathered] = field(default_factory=list[_Gathered])
    written: list[WrittenJob] = field(default_factory=list[WrittenJob])


class Sending:
    """Makes jobs, for the actor of the present task.

    Args:
        settings: which messages a robot or a group can have, and the sender of jobs that name none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, job: Contract) -> Steps[JobStatus]:
        """Make a job; how it stands, which is not new if its key was used before.

        Raises:
            NotPermitted: the actor may not ask for it.
            ContractError, IdempotencyConflict, QueueFull, ServiceUnavailable: as `accept`.
        """
        return self.make(job, permitted=False)

    def make(self, job: Contract, *, permitted: bool = True) -> Steps[JobStatus]:
        """The same for a verb whose body has seen that the actor may, unless not `permitted`."""
        if not permitted:
            yield from self.permit(job)
        draft, enqueued = yield from self.accept(job)
        status = yield from read_accepted(draft, enqueued)
        if not (enqueued.created or current_reach().permits_sender(status.sender)):
            raise IdempotencyConflict(draft.id)
        return status

    def accept(self, job: Contract, key: str | None = None) -> Steps[tuple[Draft, Enqueued]]:
        """Accept a job that the actor may ask for. `key`: its identity, if it has none of its own.

        Raises:
            ContractError: it is too large, no worker serves its app, robot or group, or that can't have such a message.
            IdempotencyConflict: its key belongs to a job with another payload, or to one of a foreign sender.
            QueueFull: too many jobs wait.
            ServiceUnavailable: Redis is away; nothing was accepted, unless its answer alone was lost.
        """
        reach = current_reach()
        self._settings.check_target(job)
        names = names_of(job)
        served, full = yield Admit(names, (job.queue,))
        served.check(names, reach.sees_name)
        for refusal in full.values():
            raise refusal
        draft = self._draft(job, key or current_once(), reach)
        (enqueued,) = yield Accept((draft,))
        if enqueued.conflict:
            raise IdempotencyConflict(draft.id)
        return draft, enqueued

    def follow(
        self, jobs: Sequence[Contract], change: Audit | None = None
    ) -> Steps[list[JobStatus]]:
        """Accept the jobs that follow from a verb whose body has seen that the actor may; how each stands, in order.

        One without a sender gets the actor's. One in a lane that the actor may not take goes in a slower one. One that the
        verb has made before is the same, in whatever lane it went, and is requeued if it has failed since.

        Args:
            jobs: these.
            change: that the verb is, for the audit; of its jobs it is given the ids.

        Raises:
            ContractError, QueueFull, ServiceUnavailable: as `accept`.
        """
        reach = current_reach()
        names = {name for job in jobs for name in names_of(job)}
        served, full = yield Admit(names, {job.queue for job in jobs})
        served.check(names, reach.sees_name)
        for refusal in full.values():
            raise refusal
        drafts = [self._draft(_in_lane_of(reach, job), None, reach) for job in jobs]
        if change is not None:
            ids = [draft.id for draft in drafts]
            yield change._replace(after={**(change.after or {}), "jobs": ids})
        answers: Sequence[Enqueued] = yield Accept(drafts)
        statuses: list[JobStatus] = []
        for draft, enqueued in zip(drafts, answers, strict=True):
            if not enqueued.created:
                yield record.requeue(draft.id)
            statuses.append((yield from read_accepted(draft, enqueued)))
        return statuses

    def permit(self, job: Contract) -> Steps[None]:
        """See that the actor may ask for a job.

        Raises:
            NotPermitted: they may not; names the field.
            ServiceUnavailable: the database is away.
        """
        reach = current_reach()
        self._check_permitted(job, reach)
        if reach.approvals_of(job):
            yield from _check_approvals(job, reach)

    def check(self, job: Contract) -> Steps[None]:
        """See that a job can be accepted.

        Raises:
            ContractError: as `accept`, but of its size.
        """
        self._settings.check_target(job)
        names = names_of(job)
        served, _ = yield Admit(names)
        served.check(names, current_reach().sees_name)

    def gather(
        self,
        jobs: Iterable[Contract],
        *,
        whole: bool = False,
        keys: Sequence[str] | None = None,
        traces: Sequence[str] | None = None,
        written: Callable[[Draft], WrittenJob] | None = None,
    ) -> JobBatch:
        """Prepare jobs to be accepted together, if the actor may ask for them. Needs no steps, so a thread may do it.

        Messages that are the same but for their users are made one job.

        Args:
            jobs: these.
            whole: as of the batch.
            keys: identity of each one that has none of its own. Then each is a job of its own, too.
            traces: beside the keys, the one that each belongs to, if that is not the caller's.
            written: makes the arguments of the script.
        """
        batch, places = JobBatch(whole), dict[Group, int | Refusal]()
        groups = list(grouped(jobs) if keys is None else map(Group, jobs))
        for number, group in enumerate(groups):
            place = places.get(group)
            if place is None:
                key = None if keys is None else keys[number]
                trace = "" if traces is None else traces[number]
                place = places[group] = self._gather(batch, group.job, key, trace, written)
            batch.places.append(place)
        return batch

    def accept_all(self, batch: JobBatch) -> Steps[Sequence[Draft | Refusal]]:
        """Accept a batch: what each job that was given became, in order, or why it was refused."""
        reach, jobs = current_reach(), batch.jobs
        names = {name for gathered in jobs for name in gathered.names}
        served, full = yield Admit(names, {gathered.draft.queue for gathered in jobs})
        unserved = served.refusals(names, reach.sees_name)
        outcomes: list[Draft | Refusal] = [gathered.draft for gathered in jobs]
        for place, gathered in enumerate(jobs if full or unserved or not reach.sees_all else ()):
            try:
                yield from _check_approvals(gathered.job, reach)
                for refusal in map(unserved.get, gathered.names):
                    if refusal:
                        raise refusal
                if gathered.draft.queue in full:
                    raise full[gathered.draft.queue]
            except (ContractError, NotPermitted, QueueFull) as error:
                if batch.whole:
                    raise
                outcomes[place] = error
        yield from self._accept_among(outcomes, batch.written)
        return [
            place if isinstance(place, Exception) else outcomes[place] for place in batch.places
        ]

    def _accept_among(
        self, outcomes: list[Draft | Refusal], written: Sequence[WrittenJob]
    ) -> Steps[None]:
        """Accept the drafts among these, of which some then have refusals in their places."""
        drafts = {
            place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, Draft)
        }
        if not drafts:
            return
        jobs = [written[place] for place in drafts] if written else None
        answers: Sequence[Enqueued] = yield Accept([*drafts.values()], jobs)
        existing: dict[int, Draft] = {}
        for (place, draft), answer in zip(drafts.items(), answers, strict=True):
            if answer.conflict:
                outcomes[place] = IdempotencyConflict(draft.id)
            elif not answer.created:
                existing[place] = draft
        reach = current_reach()
        if existing and not reach.sees_all:
            records = yield [record.read(draft.id) for draft in existing.values()]
            for (place, draft), answer in zip(existing.items(), records, strict=True):
                if not reach.permits_sender(record.fields(answer).get(b"sender", b"").decode()):
                    outcomes[place] = IdempotencyConflict(draft.id)

    def _gather(
        self,
        batch: JobBatch,
        job: Contract,
        key: str | None,
        trace: str,
        written: Callable[[Draft], WrittenJob] | None,
    ) -> int | Refusal:
        """Put a job into a batch; its place, or why it is refused."""
        reach = current_reach()
        try:
            self._check_permitted(job, reach)
            self._settings.check_target(job)
            draft = self._draft(job, key, reach, trace)
            if written is not None:
                batch.written.append(written(draft))
        except (ContractError, NotPermitted) as error:
            if batch.whole:
                raise
            return error
        batch.jobs.append(_Gathered(job, names_of(job), draft))
        return len(batch.jobs) - 1

    def _draft(self, job: Contract, key: str | None, reach: Reach, trace: str = "") -> Draft:
        """The draft of a job; `key` is for one without an identity of its own."""
        if key and job.identity:
            key = None
        sender = "" if job.sender else reach.default_sender or self._settings.sender
        return record.draft(job, key=key, sender=sender, trace=trace)

    def _check_permitted(self, job: Contract, reach: Reach) -> None:
        if refusal := reach.job_refusal(job, reach.default_sender or self._settings.sender):
            raise NotPermitted(*refusal)


def _in_lane_of(reach: Reach, job: Contract) -> Contract:
    lane = next(filter(reach.permits_lane, LANES[LANES.index(job.lane) :]), job.lane)
    return job if lane == job.lane else job.model_copy(update={"lane": lane})


def read_accepted(draft: Draft, enqueued: Enqueued) -> Steps[JobStatus]:
    """How an accepted job stands, which is not new if its key was used before.

    Raises:
        JobNotFound, UnreadableRecord: as `JobStatus.from_answer`.
    """
    if enqueued.created:
        return JobStatus.of_draft(draft, created=moment_of(enqueued.at))
    return JobStatus.from_answer(draft.id, (yield record.read(draft.id)))


def _check_approvals(job: Contract, reach: Reach) -> Steps[None]:
    """Refuse a job about approvals of foreign senders."""
    for instance in reach.approvals_of(job):
        approval: ApprovalStatus | None = yield FindApproval(job.app, instance)
        if approval is None or not reach.permits_sender(approval.sender):
            problem = en("the key has a sender of its own, which did not create this approval")
            raise NotPermitted("", problem)
