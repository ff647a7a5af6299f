"""The client of a business application."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from dingrelay_producers import running
from dingrelay_producers.client import media
from dingrelay_producers.client.arguments import (
    CallFields,
    checked_flag,
    checked_id,
    checked_job,
    checked_jobs,
    checked_limit,
    checked_plan,
)
from dingrelay_producers.client.connection import ClientConnection
from dingrelay_producers.client.filters import (
    ApprovalFields,
    ApprovalFilter,
    JobFields,
    JobFilter,
    checked_filter,
)
from dingrelay_producers.client.history_documents import JobDetails, PersonHistory
from dingrelay_producers.client.in_threads import run
from dingrelay_producers.client.job_list import JobList
from dingrelay_producers.client.job_ref import JobRef
from dingrelay_producers.client.jobs import JobResolution, Jobs, Postponement
from dingrelay_producers.client.lanes import Lanes, Pause, Pausing
from dingrelay_producers.client.media import LocalFile, Medium
from dingrelay_producers.client.sending import Refusal, Sending
from dingrelay_producers.client.verbs import Steps
from dingrelay_producers.errors import (
    IdempotencyConflict,
    JobConflict,
    JobNotFound,
    LaneConflict,
    UnreadableRecord,
)
from dingrelay_producers.installed import service
from dingrelay_producers.publisher import BATCH
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.served_names import app_name
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract, Lane, batched
from dingrelay_tasks.media_files import MediaType
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.approvals import ApprovalRef, ApprovalStatus
    from dingrelay_producers.client.campaign_documents import MessageTemplate, Plan
    from dingrelay_producers.client.campaigns import CampaignPlan, CampaignRef
    from dingrelay_producers.client.dead_codes import DeadCodes
    from dingrelay_producers.client.personal_data import Erasure
    from dingrelay_tasks.media_upload import MediaUpload

_R = TypeVar("_R")


class Client:
    """Enqueues jobs and reads their status and results.

    Safe to share between threads, and to use after a fork: connections are opened on first use,
    in the process that uses them.

    Args:
        settings: where Redis and the broker are. If not given, those of the environment; where they
            name no Redis, the sandbox that ``dingrelay up --sandbox`` runs in this folder.

    Raises:
        SettingsError: a setting is missing or wrong.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or running.settings()
        self._connection = ClientConnection(self.settings)
        self._jobs = Jobs(self.settings)
        self._sending = Sending(self.settings)

    def send(self, job: Contract) -> JobRef:
        """Enqueue a job; it is accepted once this returns.

        Raises:
            ContractError: the job is larger than 1 MB as JSON, or no worker serves its app, robot or group.
            IdempotencyConflict: the key was used with another payload.
            ServiceUnavailable: Redis cannot be reached.
        """
        draft, _ = self._connection.carry_out(self._sending.accept(checked_job(job)))
        return self.job(draft.id)

    def check(self, job: Contract) -> None:
        """Check a job as `send` does before it enqueues it.

        Raises:
            ContractError: no worker serves its app, robot or group, or the target can't have such a message.
            ServiceUnavailable: as `send`.
        """
        self._carry_out(self._sending.check(checked_job(job)))

    def send_many(
        self, jobs: Iterable[Contract], *, on_sent: Callable[[JobRef], object] | None = None
    ) -> int:
        """Enqueue any number of jobs, in batches and in constant memory.

        Messages that are the same but for their users become one job with up to 100 users, where
        they come close together (within `BATCH` jobs) and have no key and no time of their own:
        one call carries that job. So several references can be of the same job.

        Args:
            jobs: may be a generator of any length.
            on_sent: called with a reference for each job given, in order, once it is accepted. So it is with those
                of the same batch that come behind one that is refused.

        Returns:
            How many of the jobs given were accepted, those that were known already included.

        Raises:
            ContractError: as `send`; whole batches before it are accepted.
            IdempotencyConflict: as `send`; its `place` names the job. The jobs before it are accepted, and those of
                its batch that come behind it, but for any whose key is taken as well.
            ServiceUnavailable: as `send`; whole batches before it are accepted.
        """
        accepted, place = 0, count()
        for some in batched(checked_jobs(jobs), BATCH):
            batch = self._sending.gather(some, whole=True)
            refusals: list[Refusal] = []
            for outcome in self._carry_out(self._sending.accept_all(batch)):
                number = next(place)
                if isinstance(outcome, Draft):
                    accepted += 1
                    if on_sent:
                        on_sent(self.job(outcome.id))
                    continue
                if isinstance(outcome, IdempotencyConflict):
                    outcome.place = number
                refusals.append(outcome)
            if refusals:
                raise refusals[0]
        return accepted

    def call(self, method: str, path: str, **fields: Unpack[CallFields]) -> JobRef:
        """Enqueue one call of any API of DingTalk's; see `ApiCall`.

        Once the job is done, ``ref.wait().result["answer"]`` is DingTalk's answer.

        Args:
            method: of HTTP, such as ``POST``.
            path: on one of DingTalk's hosts, such as ``/topapi/v2/user/getbymobile``.
            **fields: the other fields of `ApiCall`, such as
                ``body={"mobile": "13800000000"}, effect="none"``.

        Raises:
            ContractError: a field is wrong, the path for instance.
            IdempotencyConflict: as `send`.
            ServiceUnavailable: as `send`.
        """
        from dingrelay_tasks.api_call import ApiCall

        return self.send(ApiCall.parse({**fields, "method": method, "path": path}))

    def upload(
        self,
        file: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        media_type: MediaType | None = None,
        app: str = DEFAULT_APP,
        lane: Lane = "normal",
        timeout: float = 60,
        again: bool = False,
    ) -> Medium:
        """Upload a file for messages, and wait for that; a file that the app has is not uploaded again.

        The same is a file of the same type, name and content, for 30 days.

        Args:
            file: its path, or its content.
            name: how people see it; needed with a content, else that of the path.
            media_type: by the name's ending if not given.
            app: whose messages may show it.
            lane: of the job that uploads it.
            timeout: seconds to wait.
            again: upload it whatever is known of it.

        Raises:
            InvalidArgument: the file can't be read, or DingTalk has no such files.
            ContractError: the app or the lane can't be.
            UploadFailed: DingTalk did not take it.
            WaitTimeout: it is not uploaded within `timeout` seconds.
            ServiceUnavailable: Redis cannot be reached.
        """
        local = media.read(file, name, media_type)
        job, form = media.job_of(local, app, lane)
        checked_flag(again, "again")
        return self._upload(local, job, form, timeout=timeout, again=again)

    def _upload(
        self, local: LocalFile, job: "MediaUpload", form: bytes, *, timeout: float, again: bool
    ) -> Medium:
        ask = self._connection.redis_call
        entry = keys.media(job.app, local.digest)
        if not again:
            cached_id = ask(lambda redis: redis.get(entry))
            if cached_id is not None:
                return Medium(cached_id.decode(), local.type, known=True)
        waiting = keys.upload(job.upload)
        ask(lambda redis: redis.set(waiting, form, px=keys.UPLOAD_TTL_MS))
        status = self.send(job).wait(timeout)
        ask(lambda redis: redis.delete(waiting))
        media_id = media.uploaded(status)
        ask(lambda redis: redis.set(entry, media_id, px=keys.MEDIA_TTL_MS))
        return Medium(media_id, local.type, known=False)

    def job(self, job_id: str) -> JobRef:
        """The reference of a job by its id; it need not exist."""
        return JobRef(self, job_id)

    def campaign(self, **plan: "Unpack[Plan]") -> "CampaignPlan":
        """A campaign that is not stored yet: `preview` it, `create` it.

        Args:
            **plan: the fields of `campaign_documents.Plan`, such as
                ``name="Spring party", message={...}, recipients="guests.csv"``.

        Raises:
            InvalidArgument: it has no such field, one is missing, or one is of a wrong type.
            NotInstalled: the packages that campaigns need are missing.
        """
        from dingrelay_producers.client.campaigns import CampaignPlan

        checked = checked_plan(plan)
        app = checked.get("app", DEFAULT_APP)
        names = [("app", app_name(app))]
        self._connection.served(names).check(names)
        campaigns = service("CampaignService", self.settings)
        return CampaignPlan(campaigns, checked)

    def campaign_ref(self, campaign_id: str) -> "CampaignRef":
        """The reference of a campaign by its id; it need not exist.

        Args:
            campaign_id: the campaign's.

        Raises:
            NotInstalled: as `campaign`.
        """
        from dingrelay_producers.client.campaigns import CampaignRef

        checked_id(campaign_id, "campaign_id", en("a campaign"))
        campaigns = service("CampaignService", self.settings)
        return CampaignRef(campaigns, campaign_id)

    def templates(self) -> "Sequence[MessageTemplate]":
        """The templates of messages, by name.

        Raises:
            NotInstalled: as `campaign`.
        """
        templates: Sequence[MessageTemplate] = run(self._templates.list())
        return templates

    def template(self, template_id: str) -> "MessageTemplate":
        """A template of a message.

        Args:
            template_id: the template's.

        Raises:
            TemplateNotFound: there is none.
        """
        checked_id(template_id, "template_id", en("a template"))
        template: MessageTemplate = run(self._templates.get(template_id))
        return template

    def keep_template(
        self,
        name: str,
        message: Mapping[str, Any],
        *,
        app: str = DEFAULT_APP,
        sender: str = "",
        replaces: str = "",
    ) -> "MessageTemplate":
        """Keep a message under a name, from which campaigns are begun.

        Args:
            name: for people, one of its app and sender.
            message: DingTalk's own ``msg`` object, complete or not; its texts may hold ``{name}`` fields.
            app: by which app it is to be sent.
            sender: as for a job.
            replaces: the `revision` of the template of this name that was read, which is replaced.

        Raises:
            ContractError: names the argument that is wrong.
            TemplateConflict: the name has a template of another revision.
        """
        from dingrelay_producers.client.campaign_documents import TemplateRequest

        request = TemplateRequest.parse(
            {"name": name, "message": message, "app": app, "sender": sender, "replaces": replaces}
        )
        template: MessageTemplate = run(self._templates.keep(request))
        return template

    def delete_template(self, template_id: str) -> None:
        """Delete a template; campaigns that were begun from it stay.

        Args:
            template_id: the template's.

        Raises:
            TemplateNotFound: there is none.
        """
        checked_id(template_id, "template_id", en("a template"))
        run(self._templates.delete(template_id))

    @property
    def _templates(self) -> Any:
        return service("MessageTemplates", self.settings)

    def approval(self, instance: str, *, app: str = DEFAULT_APP) -> "ApprovalRef":
        """The reference of an approval by DingTalk's id of it; it need not exist."""
        from dingrelay_producers.client.approvals import ApprovalRef

        return ApprovalRef(self, instance, app, self._carry_out)

    def approvals(
        self, *, limit: int = 50, **filters: Unpack[ApprovalFields]
    ) -> "Sequence[ApprovalStatus]":
        """The stored states of approvals, the newest first.

        Args:
            limit: how many at most.
            **filters: `app`, `state`, `template`, `originator` or `waits_for` (a user who has to
                decide); an approval must match all of them.

        Raises:
            NotInstalled: the packages that the table needs are missing.
            ServiceUnavailable: the database can't be used.
        """
        approval_filter, most = checked_filter(ApprovalFilter, filters), checked_limit(limit)
        approvals = service("ApprovalService", self.settings)
        statuses: Sequence[ApprovalStatus] = run(approvals.list(approval_filter, limit=most))
        return statuses

    def status(self, job_id: str) -> JobStatus:
        """The status in the record.

        Args:
            job_id: the job's.

        Raises:
            JobNotFound: there is no such record.
            UnreadableRecord: a field of it is not what this release writes.
        """
        return self._carry_out(self._jobs.status(checked_id(job_id)))

    def details(self, job_id: str) -> JobDetails:
        """A job with its key and what became of it for each person, from its record or the history.

        Args:
            job_id: the job's.

        Raises:
            JobNotFound: neither has it.
            ServiceUnavailable: Redis or the database can't be used.
            UnreadableRecord: a field of its record is not what this release writes.
        """
        return self._carry_out(self._jobs.details(checked_id(job_id)))

    def recall(self, job_id: str) -> JobRef:
        """Take back a message of the last 24 hours, by a job that is the same on repeated calls.

        A call that carried other messages like it, to other people, is left as it is.

        Args:
            job_id: the message's.

        Raises:
            ContractError: the job has made no call that could be taken back.
            JobNotFound: as `details`.
            ServiceUnavailable: as `details`.
        """
        recall = self._carry_out(self._jobs.recall(checked_id(job_id)))
        return self.job(recall.id)

    def whole_id(self, beginning: str) -> str:
        """The id of the one job that begins so; what was given, if there is none.

        Args:
            beginning: four characters or more, with or without ``…`` behind them.

        Raises:
            InvalidArgument: several jobs' ids begin so; some are named.
            ServiceUnavailable: Redis can't be used.
        """
        return self._connection.whole_id(checked_id(beginning))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that does not run.

        Args:
            job_id: the job's.

        Returns:
            Whether it is cancelled now. A job that runs is carried out, but not tried again; one
            whose call may have been carried out is unknown.

        Raises:
            JobNotFound: there is no such record.
        """
        with suppress(JobConflict):
            job = self._carry_out(self._jobs.cancel(checked_id(job_id)))
            return job.state == State.CANCELLED
        return False

    def postpone(self, job_id: str, until: datetime) -> bool:
        """Have a job that waits, for whatever, not run before a moment; whether it waited.

        Args:
            job_id: the job's.
            until: with its zone.

        Raises:
            ContractError: the moment has no zone or is over, or the job expires before it.
            JobNotFound: there is no such record.
        """
        request = Postponement(until=until)
        return self._changed(self._jobs.postpone(checked_id(job_id), request))

    def requeue(self, job_id: str) -> bool:
        """Give a dead, unknown, cancelled or expired job another life; whether it was one.

        It remembers what it has done. A `send_at` that is ahead is kept, and so is an `expires_at`;
        one that is over is forgotten. A message with ``on_unknown="stop"`` repeats the call whose
        answer was lost: requeueing it says so.

        Args:
            job_id: the job's.

        Raises:
            JobNotFound: there is no such record.
        """
        return self._changed(self._jobs.requeue(checked_id(job_id)))

    def discard(self, job_id: str) -> bool:
        """Forget a dead or unknown job for good; whether it was there."""
        with suppress(JobNotFound):
            return self._changed(self._jobs.discard(checked_id(job_id)))
        return False

    def pause_lane(self, lane: str, *, until: datetime | None = None, reason: str = "") -> Pause:
        """Have no job of a lane, or of a sender in it, begin; the pause.

        Jobs are accepted as before and wait. What a worker has begun is finished, and messages can be taken back.

        Args:
            lane: such as ``hr:bulk`` (app and lane), ``hr:bulk:payroll`` for the jobs of one sender, ``hr:all`` for
                all lanes.
            until: when they go on by themselves, in a week at most; a day from now if not given.
            reason: shown with the pause, and kept in the audit. Paused again without one, a lane keeps it.

        Raises:
            ContractError: there is no such lane, or the end is in the past or too far.
        """
        request = Pausing.parse({"until": until, "reason": reason})
        return self._carry_out(Lanes().pause(lane, request))

    def resume_lane(self, lane: str) -> bool:
        """Let the jobs of a lane go on, or those of a sender in it; whether it was paused."""
        return self._changed(Lanes().resume(lane))

    def paused_lanes(self) -> list[Pause]:
        """The lanes, and senders in them, that are paused, the latest first."""
        return self._carry_out(Lanes().paused())

    def requeue_all(self, job_ids: Iterable[str]) -> list[str]:
        """Requeue jobs, some hundreds in a step; the ids of those that were dead, unknown, cancelled or expired.

        Args:
            job_ids: the jobs'. Those that do not exist are left out.
        """
        ids = [checked_id(job_id) for job_id in job_ids]
        return self._carry_out(self._jobs.change_all("requeue", ids))

    def discard_all(self, job_ids: Iterable[str]) -> list[str]:
        """Forget jobs for good, as `requeue_all`; the ids of those that were dead or unknown."""
        ids = [checked_id(job_id) for job_id in job_ids]
        return self._carry_out(self._jobs.change_all("discard", ids))

    def resolve(
        self,
        job_id: str,
        *,
        instance: str | None = None,
        not_created: bool = False,
        sent: bool | None = None,
        by: str = "",
    ) -> bool:
        """Say what became of an unknown job; whether it was unknown.

        Args:
            job_id: an approval-create, a message-send or an api-call whose answer was lost.
            instance: the approval that it created. The job is done, and no other one's is this.
            not_created: it created none. The job is requeued and creates it, without a look-up.
            sent: whether the message was sent, or the call carried out. If so the job is done, or goes on with
                the calls that are left; if not it is requeued.
            by: the person who resolves it; it is kept in the record.

        Raises:
            JobNotFound: there is no such record.
            CannotResolve: not one of the three is given, or it is none for the job's kind, or the
                instance is another job's.
        """
        checked_flag(not_created, "not_created")
        if sent is not None:
            checked_flag(sent, "sent")
        if instance is not None:
            checked_id(instance, "instance", en("an approval instance"))
        if by != "":
            checked_id(by, "by", en("a person"))
        checked_id(job_id)
        outcome = JobResolution.model_construct(
            instance=instance, not_created=not_created, sent=sent
        )
        return self._changed(self._jobs.resolve(job_id, outcome, by))

    def _changed(self, steps: Steps[object]) -> bool:
        """Carry a change out; whether the job was in a state for it."""
        try:
            self._carry_out(steps)
        except (JobConflict, LaneConflict):
            return False
        return True

    def _carry_out(self, steps: Steps[_R]) -> _R:
        return self._connection.carry_out(steps)

    def recent(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs, newest first."""
        return self._newest(keys.RECENT, limit)

    def jobs(
        self,
        *,
        limit: int = 50,
        history: bool = True,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
        **filters: Unpack[JobFields],
    ) -> list[JobStatus]:
        """Jobs, the latest accepted first, of `[history] days` where the history is kept.

        What only the history knows of a job has DingTalk's ids as its result, and of its error the
        class and the code.

        Args:
            limit: how many at most.
            history: False asks Redis only, which has the newest 10,000 jobs.
            on_unreadable: called for each record of another release, which is left out.
            **filters: `state`, `kind`, `app`, `sender`, `lane`, `code` (of its error), `to` (a userid that the
                job named), `since` and `until` (when it was accepted), `text` (in what it asks for; in the history
                where `[history] content` is on); only those that fit all of them.

        Raises:
            ServiceUnavailable: Redis or the database can't be used.
        """
        job_filter, most = checked_filter(JobFilter, filters), checked_limit(limit)
        reads = self._connection.history if history else None
        job_list = JobList(
            self._connection.redis_call, reads, on_unreadable=on_unreadable or _left_out
        )
        return run(job_list.find(job_filter, most))

    def person(self, user: str, *, app: str | None = None, limit: int = 50) -> PersonHistory:
        """Messages to a person, single ones and of campaigns, and the person's entries in the directories.

        Args:
            user: their userid.
            app: of this app only; None for any.
            limit: how many messages at most, the latest first.

        Raises:
            ContractError: `user` or `app` can't be one.
            NotInstalled: the packages that the history needs are missing.
            ServiceUnavailable: the database can't be used.
        """
        from dingrelay_producers.client.personal_data import PersonRequest

        request = PersonRequest(user=user, app=app)
        most = checked_limit(limit)
        history = service("HistoryService", self.settings)
        history_of_person: PersonHistory
        history_of_person, _ = run(history.person(request.user, app=app, limit=most))
        return history_of_person

    def export_person(self, user: str, *, app: str | None = None) -> dict[str, Any]:
        """Everything that is kept of a person, by place: directory, history, campaigns and so on.

        It may name others, too: those that a message went to as well, for instance.

        Args:
            user: their userid.
            app: of this app only; None for all. One userid is one person within an organisation.

        Raises:
            ContractError: `user` or `app` can't be one.
            NotInstalled: the packages that this needs are missing.
            ServiceUnavailable: Redis or the database can't be used.
        """
        from dingrelay_producers.client.personal_data import PersonRequest

        request = PersonRequest(user=user, app=app)
        document: dict[str, Any] = run(
            service("PersonalDataService", self.settings).export(request)
        )
        return document

    def erase_person(self, user: str, *, app: str | None = None) -> "Erasure":
        """Take a person out of everything that is kept, now or as soon as it is needed no more.

        What is under way is carried out first; cancel it before, if it should not be. Jobs that are
        enqueued later, and later data of the person from DingTalk, are kept as ever.

        Args:
            user: their userid.
            app: as `export_person`.

        Returns:
            What was erased, what has to wait, and the job that erases it later (`Erasure`).

        Raises:
            ContractError: as `export_person`.
            NotInstalled: as `export_person`.
            ServiceUnavailable: as `export_person`; a part may be erased. Ask once more.
        """
        from dingrelay_producers.client.personal_data import PersonRequest

        request = PersonRequest(user=user, app=app)
        erasure: Erasure = run(service("PersonalDataService", self.settings).erase(request))
        return erasure

    def dead(
        self,
        limit: int = 50,
        *,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
    ) -> list[JobStatus]:
        """The jobs that ended dead or unknown, latest first.

        Args:
            limit: how many at most.
            on_unreadable: called for each record of another release, which is left out.

        Raises:
            UnreadableRecord: one is of another release, and `on_unreadable` is not given.
            ServiceUnavailable: Redis can't be used.
        """
        return self._newest(keys.DEAD, limit, on_unreadable)

    def dead_codes(self, **filters: Unpack[JobFields]) -> "DeadCodes":
        """The latest 1,000 dead and unknown jobs, counted by the code of their error.

        Args:
            **filters: as for `jobs`.

        Raises:
            ServiceUnavailable: Redis can't be used.
        """
        job_filter = checked_filter(JobFilter, filters)
        job_list = JobList(self._connection.redis_call, index=keys.DEAD, on_unreadable=_left_out)
        return run(job_list.codes(job_filter))

    def close(self) -> None:
        """Close the connections; the client opens new ones if it is used again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _newest(
        self,
        index: str,
        limit: int,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
    ) -> list[JobStatus]:
        """The last jobs of an index, latest first.

        Raises:
            UnreadableRecord: one is of another release, and `on_unreadable` is not given.
        """
        unreadable = list[UnreadableRecord]()
        job_list = JobList(
            self._connection.redis_call,
            index=index,
            on_unreadable=on_unreadable or unreadable.append,
        )
        jobs = run(job_list.find(JobFilter(), checked_limit(limit)))
        if unreadable:
            raise unreadable[0]
        return jobs


def _left_out(_: UnreadableRecord) -> None:
    """A list goes on without a record that can't be read."""
