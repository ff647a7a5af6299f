"""The services of the machinery that a job's body may use.

The bodies in this package know these protocols and nothing else: no HTTP, no Redis, no SQL. The
limits, the token, the retries and the redaction are behind them.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.organisation import Contacts, Directory

if TYPE_CHECKING:
    from dingrelay_tasks.approval_create import ApprovalCreate
    from dingrelay_tasks.robot_message import RobotTarget

SAME_CONTENT_CODE = "143106"
"""DingTalk's code for a user who has this content already that day (API §2.3)."""


@dataclass(frozen=True, slots=True)
class MessageCall:
    """One call: to at most 100 users, or at most 20 departments, or everyone.

    Attributes:
        step: names it in what the job remembers.
    """

    step: str
    users: Sequence[str] = ()
    departments: Sequence[int] = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class DailyVerdict:
    """Recipients that a work notification may go to today (API §2.1: the rest would get nothing).

    Attributes:
        departments: those that have not got the content.
        everyone: whether the call may go to everyone.
        perhaps: of `users`, those who may have the content through a department.
    """

    users: list[str]
    duplicate: list[str] = field(default_factory=list)
    daily_cap: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)
    departments: list[int] = field(default_factory=list)
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """Users that a work notification can reach; the rest surely gets nothing (API §2.1).

    Attributes:
        unknown_user: DingTalk knows no user with this userid.
        out_of_scope: outside the app's visible range (API §11.11).
        unverified: of `users`, those that could not be looked up: DingTalk or the directory is away.
    """

    users: list[str]
    unknown_user: list[str] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """DingTalk's report on a call's delivery (API §2.3). `finished` is False while it works."""

    finished: bool
    invalid: list[str] = field(default_factory=list)
    forbidden: list[Json] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def had_it(self) -> list[str]:
        """Users who have the content by an earlier call of that day."""
        return [user["userid"] for user in self.forbidden if user["code"] == SAME_CONTENT_CODE]


class Messages(Protocol):
    """Work notifications of the job's app."""

    @property
    def users_per_call(self) -> int:
        """How many users a call may have: what DingTalk takes, or what the app's limits allow."""
        ...

    async def reachable(self, users: Sequence[str]) -> RecipientVerdict:
        """The users among these that can be reached at all, as far as that is surely known.

        Raises:
            Wait: look-ups remain for the next run.
        """
        ...

    async def reserve(
        self, call: MessageCall, message: Mapping[str, Any], *, anyway: bool
    ) -> DailyVerdict:
        """Reserve today's limits for a call; the same job may ask again.

        Args:
            call: to be made.
            message: DingTalk's ``msg`` object.
            anyway: reserve for all of its recipients, whatever they have.

        Raises:
            Wait: another job's call may just be leaving, or the day ends.
            Refused: the day's three sends to everyone are used up.
        """
        ...

    async def send(self, call: MessageCall, message: Mapping[str, Any]) -> tuple[int, str]:
        """Make a call; DingTalk's ids of the task and of the request."""
        ...

    async def delivery(self, task_id: int) -> DeliveryReport:
        """Delivery report of an accepted call (at most 100 recipients).

        Raises:
            CallForgotten: it is older than 24 hours.
        """
        ...

    async def withdraw_message(self, task_id: int) -> bool:
        """Take back what a call brought; False: DingTalk refuses, as it does after 24 hours."""
        ...


