"""A client that enqueues nothing and remembers what it was given."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from dingrelay_producers.client.approvals import ApprovalRef
from dingrelay_producers.client.arguments import checked_id
from dingrelay_producers.client.async_client import AsyncClient
from dingrelay_producers.client.client import Client
from dingrelay_producers.client.connection import ClientConnection
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import recall_of
from dingrelay_producers.client.job_ref import AsyncJobRef, JobRef
from dingrelay_producers.client.media import LocalFile, Medium
from dingrelay_producers.client.verbs import Audit, FindApproval, Step
from dingrelay_producers.errors import JobNotFound, UnreadableRecord, WaitTimeout
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft, Enqueued
from dingrelay_producers.store.served_names import ServedNames
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError, JobStatus
from dingrelay_producers.store.transitions import WrittenJob
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.media_upload import MediaUpload
from dingrelay_tasks.message_result import LEFT_OUT
from dingrelay_tasks.message_send import MessageSend

_OUTCOMES = dict.fromkeys(State, "waiting") | {State.DONE: "accepted", State.DEAD: "not_sent"}
"""State → outcome of a message for recipients that its result does not name."""

Outcome = Mapping[str, Any] | JobError | None
"""How a job ends: done with this result, dead for this reason, or not yet."""

NOWHERE = "redis://127.0.0.1:1/0"
"""Settings name a Redis; nothing connects to it."""


def _not_recorded(method: str) -> Any:
    """A method that would use the database which the environment names, or one in this folder."""

    def refuse(*_: object, **__: object) -> Any:
        raise NotImplementedError(
            f"RecordingClient has no database, which {method} needs: use the fixture `dingrelay`"
        )

    return refuse


def _succeed(job: Contract) -> Outcome:
    return {}


class RecordingClient(Client):
    """A `Client` without Redis and workers, for tests of what an application enqueues.

    Jobs are checked as by `Client`: their size, their keys, and messages that `send_many` joins.
    What is done with an approval is recorded, and so is a recall of a message whose outcome has calls. Campaigns, the
    states of approvals, lists and people's data need a database: these methods raise NotImplementedError.

    Args:
        outcome: how each job ends at once; done with an empty result if not given. One that answers
            None leaves it queued, and so is a job with a ``send_at`` that is ahead: `end` ends it.
        sender: as the setting of that name.

    Attributes:
        sent: the jobs that were accepted, in order; one whose key was known is not there twice.
    """

    def __init__(
        self, outcome: Callable[[Contract], Outcome] = _succeed, *, sender: str = ""
    ) -> None:
        super().__init__(Settings.load(env="test", redis_url=NOWHERE, sender=sender))
        self._connection = _Recorder(self.settings, self._record)
        self.sent: list[Contract] = []
        self._outcome = outcome
        self._statuses: dict[str, JobStatus] = {}
        self._contracts: dict[str, Contract] = {}
        self._asked: dict[str, str] = {}
        self._uploaded: set[tuple[str, str]] = set()

    def messages_to(self, user: str) -> list[MessageSend]:
        """The messages that name a userid, in order."""
        return [job for job in self.sent if isinstance(job, MessageSend) and user in job.users]

    def end(self, job_id: str, outcome: Mapping[str, Any] | JobError) -> None:
        """End a job that waits.

        Raises:
            JobNotFound: no such job was sent.
            ValueError: it has ended.
        """
        status = self.status(job_id)
        if status.state.ended:
            raise ValueError(f"job {job_id} is {status.state}")
        self._statuses[job_id] = _ended_status(status, outcome)

    def status(self, job_id: str) -> JobStatus:
        """The job's state; see `Client.status`."""
        status = self._statuses.get(checked_id(job_id))
        if status is None:
            raise JobNotFound(job_id)
        return status

    def details(self, job_id: str) -> JobDetails:
        """A job with its key, and of a message what became of it for each person; see `Client.details`."""
        status, job = self.status(job_id), self._contracts[job_id]
        people = dict.fromkeys(
            job.users if isinstance(job, MessageSend) else (), _OUTCOMES[status.state]
        )
        for reason in LEFT_OUT:
            people |= dict.fromkeys((status.result or {}).get(reason, ()), reason)
        return JobDetails(status, getattr(job, "idempotency_key", None) or "", people)

    def approval(self, instance: str, *, app: str = DEFAULT_APP) -> ApprovalRef:
        """The reference of an approval: what is done with it is recorded, and its state is not known."""
        return RecordedApprovalRef(self, instance, app, self._carry_out)

    approvals = _not_recorded("approvals")
    campaign = _not_recorded("campaign")
    campaign_ref = _not_recorded("campaign_ref")
    erase_person = _not_recorded("erase_person")
    export_person = _not_recorded("export_person")
    jobs = _not_recorded("jobs")
    person = _not_recorded("person")
    resolve = _not_recorded("resolve")
    whole_id = _not_recorded("whole_id")

    def _upload(
        self, local: LocalFile, job: MediaUpload, form: bytes, *, timeout: float, again: bool
    ) -> Medium:
        """An id for a file that goes nowhere, the same for the same file."""
        entry = job.app, local.digest
        reused = entry in self._uploaded and not again
        self._uploaded.add(entry)
        return Medium(f"@{local.digest[:20]}", local.type, reused)

    def job(self, job_id: str) -> JobRef:
        """The reference of a job by its id; it need not exist."""
        return RecordedJobRef(self, job_id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that waits; see `Client.cancel`."""
        status = self.status(job_id)
        if not status.state.ended:
            status = self._change_status(
                job_id, state=State.CANCELLED, settled_at=datetime.now(UTC)
            )
        return status.state == State.CANCELLED

    def recall(self, job_id: str) -> JobRef:
        """Take back a message, by a job that is the same on repeated calls; see `Client.recall`."""
        return self.send(recall_of(self.details(job_id)))

    def requeue(self, job_id: str) -> bool:
        """Give a dead or cancelled job another life, which waits for `end`; see `Client.requeue`."""
        again = self.status(job_id).state in {State.DEAD, State.CANCELLED}
        if again:
            self._change_status(
                job_id, state=State.QUEUED, settled_at=None, result=None, error=None
            )
        return again

    def discard(self, job_id: str) -> bool:
        """Forget a dead job; see `Client.discard`."""
        status = self._statuses.get(checked_id(job_id))
        dead = status is not None and status.state == State.DEAD
        if dead:
            del self._statuses[job_id], self._asked[job_id]
        return dead

    def postpone(self, job_id: str, until: datetime) -> bool:
        """Have a job that waits not run before a moment; see `Client.postpone`."""
        waits = not self.status(job_id).state.ended
        if waits:
            self._change_status(job_id, due_at=until)
        return waits

    def requeue_all(self, job_ids: Iterable[str]) -> list[str]:
        """Give jobs another life; see `requeue`."""
        return [job_id for job_id in job_ids if self.requeue(job_id)]

    def discard_all(self, job_ids: Iterable[str]) -> list[str]:
        """Forget dead jobs; see `discard`."""
        return [job_id for job_id in job_ids if self.discard(job_id)]

    def recent(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs, newest first."""
        return list(reversed(self._statuses.values()))[:limit]

    def dead(
        self,
        limit: int = 50,
        *,
        on_unreadable: Callable[[UnreadableRecord], object] | None = None,
    ) -> list[JobStatus]:
        """The jobs that are dead, latest first."""
        return [job for job in self.recent(len(self.sent)) if job.state == State.DEAD][:limit]

    def _record(self, draft: Draft) -> Enqueued:
        digest = record.asked_digest(draft.job)
        recorded_digest = self._asked.setdefault(draft.id, digest)
        if draft.id in self._statuses:
            return Enqueued(created=False, conflict=recorded_digest != digest, wakeup=None)
        job = KINDS[draft.kind].contract.parse(draft.job)
        self.sent.append(job)
        self._contracts[draft.id] = job
        status = JobStatus.of_draft(draft, created=datetime.now(UTC))
        later = status.due_at != status.created_at
        outcome = None if later else self._outcome(job)
        self._statuses[draft.id] = status if outcome is None else _ended_status(status, outcome)
        return Enqueued(created=True, conflict=False, wakeup=None)

    def _change_status(self, job_id: str, **fields: Any) -> JobStatus:
        changed = self._statuses[job_id].model_copy(update=fields)
        self._statuses[job_id] = changed
        return changed


class _Recorder(ClientConnection):
    """Records what a client enqueues."""

    def __init__(self, settings: Settings, recorded: Callable[[Draft], Enqueued]) -> None:
        super().__init__(settings)
        self._recorded = recorded

    def redis_call(self, use: Callable[[Redis], Any]) -> Any:
        raise NotImplementedError("RecordingClient has no Redis: use the fixture `dingrelay`")

    def served(self, names: Collection[tuple[str, str]]) -> ServedNames:
        """No worker serves anything, so every name is taken."""
        return self._served

    def _make(self, step: Step) -> Any:
        # There is no database: nothing is known of an approval, and there is no audit.
        return None if isinstance(step, Audit | FindApproval) else super()._make(step)

    def enqueue(self, drafts: Sequence[Draft], jobs: Sequence[WrittenJob]) -> list[Enqueued]:
        return [self._recorded(draft) for draft in drafts]

    def written(self, drafts: Iterable[Draft]) -> list[WrittenJob]:
        return list(map(record.written, drafts))


class RecordedJobRef(JobRef):
    """One job that was recorded, by its id."""

    __slots__ = ()

    def wait(self, timeout: float = 60) -> JobStatus:
        """The status of a job that has ended: only the test ends those that wait.

        Raises:
            WaitTimeout: it waits; at once.
        """
        status = self.status()
        if not status.state.ended:
            raise WaitTimeout(f"job {self.id} is {status.state}, and the test has not ended it")
        return status


class RecordedApprovalRef(ApprovalRef):
    """One approval, of which nothing is known."""

    __slots__ = ()
    known = _not_recorded("the state of an approval")


class RecordedAsyncJobRef(AsyncJobRef):
    """One job that was recorded, by its id, for asyncio."""

    __slots__ = ()

    async def wait(self, timeout: float = 60) -> JobStatus:
        """Like `RecordedJobRef.wait`."""
        return self._blocking.wait(timeout)


class RecordingAsyncClient(AsyncClient):
    """`RecordingClient` for asyncio: what it recorded is in `client`.

    Args:
        outcome: as of `RecordingClient`.
        sender: as of `RecordingClient`.
    """

    _blocking: RecordingClient

    def __init__(
        self, outcome: Callable[[Contract], Outcome] = _succeed, *, sender: str = ""
    ) -> None:
        self._blocking = RecordingClient(outcome, sender=sender)

    @property
    def client(self) -> RecordingClient:
        """The blocking one."""
        return self._blocking

    def job(self, job_id: str) -> AsyncJobRef:
        """The reference of a job by its id; it need not exist."""
        return RecordedAsyncJobRef(self._blocking.job(job_id))

    @property
    def sent(self) -> list[Contract]:
        """The jobs that were accepted, in order."""
        return self._blocking.sent


def _ended_status(status: JobStatus, outcome: Mapping[str, Any] | JobError) -> JobStatus:
    failed = isinstance(outcome, JobError)
    return status.model_copy(
        update={
            "state": State.DEAD if failed else State.DONE,
            "attempts": 1,
            "settled_at": datetime.now(UTC),
            "due_at": None,
            "error": outcome if failed else None,
            "result": None if failed else dict(outcome),
        }
    )
