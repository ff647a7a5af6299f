"""What a job's body sees of the machinery."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dingrelay_tasks.context.apis import Apis
from dingrelay_tasks.context.approval_states import ApprovalStates
from dingrelay_tasks.context.approvals import Approvals
from dingrelay_tasks.context.campaigns import Campaigns
from dingrelay_tasks.context.contacts import Contacts
from dingrelay_tasks.context.directory import Directory
from dingrelay_tasks.context.events import Events
from dingrelay_tasks.context.media import Media
from dingrelay_tasks.context.messages import Messages
from dingrelay_tasks.context.personal_data import PersonalData
from dingrelay_tasks.context.robots import Robots
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.names import Json


@dataclass(frozen=True, slots=True)
class Intent:
    """A call of an earlier attempt that left and whose outcome is not known.

    Attributes:
        step: the step of `Context.once` that made it.
        at: when it was about to leave, or when its answer was given up if that was written.
        since: when the first of the step's calls without an answer was about to leave.
        requeued: a person has had the job carried on since.
    """

    step: str
    at: datetime
    since: datetime
    requeued: bool = False


class Context(Protocol):
    """One job's view of the machinery."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        ...

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        ...

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier attempt whose outcome is unknown, if there is one."""
        ...

    def rule_out(self) -> None:
        """The call of the intent is known to have done nothing."""
        ...

    @property
    def settle_delay(self) -> timedelta:
        """How long after a lost answer what can't be found is known not to exist."""
        ...

    def now(self) -> datetime:
        """The time of Redis's clock, which all workers share, with its zone."""
        ...

    def day(self, moment: datetime) -> str:
        """The Beijing day that DingTalk has at a moment of Redis's clock, such as ``2026-11-24``."""
        ...

    @property
    def messages(self) -> Messages:
        """Work notifications."""
        ...

    @property
    def approvals(self) -> Approvals:
        """Approvals."""
        ...

    @property
    def approval_states(self) -> ApprovalStates:
        """What became of approvals, in SQL."""
        ...

    @property
    def apis(self) -> Apis:
        """Any API of DingTalk's."""
        ...

    @property
    def media(self) -> Media:
        """Files."""
        ...

    @property
    def robots(self) -> Robots:
        """Robots of groups."""
        ...

    @property
    def personal_data(self) -> PersonalData:
        """Everything that is kept of people."""
        ...

    @property
    def contacts(self) -> Contacts:
        """Departments and users at DingTalk."""
        ...

    @property
    def directory(self) -> Directory:
        """Departments and users in SQL."""
        ...

    @property
    def events(self) -> Events:
        """Events that DingTalk could not push."""
        ...

    @property
    def campaigns(self) -> Campaigns:
        """The calls of campaigns in SQL."""
        ...

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        """The outcome of `act`, or what an earlier attempt of this job remembered for `step`.

        With `again` only what this attempt remembered counts: `act` changed nothing at DingTalk before.
        A call in `act` that changes something at DingTalk has its intent in the record before
        it leaves, under this step's name; the outcome replaces that.
        """
        ...

    async def step_result(self, step: str) -> Json | None:
        """What `once` remembers of this job's step, if it was ever carried out."""
        ...

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        """Enqueue child jobs; the same key within this job's family enqueues once."""
        ...

    async def enqueue(self, jobs: Sequence[Contract]) -> None:
        """Enqueue jobs that stand by themselves; one whose identity is known is there already.

        It is retried while Redis is away: they may be the only copy of what they hold.
        """
        ...

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        """The states of this job's children of a kind, by the keys given to `spawn`.

        None: there is no such record; it was not enqueued yet, was discarded, or is long over.
        """
        ...

    async def wake(self, job_id: str) -> None:
        """Have a waiting job looked at now."""
        ...