ApprovalState = Literal["running", "approved", "refused", "terminated", "deleted"]
TaskState = Literal["running", "agreed", "refused", "redirected", "cancelled"]
Source = Literal["event", "look"]
"""The source of a change: an event from DingTalk, or a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTask:
    """The task of one person, who is to decide.

    Attributes:
        id: DingTalk's number of it.
        user: the one who decides.
        state: how that stands.
        since: when they were asked; None if that was not reported.
        ended: when it ended; None while it runs, and where that was not reported.
    """

    id: str
    user: str
    state: TaskState
    since: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalChange:
    """A report on an approval, from an event or a query. Empty: not reported.

    Attributes:
        instance: its id.
        source: an event or a query.
        state: how it stands; None where only a task was reported.
        tasks: those that were reported.
        created: when it was made.
        finished: when it ended.
    """

    instance: str
    source: Source
    state: ApprovalState | None = None
    tasks: Sequence[ApprovalTask] = ()
    template: str = ""
    originator: str = ""
    title: str = ""
    business_id: str = ""
    link: str = ""
    created: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """An approval in the table.

    Attributes:
        state: as last reported.
        ended: it will not move any more.
        looks: how often it was queried since it was made.
        look_at: when to ask for it again; None once it has ended, and each of its tasks.
    """

    state: ApprovalState
    ended: bool
    looks: int
    look_at: datetime | None


class ApprovalStates(Protocol):
    """The table of approvals of the job's app. Its moments are of Redis's clock."""

    @property
    def follows(self) -> bool:
        """Whether any approval is followed."""
        ...

    async def follow(self, instance: str, *, at: datetime) -> None:
        """Have an approval that this job created followed, by one job of its own. `at`: now."""

    async def open(self, instance: str, *, at: datetime) -> Followed | None:
        """The approval's row; made if it is not there yet. None if it is followed for another app."""
        ...

    def charged_look(self) -> AbstractAsyncContextManager[None]:
        """Take one of the month's calls that are for looks; an error in the block gives it back.

        Raises:
            Wait: their share of the month is used up.
        """
        ...

    async def look_up_all(self, at: datetime) -> None:
        """Have DingTalk asked now for each approval that is followed: events may be lost."""

    async def record(
        self, change: ApprovalChange, *, at: datetime, early: bool = False
    ) -> Followed | None:
        """Write what the reported change adds; None if the approval is not followed.

        Reports lead to the same in any order, late and repeated.

        Args:
            change: what was reported.
            at: when; of a look, when it began.
            early: a job may still be creating the approval, of which nothing is known here yet.
        """
        ...


class ApprovalInstances(Protocol):
    """Approval instances of the job's app, at DingTalk."""

    async def check(self, process_code: str, form: Sequence[tuple[str, str]]) -> None:
        """Check a form against its template, if that can be read.

        Raises:
            ContractError: DingTalk would refuse it; names the field.
        """

    async def create(self, job: "ApprovalCreate") -> str:
        """Create an instance; its id."""
        ...

    async def find(
        self, job: "ApprovalCreate", *, since: datetime
    ) -> tuple[str | None, Sequence[Json], timedelta]:
        """The earliest instance with an equal form that no other job has, made since then.

        It is this job's for good. `since` is a moment of `Context.now`'s clock; the difference to
        DingTalk's is allowed for.

        Returns:
            The id of an instance whose form is surely equal. If there is none, those that may be this job's,
            as ``id, title, created, link``; `created` is in DingTalk's spelling. And for how long one may still
            appear that is left to this job, since another one that had lost its answer, too, took an earlier one.
        """
        ...

    async def look(self, instance: str, *, patient: bool = False) -> ApprovalChange | None:
        """How an instance stands; None if DingTalk knows none with this id.

        Raises:
            Wait: `patient`, and DingTalk can't be called now: that costs no attempt.
        """
        ...


@dataclass(frozen=True, slots=True)
class CampaignCall:
    """A call of a campaign that DingTalk took.

    Attributes:
        number: the chunk that it was for.
        at: when it was taken.
        ambiguous: it repeated one whose answer was lost.
        confirmed_at: when DingTalk last reported its delivery; None if it has not.
    """

    number: int
    task_id: int
    at: datetime
    ambiguous: bool
    confirmed_at: datetime | None = None


class CalledChunks(Protocol):
    """The calls of campaigns, in SQL.

    `recallable` and `confirmable` raise `CampaignDeleted` if the campaign is there no more.
    """

    async def wants(self, campaign: str, number: int, job: str) -> bool:
        """Whether the campaign runs and this job is that of the chunk's release, which is not over."""
        ...

    async def recallable(self, campaign: str, numbers: Sequence[int]) -> list[CampaignCall]:
        """Calls of these chunks in the last 24 hours that are not recalled yet."""
        ...

    async def under_way(self, campaign: str, numbers: Sequence[int]) -> Collection[int]:
        """The chunks among these that may still be called."""
        ...

    async def note_recall(self, campaign: str, number: int, kept: Sequence[str]) -> None:
        """The chunk's message is taken back, but from the people of it who have it by a lost call."""

    async def confirmable(
        self, campaign: str, numbers: Sequence[int], *, since: datetime
    ) -> list[CampaignCall]:
        """Calls of these chunks in the last 24 hours without a delivery report since then."""
        ...

    async def note_delivery(
        self, campaign: str, call: CampaignCall, delivery: DeliveryReport
    ) -> None:
        """Store DingTalk's delivery report for the call: its counts, and people it did not reach.

        Replaces an earlier report, but not one that was stored since `call` was read.
        """


