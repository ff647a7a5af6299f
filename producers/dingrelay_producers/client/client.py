"""The client of a business application."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self, Unpack, cast

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from dingrelay_producers import running
from dingrelay_producers.client import job_details, media, personal_data
from dingrelay_producers.client.approval_backend import (
    ApprovalFields,
    ApprovalStatus,
    checked_filter,
    reader,
)
from dingrelay_producers.client.approvals import ApprovalRef
from dingrelay_producers.client.arguments import (
    CallFields,
    checked_flag,
    checked_id,
    checked_job,
    checked_jobs,
    checked_limit,
    checked_plan,
    checked_timeout,
)
from dingrelay_producers.client.campaign_backend import PlanFields, backend
from dingrelay_producers.client.campaigns import CampaignPlan, CampaignRef
from dingrelay_producers.client.coroutines import run
from dingrelay_producers.client.groups import grouped
from dingrelay_producers.client.history_backend import (
    HistoryReader,
    JobDetails,
    JobFields,
    PersonHistory,
    checked_job_filter,
)
from dingrelay_producers.client.history_backend import reader as history_reader
from dingrelay_producers.client.job_details import recall_of
from dingrelay_producers.client.job_list import JobList, history_of
from dingrelay_producers.client.media import Medium
from dingrelay_producers.client.personal_data import Asked, Erasure
from dingrelay_producers.errors import (
    CannotResolve,
    IdempotencyConflict,
    JobNotFound,
    ServiceUnavailable,
    UnreadableRecord,
    WaitTimeout,
)
from dingrelay_producers.publisher import BATCH, Publisher
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.connections import open_sync
from dingrelay_producers.store.record import Draft, Enqueued
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus, state_of
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import Contract, Lane
from dingrelay_tasks.media_upload import MediaType

POLL_SECONDS = (0.02, 0.5)
"""First and longest pause between two looks of `wait`."""


class Client:
    """Enqueues jobs and tells what became of them.

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
        self._pid = 0
        self._connections: tuple[Redis, Publisher] | None = None

    def send(self, job: Contract) -> "JobRef":
        """Enqueue a job; it is accepted once this returns.

        Raises:
            ContractError: the job is larger than 1 MB as JSON.
            IdempotencyConflict: the key was used with another payload.
            ServiceUnavailable: Redis cannot be reached.
        """
        draft = self._draft(job)
        if self._accept([draft])[0].conflict:
            raise IdempotencyConflict(draft.id)
        return self.job(draft.id)

    def send_many(
        self, jobs: Iterable[Contract], *, on_sent: Callable[["JobRef"], object] | None = None
    ) -> int:
        """Enqueue any number of jobs, in batches and in constant memory.

        Messages that are the same but for their users become one job with up to 100 users, where
        they come close together (within `BATCH` jobs) and have no key and no time of their own:
        one call carries that job. So several references can be of the same job.

        Args:
            jobs: may be a generator of any length.
            on_sent: called with a reference for each job given, in order, once it is accepted.

        Returns:
            How many of the jobs given were accepted, those that were known already included.

        Raises:
            ContractError: as `send`; whole batches before it are accepted.
            IdempotencyConflict: as `send`; the jobs before it are accepted.
            ServiceUnavailable: as `send`; whole batches before it are accepted.
        """
        accepted = 0
        for batch in _batches(checked_jobs(jobs), BATCH):
            groups = list(grouped(batch))
            drafts = {group: self._draft(group.job) for group in dict.fromkeys(groups)}
            answers = dict(zip(drafts, self._enqueue(drafts.values()), strict=True))
            conflict: str | None = None
            for group in groups:
                if answers[group].conflict:
                    conflict = conflict or drafts[group].id
                    continue
                accepted += 1
                if on_sent and not conflict:
                    on_sent(self.job(drafts[group].id))
            self._wake(answers.values())
            if conflict:
                raise IdempotencyConflict(conflict)
        return accepted

    def call(self, method: str, path: str, **fields: Unpack[CallFields]) -> "JobRef":
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
            media_type: told by the name's ending if not given.
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
        entry = keys.media(job.app, local.digest)
        if not checked_flag(again, "again"):
            known = self._redis_call(lambda redis: redis.get(entry))
            if known is not None:
                return Medium(known.decode(), local.type, known=True)
        waiting = keys.upload(job.upload)
        self._redis_call(lambda redis: redis.set(waiting, form, px=keys.UPLOAD_TTL_MS))
        status = self.send(job).wait(timeout)
        self._redis_call(lambda redis: redis.delete(waiting))
        media_id = media.uploaded(status)
        self._redis_call(lambda redis: redis.set(entry, media_id, px=keys.MEDIA_TTL_MS))
        return Medium(media_id, local.type, known=False)

    def job(self, job_id: str) -> "JobRef":
        """The reference of a job by its id; it need not exist."""
        return JobRef(self, job_id)

    def campaign(self, **plan: Unpack[PlanFields]) -> CampaignPlan:
        """A campaign that is not stored yet: `preview` it, `create` it.

        Args:
            **plan: the fields of `campaign_backend.Plan`, such as
                ``name="Spring party", message={...}, recipients="guests.csv"``.

        Raises:
            InvalidArgument: it has no such field, one is missing, or one is of a wrong type.
            NotInstalled: the packages that campaigns need are missing.
        """
        return CampaignPlan(backend(self.settings), checked_plan(plan), self.send_many)

    def campaign_ref(self, campaign_id: str) -> CampaignRef:
        """The reference of a campaign by its id; it need not exist.

        Raises:
            NotInstalled: as `campaign`.
        """
        checked_id(campaign_id, "campaign_id", "a campaign")
        return CampaignRef(backend(self.settings), campaign_id, self.send_many)

    def approval(self, instance: str, *, app: str = DEFAULT_APP) -> ApprovalRef:
        """The reference of an approval by DingTalk's id of it; it need not exist."""
        return ApprovalRef(self, instance, app)

    def approvals(
        self, *, limit: int = 50, **chosen: Unpack[ApprovalFields]
    ) -> list[ApprovalStatus]:
        """The stored states of approvals, the newest first.

        Args:
            limit: how many at most.
            **chosen: `app`, `state`, `template`, `originator` or `waits_for` (a user who has to
                decide); an approval must match all of them.

        Raises:
            NotInstalled: the packages that the table needs are missing.
            ServiceUnavailable: the database can't be used.
        """
        page = reader(self.settings).list(checked_filter(chosen), limit=checked_limit(limit))
        return list(run(page).approvals)

    def status(self, job_id: str) -> JobStatus:
        """What the record tells.

        Raises:
            JobNotFound: there is no such record.
            UnreadableRecord: a field of it is not what this release writes.
        """
        found = self._redis_call(lambda redis: redis.hgetall(keys.job(checked_id(job_id))))
        if b"state" not in found:
            raise JobNotFound(job_id)
        return JobStatus.from_record(job_id, found)

    def details(self, job_id: str) -> JobDetails:
        """A job with its key and what became of it for each person, from its record or the history.

        Raises:
            JobNotFound: neither has it.
            ServiceUnavailable: Redis or the database can't be used.
            UnreadableRecord: a field of its record is not what this release writes.
        """
        return job_details.details(self._redis_call, self._history(), checked_id(job_id))

    def recall(self, job_id: str) -> "JobRef":
        """Take back a message of the last 24 hours, by a job that is the same if it is asked for again.

        A call that carried other messages like it, to other people, is left as it is.

        Raises:
            ContractError: the job has made no call that could be taken back.
            JobNotFound: as `details`.
            ServiceUnavailable: as `details`.
        """
        return self.send(recall_of(self.details(job_id)))

    def whole_id(self, beginning: str) -> str:
        """The id of the one job that begins so; what was given, if there is none.

        Args:
            beginning: four characters or more, with or without ``…`` behind them.

        Raises:
            InvalidArgument: several jobs' ids begin so; some are named.
            ServiceUnavailable: Redis can't be used.
        """
        return job_details.whole_id(self._redis_call, self._history(), checked_id(beginning))

    def _history(self) -> HistoryReader | None:
        return history_of(lambda: history_reader(self.settings))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that does not run.

        Returns:
            Whether it is cancelled now. A job that runs is carried out, but not tried again; one
            whose call may have been carried out is unknown.

        Raises:
            JobNotFound: there is no such record.
        """
        call = record.cancel(
            checked_id(job_id),
            record_ttl_ms=int(self.settings.record_ttl * 1000),
            dead_ttl_ms=int(self.settings.dead_ttl * 1000),
        )
        return self._state_after(job_id, call) == State.CANCELLED

    def requeue(self, job_id: str) -> bool:
        """Give a dead, unknown, cancelled or expired job another life; whether it was one.

        It remembers what it has done. A `send_at` that is ahead is kept, and so is an `expires_at`;
        one that is over is forgotten. A message with ``on_unknown="stop"`` repeats the call whose
        answer was lost: requeueing it says so.

        Raises:
            JobNotFound: there is no such record.
        """
        before = self._state_after(job_id, record.requeue(checked_id(job_id)))
        return before in {State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}

    def discard(self, job_id: str) -> bool:
        """Forget a dead or unknown job for good; whether it was there."""
        return bool(self._run(record.discard(checked_id(job_id))))

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
            sent: whether the message was sent, or the call carried out. If so the job is done, if
                not it is requeued.
            by: who says so; it is kept in the record.

        Raises:
            JobNotFound: there is no such record.
            CannotResolve: not one of the three is given, or it is none for the job's kind, or the
                instance is another job's.
        """
        checked_flag(not_created, "not_created")
        if sent is not None:
            checked_flag(sent, "sent")
        if instance is not None:
            checked_id(instance, "instance", "an approval instance")
        job = self.status(job_id)
        said = Resolution.of(
            job_id, job.kind, instance=instance, not_created=not_created, sent=sent
        )
        answer = self._run(said.call(self.settings, by=by))
        if answer is None:
            raise JobNotFound(job_id)
        state, *holder = (text.decode() for text in answer)
        if holder:
            raise CannotResolve(job_id, f"can't have {instance}: it is the one of job {holder[0]}")
        if state_of(job_id, state.encode()) != State.UNKNOWN:
            return False
        if not said.happened:
            # Should this never come, the job is still unknown, with nothing open.
            self.requeue(job_id)
        if follower := said.follower(job, self.settings):
            # Should this never come, the next event of the approval has it followed.
            self._accept([follower])
        return True

    def recent(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs, newest first."""
        return self._statuses(keys.RECENT, limit)

    def jobs(
        self,
        *,
        limit: int = 50,
        history: bool = True,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
        **chosen: Unpack[JobFields],
    ) -> list[JobStatus]:
        """Jobs, the latest accepted first, of `[history] days` where the history is kept.

        What only the history knows of a job has DingTalk's ids as its result, and of its error the
        class and the code.

        Args:
            limit: how many at most.
            history: False asks Redis only, which has the newest 10,000 jobs.
            on_unreadable: called for each record of another release, which is left out.
            **chosen: `state`, `kind`, `app`, `sender`, `lane`, `to` (a userid that the job named),
                `since` and `until` (when it was accepted), `text` (in what it asks for; in the history
                where `[history] content` is on); only those that fit all of them.

        Raises:
            ServiceUnavailable: Redis or the database can't be used.
        """
        reads = self._history() if history else None
        jobs = JobList(self._redis_call, reads, on_unreadable)
        return jobs.find(checked_job_filter(chosen), checked_limit(limit))

    def person(self, user: str, *, app: str | None = None, limit: int = 50) -> PersonHistory:
        """What a person was sent, by messages and by campaigns, and how the directories know them.

        Args:
            user: their userid.
            app: of this app only; None for any.
            limit: how many messages at most, the latest first.

        Raises:
            NotInstalled: the packages that the history needs are missing.
            ServiceUnavailable: the database can't be used.
        """
        asked = history_reader(self.settings).person(
            checked_id(user, "user", "a person"), app=app, limit=checked_limit(limit)
        )
        return run(asked)

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
        asked = Asked(user=user, app=app)
        return run(personal_data.backend(self.settings).export(asked.user, app=asked.app))

    def erase_person(self, user: str, *, app: str | None = None) -> Erasure:
        """Take a person out of everything that is kept, now or as soon as it is needed no more.

        What is under way is carried out first; cancel it before, if it should not be. Jobs that are
        enqueued later, and whatever DingTalk tells of the person later, are kept as ever.

        Args:
            user: their userid.
            app: as `export_person`.

        Returns:
            What was erased, what has to wait, and the job that sees to it (`Erasure`).

        Raises:
            ContractError: as `export_person`.
            NotInstalled: as `export_person`.
            ServiceUnavailable: as `export_person`; a part may be erased. Ask once more.
        """
        asked = Asked(user=user, app=app)
        erasure = run(personal_data.backend(self.settings).erase(asked.user, app=asked.app))
        job = erasure.follow_up
        return erasure if job is None else erasure.followed_by(self.send(job).id)

    def dead(self, limit: int = 50) -> list[JobStatus]:
        """The jobs that ended dead or unknown, latest first."""
        return self._statuses(keys.DEAD, limit)

    def close(self) -> None:
        """Close the connections; the client opens new ones if it is used again."""
        if self._connections and self._pid == os.getpid():
            redis, publisher = self._connections
            redis.close()
            publisher.close()
        self._connections = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _draft(self, job: Contract) -> Draft:
        return record.draft(checked_job(job), sender=self.settings.sender)

    def _accept(self, drafts: Collection[Draft]) -> list[Enqueued]:
        answers = self._enqueue(drafts)
        self._wake(answers)
        return answers

    def _enqueue(self, drafts: Collection[Draft]) -> list[Enqueued]:
        calls = list(map(record.enqueue, drafts))
        raw = [self._run(calls[0])] if len(calls) == 1 else self._run_many(calls)
        return list(map(record.enqueued, drafts, raw))

    def _wake(self, answers: Iterable[Enqueued]) -> None:
        if wakeups := [answer.wakeup for answer in answers if answer.wakeup]:
            self._publisher.publish(wakeups)

    def _connected(self) -> tuple[Redis, Publisher]:
        # A socket that two processes write to carries both their bytes: never share over a fork.
        if self._connections is None or self._pid != os.getpid():
            redis = open_sync(
                self.settings.redis_address,
                socket_timeout=5,
                socket_connect_timeout=5,
                health_check_interval=10,
            )
            self._connections = redis, Publisher(self.settings)
            self._pid = os.getpid()
        return self._connections

    @property
    def _publisher(self) -> Publisher:
        return self._connected()[1]

    def _redis_call(self, use: Callable[[Redis], Any]) -> Any:
        try:
            return use(self._connected()[0])
        except RedisConnectionError as error:
            raise ServiceUnavailable(
                f"DINGRELAY_REDIS_URL: Redis at {self.settings.redis_address.where} cannot be reached "
                f"({type(error).__name__})"
            ) from None
        except RedisError as error:
            # What Redis answers, such as "DB index is out of range", holds nothing of the URL.
            words = f" ({error})"[:100] if isinstance(error, ResponseError) else ""
            raise ServiceUnavailable(
                f"DINGRELAY_REDIS_URL: {type(error).__name__}{words}"
            ) from error

    def _run(self, call: Call) -> Any:
        return self._redis_call(lambda redis: scripts.run(redis, call))

    def _run_many(self, calls: Iterable[Call]) -> list[Any]:
        answers: list[Any] = self._redis_call(lambda redis: scripts.run_many(redis, list(calls)))
        return answers

    def _state_after(self, job_id: str, call: Call) -> State:
        state = self._run(call)
        if state is None:
            raise JobNotFound(job_id)
        return state_of(job_id, state)

    def _statuses(self, index: str, limit: int) -> list[JobStatus]:
        most = checked_limit(limit)

        def read(redis: Redis) -> list[JobStatus]:
            ids = cast("list[bytes]", redis.zrange(index, 0, most - 1, desc=True))
            pipe = redis.pipeline(transaction=False)
            for job_id in ids:
                pipe.hgetall(keys.job(job_id.decode()))
            records = pipe.execute() if ids else []
            return [
                JobStatus.from_record(job_id.decode(), found)
                for job_id, found in zip(ids, records, strict=True)
                if found
            ]

        statuses: list[JobStatus] = self._redis_call(read)
        return statuses


class JobRef:
    """One job, by its id."""

    __slots__ = ("_client", "id")

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self.id = checked_id(job_id)

    def status(self) -> JobStatus:
        """What the record tells; see `Client.status`."""
        return self._client.status(self.id)

    def wait(self, timeout: float = 60) -> JobStatus:
        """The status once the job has ended, however it ended.

        Raises:
            WaitTimeout: not within `timeout` seconds.
        """
        deadline = time.monotonic() + checked_timeout(timeout)
        for pause in pauses():
            status = self.status()
            if status.state.ended:
                return status
            if time.monotonic() + pause > deadline:
                raise WaitTimeout(f"job {self.id} is {status.state} after {timeout:g} s")
            time.sleep(pause)
        raise AssertionError  # pragma: no cover - the pauses never end

    def cancel(self) -> bool:
        """Cancel the job if it does not run; see `Client.cancel`."""
        return self._client.cancel(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"JobRef({self.id!r})"


def pauses() -> Iterator[float]:
    """Seconds between two looks of `wait`: short ones first, without an end."""
    pause, longest = POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, longest)


def _batches(items: Iterable[Contract], size: int) -> Iterator[list[Contract]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
