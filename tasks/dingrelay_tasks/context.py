"""What a job's body may ask of the machinery that runs it.

The bodies in this package know these protocols and nothing else: no HTTP, no Redis, no SQL. The
limits, the token, the retries and the redaction are behind them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from dingrelay_tasks.contract import Contract

Json = dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class DailyVerdict:
    """Which users a work notification may go to today (API §2.1: the rest would get nothing).

    Attributes:
        perhaps: of `users`, those who may have the content through a department.
    """

    users: list[str]
    duplicate: list[str] = field(default_factory=list)
    daily_cap: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SentCall:
    """DingTalk took one work-notification call."""

    task_id: int
    request_id: str


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What DingTalk knows of a call's delivery (API §2.3). `finished` is False while it works."""

    finished: bool
    invalid: list[str] = field(default_factory=list)
    forbidden: list[Json] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Messages(Protocol):
    """Work notifications of the job's app."""

    @property
    def users_per_call(self) -> int:
        """How many users a call may have: what DingTalk takes, or what the app's limits allow."""
        ...

    async def reserve(
        self, users: Sequence[str], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> DailyVerdict:
        """Reserve today's limits for these users; the same job may ask again.

        Args:
            users: who the call is for.
            message: DingTalk's ``msg`` object.
            step: whose call it is.
            anyway: reserve for all of them, whatever they have.

        Raises:
            Wait: another job's call may just be leaving, or the day ends.
        """
        ...

    async def reserve_departments(
        self, departments: Sequence[int], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> list[int]:
        """Reserve the message of today for these departments; those that have not got it yet.

        Raises:
            Wait: as of `reserve`.
        """
        ...

    async def reserve_everyone(
        self, message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> bool:
        """Reserve one of the day's three sends to everyone; False: everyone has the message.

        Raises:
            Refused: the day's sends to everyone are used up.
            Wait: as of `reserve`.
        """
        ...

    async def check(
        self, users: Sequence[str], message: Mapping[str, Any], *, campaign: str, uniform: bool
    ) -> DailyVerdict:
        """Which of these users would get the campaign's message today; reserves nothing.

        Registers the campaign for the day. `uniform`: the message is the same in all its chunks.

        Raises:
            Wait: as of `reserve`.
        """
        ...

    async def send(
        self,
        message: Mapping[str, Any],
        *,
        users: Sequence[str] = (),
        departments: Sequence[int] = (),
        everyone: bool = False,
    ) -> SentCall:
        """One call: at most 100 users, or at most 20 departments, or everyone."""
        ...

    async def delivery(self, task_id: int) -> DeliveryReport:
        """What became of an accepted call (within 24 h, at most 100 recipients)."""
        ...

    async def withdraw_message(self, task_id: int) -> bool:
        """Take back what a call brought; False: DingTalk refuses, as it does after 24 hours."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An approval instance that may be the one of a call without an answer, or may not.

    Attributes:
        title: as DingTalk shows it; empty if the instance can't be read.
        created: when it was made, in DingTalk's spelling.
        link: where a person can look at it.
    """

    id: str
    title: str = ""
    created: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up brought.

    Attributes:
        instance: the id of the one whose form is surely equal; it is this job's now.
        candidates: those that can't be told from it, if there is no instance.
    """

    instance: str | None = None
    candidates: Sequence[Candidate] = ()


class Approvals(Protocol):
    """Approval instances of the job's app."""

    async def check(self, process_code: str, form: Sequence[tuple[str, str]]) -> None:
        """Check a form against its template, if that can be read.

        Raises:
            ContractError: DingTalk would refuse it; names the field.
        """
        ...

    async def create(
        self,
        *,
        process_code: str,
        originator: str,
        department: int,
        form: Sequence[tuple[str, str]],
        approvers: Sequence[tuple[str, Sequence[str]]],
        cc: Sequence[str],
        cc_position: str | None,
    ) -> str:
        """Create an instance; its id. `form` holds (name, value as DingTalk's string)."""
        ...

    async def find(
        self,
        *,
        process_code: str,
        originator: str,
        form: Sequence[tuple[str, str]],
        since: datetime,
    ) -> Found:
        """The earliest instance with an equal form that no other job has, made since then.

        It is this job's for good. `since` is a moment of `Context.now`'s clock; the difference to
        DingTalk's is allowed for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Department:
    """A department as DingTalk tells of it. A field that the answer lacks is absent in `fields`."""

    id: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """A user as DingTalk tells of them. A field that the answer lacks is absent in `fields`.

    Names are those of the v2 API (API §3.1), whichever generation was asked.
    """

    userid: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContactScope:
    """What the app may see: these departments with all below them, and these people."""

    departments: list[int]
    users: list[str]


class Contacts(Protocol):
    """The organisation as the job's app may see it. None: DingTalk says it does not exist."""

    async def scope(self) -> ContactScope:
        """What the app may see."""
        ...

    async def department(self, department: int) -> Department | None:
        """One department with all its fields.

        Raises:
            OutOfScope: the app may not see it.
        """
        ...

    async def children(self, department: int) -> list[Department] | None:
        """The direct sub-departments."""
        ...

    def members(self, department: int) -> AsyncIterator[list[Member]]:
        """The direct members, a page of at most 100 at a time.

        Raises:
            LookupError: the department does not exist.
        """
        ...

    async def user(self, userid: str) -> Member | None:
        """One user with all fields.

        Raises:
            OutOfScope: the app may not see them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unmet:
    """What a walk did not meet; some of it, if it is much. Departments only once nobody is left."""

    users: list[str]
    departments: list[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a directory run stands.

    Attributes:
        pending: departments that are known and not settled yet.
        failed: departments that could not be read.
        departments: departments that were read.
        users: people that were met, each counted once.
        added: people that were not there before, or had left.
        changed: people with a field that has another value than before.
        left: people marked as left.
        calls: calls to DingTalk that the run was told of.
    """

    pending: int
    failed: list[int]
    departments: int
    users: int
    added: int
    changed: int
    left: int
    calls: int


class Directory(Protocol):
    """The SQL directory of the job's app, and the runs that fill it."""

    async def open_run(
        self, run: str, *, scope: str, roots: Sequence[Department], calls: int
    ) -> None:
        """Start the run with its root departments pending; a second call changes nothing."""
        ...

    async def fill(
        self,
        run: str,
        department: Department,
        *,
        children: Sequence[Department],
        members: Sequence[Member],
        calls: int,
    ) -> list[int]:
        """Write one department and note its children as pending; the children's ids.

        Writing the same department of the same run twice changes nothing the second time.

        Args:
            run: the run that read the department.
            department: what is known of it; its parent may have told more already.
            children: all its direct sub-departments.
            members: all its direct members.
            calls: calls that it took to read them.

        Raises:
            Refused: there is no such run.
        """
        ...

    async def vanish(self, run: str, department: int, *, calls: int) -> None:
        """The department no longer exists: it is settled, with nobody in it."""
        ...

    async def fail(self, run: str, department: int) -> None:
        """The department could not be read; the run can't remove anybody."""
        ...

    async def pending(self, run: str) -> int:
        """How many departments are known and not settled yet."""
        ...

    async def unread(self, run: str, *, most: int) -> list[tuple[int, int | None]]:
        """Departments that are not settled yet, each with the one that told of it, if one did."""
        ...

    async def progress(self, run: str) -> Progress:
        """Counts of the run so far."""
        ...

    async def unmet(self, run: str, *, most: int, confirm_removals: bool) -> Unmet:
        """What is in the directory and a complete walk did not meet, and was not asked for yet.

        Raises:
            Refused: the run is not complete, or more people are gone than the safety share allows
                and `confirm_removals` is not set.
        """
        ...

    async def note_users(
        self, run: str, *, met: Sequence[Member], hidden: Sequence[str], gone: Sequence[str]
    ) -> None:
        """Write what DingTalk told when it was asked for each of these people.

        Args:
            run: the run that asked.
            met: they are there, and this is what is told of them.
            hidden: the app may not see them: they stay as they are.
            gone: DingTalk does not know them; closing the run marks them as left.
        """
        ...

    async def note_departments(
        self, run: str, *, met: Sequence[Department], hidden: Sequence[int], gone: Sequence[int]
    ) -> None:
        """The same for departments; those that are gone are so at once."""
        ...

    async def close_run(self, run: str, *, confirm_removals: bool) -> Progress:
        """Mark as left whoever is gone; final counts. Closing again only tells them.

        Raises:
            Refused: the run is not complete, or more people would leave than the safety share
                allows and `confirm_removals` is not set.
        """
        ...

    async def put_user(self, run: str, member: Member, *, calls: int) -> Progress:
        """Write one user as told by DingTalk: a run of its own, at once closed."""
        ...

    async def drop_user(self, run: str, userid: str, *, calls: int) -> Progress:
        """Mark one user as left: a run of its own, at once closed."""
        ...


@dataclass(frozen=True, slots=True)
class CampaignCall:
    """A call of a campaign that DingTalk took.

    Attributes:
        number: the chunk that it was for.
        at: when it was taken.
        ambiguous: it repeated one whose answer was lost.
        confirmed_at: when DingTalk last told what became of it; None if it has not.
    """

    number: int
    task_id: int
    at: datetime
    ambiguous: bool
    confirmed_at: datetime | None = None


class Campaigns(Protocol):
    """What is known in SQL of the calls of campaigns."""

    async def recallable(self, campaign: str, numbers: Sequence[int]) -> list[CampaignCall]:
        """Of these chunks, the calls of the last 24 hours that are not recalled yet."""
        ...

    async def under_way(self, campaign: str, numbers: Sequence[int]) -> Collection[int]:
        """Those of these chunks that may still be called."""
        ...

    async def note_recall(self, campaign: str, number: int) -> None:
        """The chunk's message is taken back."""
        ...

    async def confirmable(
        self, campaign: str, numbers: Sequence[int], *, since: datetime
    ) -> list[CampaignCall]:
        """Of these chunks, the calls of the last 24 hours of which nothing was told since then."""
        ...

    async def note_delivery(
        self, campaign: str, call: CampaignCall, delivery: DeliveryReport
    ) -> None:
        """DingTalk told what became of the call: its counts, and people it did not reach.

        It takes the place of what was told before. Where somebody else was told since the call was
        read, that stands.
        """
        ...


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

    @property
    def messages(self) -> Messages:
        """Work notifications."""
        ...

    @property
    def approvals(self) -> Approvals:
        """Approvals."""
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
    def campaigns(self) -> Campaigns:
        """The calls of campaigns in SQL."""
        ...

    async def once(self, step: str, act: Callable[[], Awaitable[Json]]) -> Json:
        """The outcome of `act`, or what an earlier attempt of this job remembered for `step`.

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

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        """The states of this job's children of a kind, by the keys given to `spawn`.

        None: there is no such record; it was not enqueued yet, was discarded, or is long over.
        """
        ...

    async def wake(self, job_id: str) -> None:
        """Have a waiting job looked at now."""
        ...