@dataclass(frozen=True, slots=True)
class MissedPage:
    """Some events that DingTalk could not push.

    Attributes:
        entries: as DingTalk returns them. It returns each only once.
        more: whether there are more.
        refused: DingTalk's code, if it lets the app have none.
        lost: DingTalk's answer did not arrive, and the events that it held are forgotten there.
    """

    entries: list[Json]
    more: bool
    refused: str = ""
    lost: bool = False


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


class Digests(Protocol):
    """Messages to a robot or group that are merged. `target` is what they are for, such as ``group:oncall 300``."""

    async def join(self, target: str, message: Json) -> tuple[str, Json | None]:
        """The digest that carries this job's message, and its result once it is over."""
        ...

    async def close(self, target: str, digest: str, every: float) -> float:
        """Close a digest: nothing joins it any more. Seconds to wait where its time has not come; 0: it is closed.

        Args:
            target: of the digest.
            digest: its name.
            every: seconds between two digests of the target.
        """
        ...

    async def result(self, digest: str) -> Json | None:
        """Outcome of a digest; None if it is not over."""
        ...

    async def messages(self, digest: str) -> list[Json]:
        """The messages of a digest that is closed, as they came, each with its ``job``."""
        ...

    async def finish(self, target: str, digest: str, result: Json) -> None:
        """Store what became of a digest; the next one may follow."""
        ...

    async def forget(self, digest: str) -> None:
        """Delete the messages of a digest that is over."""


class Robots(Protocol):
    """The robots of the settings.

    Each method raises `Refused` where the settings know no such robot or group.
    """

    def kind(self, to: "RobotTarget") -> Literal["webhook", "enterprise"]:
        """The kind of target: decides which of DingTalk's APIs posts to it."""
        ...

    async def choose(self, to: "RobotTarget") -> str:
        """The robot of the target that may post soonest."""
        ...

    async def wait(self, to: "RobotTarget") -> float:
        """Seconds until a robot of the target may post, about."""
        ...

    @property
    def digests(self) -> Digests:
        """Messages that are merged."""
        ...

    async def post(
        self, robot: str, to: "RobotTarget", message: Json, *, users: Sequence[str], key: str
    ) -> Json:
        """Post a message; what DingTalk answered, as ``robot, query_key, users, invalid, flow_controlled``.

        Args:
            robot: that posts.
            to: the group, unless there are users.
            message: as a webhook spells it.
            users: one to one; at most 20.
            key: a webhook's message is posted once for each.
        """
        ...

    async def read_state(self, robot: str, query_key: str, *, group: str) -> Json:
        """Read state of a message of an enterprise robot, as ``finished, delivered, read``.

        Args:
            robot: that posted it.
            query_key: of its call.
            group: where; of one nothing but the readers is known. Empty for messages to people.
        """
        ...

    async def note(self, query_key: str, users: Sequence[str], outcome: str) -> bool | None:
        """Note in the history what became of a message for these users, or for all if none is named.

        None: no message of ours is known by the key; False: the history has not got its job yet.
        """
        ...

    async def recall(self, robot: str, query_keys: Sequence[str], *, group: str) -> list[str]:
        """Take messages of an enterprise robot back; the keys of those that DingTalk took back.

        Args:
            robot: that posted them.
            query_keys: at most 20.
            group: where; empty for messages to people.
        """
        ...

    async def post_by_token(
        self, robot: str, *, session: bool, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Json:
        """DingTalk's answer to a message, whole.

        Args:
            robot: digest of the token of a robot that is in no settings, or of a session.
            session: whether it is a session's.
            query: timestamp and signature, where the robot asks for them.
            body: DingTalk's message.

        Raises:
            Refused: its token is not known any more.
        """
        ...


class Context(Protocol):
    """One job's view of the machinery."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        ...

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier attempt whose outcome is unknown, if there is one."""
        ...

    def confirm_not_executed(self) -> None:
        """The call of the intent is known to have done nothing."""

    @property
    def settle_delay(self) -> timedelta:
        """How long after a lost answer what can't be found is known not to exist."""
        ...

    def now(self) -> datetime:
        """The time of Redis's clock, which all workers share, with its zone."""
        ...

    async def day(self, moment: datetime) -> str:
        """The Beijing day that DingTalk has at a moment of Redis's clock, such as ``2026-11-24``."""
        ...

    @property
    def messages(self) -> Messages:
        """Work notifications."""
        ...

    @property
    def robots(self) -> Robots:
        """Robots of groups, and of apps."""
        ...

    @property
    def approvals(self) -> ApprovalInstances:
        """Approvals at DingTalk."""
        ...

    @property
    def approval_states(self) -> ApprovalStates:
        """States of approvals in SQL."""
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
    def campaigns(self) -> CalledChunks:
        """The calls of campaigns in SQL."""
        ...

    async def call(
        self,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | Sequence[Any] | None,
        changes: bool,
    ) -> Json:
        """Call any API of DingTalk's as the job's app; its answer, which is a success.

        Args:
            method: of HTTP.
            path: on the host that its form selects (`api_call.is_rest`).
            query: parameters of the URL, without the token.
            body: what is sent as JSON.
            changes: whether the call has an effect, so that a lost answer matters.
        """
        ...

    async def upload(self, upload: str, *, content_type: str, query: Mapping[str, str]) -> Json:
        """DingTalk's answer to an upload.

        Args:
            upload: digest of the form with the file, which waits for this.
            content_type: of that form.
            query: parameters of the URL, without the token.

        Raises:
            Refused: it does not wait any more.
        """
        ...

    async def forget_upload(self, upload: str) -> None:
        """Delete an upload that is over: it waits in memory that others need."""

    def count_push(self) -> None:
        """Count a Webhook & Stream message of the month that DingTalk has pushed."""
        ...

    async def missed_events(self) -> MissedPage:
        """The oldest events that DingTalk could not push; it forgets them with that."""
        ...

    async def erase_person(
        self, user: str, *, app: str | None, since: datetime, tombstone: str
    ) -> tuple[int, Sequence[datetime | None]]:
        """Take a person out of whatever was kept of them at a moment, and is needed no more.

        Args:
            user: their userid.
            app: of this app only; None for all.
            since: that moment. Jobs and data from later are not touched.
            tombstone: what stands where their userid stood.

        Returns:
            From how many rows and records they were taken out; and until when each of the others is needed,
            where that is known.
        """
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

    def note_step(self, step: str, result: Json) -> None:
        """Store a step's result, in place of an earlier one, for the attempts that follow."""
        ...

    async def step_result(self, step: str) -> Json | None:
        """The result that `once` has stored for this job's step, if it was ever carried out."""
        ...

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        """Enqueue child jobs; the same key within this job's family enqueues once."""

    async def enqueue(self, jobs: Sequence[Contract]) -> list[str | None]:
        """Enqueue jobs that stand by themselves; one whose identity is known is there already.

        It is retried while Redis is away: they may be the only copy of what they hold.

        Returns:
            Their states by then, as `children`.
        """
        ...

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        """The states of this job's children of a kind, by the keys given to `spawn`.

        None: there is no such record; it was not enqueued yet, was discarded, or is long over.
        """
        ...

    async def wake(self, job_id: str) -> None:
        """Have a waiting job looked at now."""


async def remember(ctx: Context, step: str, value: Json) -> Json:
    """The value that an earlier attempt of the job stored for a step; if none did, this from now on."""

    async def act() -> Json:
        return value

    return await ctx.once(step, act)


async def since(ctx: Context, step: str) -> datetime:
    """When an attempt of the job first came to a step."""
    return datetime.fromisoformat((await remember(ctx, step, {"at": ctx.now().isoformat()}))["at"])
