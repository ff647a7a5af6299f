"""Filters of lists: one a noun, from which its options and its arguments are made."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from dingrelay_producers.actor import current_reach
from dingrelay_producers.errors import InvalidArgument
from dingrelay_producers.store.states import CampaignStage, CampaignState, State
from dingrelay_tasks.asked import PERSON, Asked
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.store.status import JobStatus

# As `dingrelay_tasks` has them, which takes longer to import than a command to run.
LaneName = Literal["urgent", "normal", "bulk"]
DeliveryStateName = Literal["pending", "delivered", "dead"]
CampaignOutcome = Literal[
    "accepted",
    "duplicate",
    "daily_cap",
    "unknown_user",
    "out_of_scope",
    "invalid",
    "forbidden",
    "failed",
    "unverified",
    "kept",
    "unknown",
    "cancelled",
    "pending",
    "malformed",
    "unmatched",
]
"""Outcomes of a recipient of a campaign, or of a row that should have named one."""
CampaignSought = Literal[CampaignOutcome, "unread"]
"""The recipients of a list: those of an outcome, or accepted ones that had not read it when DingTalk was asked."""
ApprovalStateName = Literal["running", "approved", "refused", "terminated", "deleted"]


Seen = Mapping[str, Collection[str]]
"""Field → the values that it may have of jobs that a caller may see; one that is missing may have any."""


class ListFilter:
    """Conditions of a list; None for any."""

    __slots__ = ()
    SAME: ClassVar[tuple[str, ...]] = ()
    """Fields that what is listed has to have the same."""

    @property
    def equal(self) -> dict[str, Any]:
        """The values that listed objects must have, by field."""
        return {name: value for name in self.SAME if (value := getattr(self, name)) is not None}

    @property
    def conditions(self) -> dict[str, Any]:
        """The arguments of the client that make it."""
        values = {name: getattr(self, name) for name in askable(type(self))}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter(ListFilter):
    """Conditions of a list of jobs."""

    SAME = ("state", "kind", "app", "sender", "lane")

    state: Annotated[State | None, Asked("Only jobs in this state.")] = None
    kind: Annotated[str | None, Asked("Only jobs of this kind.")] = None
    app: Annotated[str | None, Asked("Only jobs of this application.")] = None
    sender: Annotated[str | None, Asked("Only jobs of this sender.")] = None
    lane: Annotated[LaneName | None, Asked("Only jobs of this lane.")] = None
    code: Annotated[str | None, Asked("Only jobs that failed with this code.")] = None
    to: Annotated[str | None, Asked("Only messages to this person.", PERSON)] = None
    since: Annotated[
        datetime | None, Asked("Only jobs accepted from then on.", "7d|2026-01-31T09:00")
    ] = None
    until: Annotated[
        datetime | None, Asked("Only jobs accepted before then.", "7d|2026-01-31T09:00")
    ] = None
    text: Annotated[str | None, Asked("Only jobs with this text in what they ask for.")] = None

    @property
    def reads_jobs(self) -> bool:
        """Whether what a job asks for decides, and not only how it stands."""
        return self.to is not None or self.text is not None

    def allowed(self, seen: Seen) -> dict[str, set[str]]:
        """Field → the values of jobs that fit, and that a caller may see."""
        fit: dict[str, Any] = self.equal if self.code is None else {**self.equal, "code": self.code}
        values_by_field = {name: set(values) for name, values in seen.items()}
        return values_by_field | {
            name: {value} & values_by_field.get(name, {value}) for name, value in fit.items()
        }

    def takes(self, job: "JobStatus") -> bool:
        """Whether a job fits, as far as its status shows."""
        return (
            all(getattr(job, name) == value for name, value in self.equal.items())
            and (self.code is None or (job.error is not None and job.error.code == self.code))
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
        )


class JobFields(TypedDict, total=False):
    """A `JobFilter` as keyword arguments; None for any."""

    state: State | str | None
    kind: str | None
    app: str | None
    sender: str | None
    lane: LaneName | None
    code: str | None
    to: str | None
    since: datetime | None
    until: datetime | None
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFilter(ListFilter):
    """Conditions of a list that some readers see only a part of.

    Attributes:
        apps: only what is of these apps; None for any.
        sender: only what this sender asked for; None for any.
    """

    apps: Collection[str] | None = None
    sender: str | None = None

    def of_actor(self, scope: str) -> Self:
        """The same of what the actor of the present task sees by this scope."""
        reach = current_reach()
        return replace(self, apps=reach.apps_of(scope), sender=reach.default_sender or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFilter(SeenFilter):
    """Conditions of a list of approvals."""

    SAME = ("app", "state", "template", "originator", "sender")

    state: Annotated[ApprovalStateName | None, Asked("Only approvals in this state.")] = None
    template: Annotated[str | None, Asked("Only approvals of this process code.")] = None
    originator: Annotated[str | None, Asked("Only approvals that this user requested.", PERSON)] = (
        None
    )
    waits_for: Annotated[
        str | None, Asked("Only approvals that this user has to decide.", PERSON)
    ] = None
    app: Annotated[str | None, Asked("Only approvals of this application.")] = None


class ApprovalFields(TypedDict, total=False):
    """An `ApprovalFilter` as keyword arguments; None for any."""

    app: str | None
    state: ApprovalStateName | None
    template: str | None
    originator: str | None
    waits_for: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFilter(SeenFilter):
    """Conditions of a list of campaigns."""

    SAME = ("app", "state", "sender")

    state: Annotated[CampaignState | None, Asked("Only campaigns in this state.")] = None
    stage: Annotated[
        CampaignStage | None, Asked("Only campaigns in this stage, which is finer than the state.")
    ] = None
    app: Annotated[str | None, Asked("Only campaigns of this application.")] = None
    name: Annotated[str | None, Asked("Only campaigns with this text in their names.")] = None
    writer: Annotated[
        str | None, Asked("Only campaigns that this person wrote or changed.", PERSON)
    ] = None
    since: Annotated[
        datetime | None, Asked("Only campaigns created from then on.", "7d|2026-01-31T09:00")
    ] = None
    until: Annotated[
        datetime | None, Asked("Only campaigns created before then.", "7d|2026-01-31T09:00")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter(SeenFilter):
    """Conditions of a list of changes."""

    SAME = ("actor", "action", "kind", "object")

    actor: Annotated[str | None, Asked("Only changes by this person, key or user.")] = None
    action: Annotated[str | None, Asked("Only this action.")] = None
    kind: Annotated[str | None, Asked("Only changes of this kind of object.")] = None
    object: Annotated[str | None, Asked("Only changes of the object with this id.")] = None
    since: Annotated[
        datetime | None, Asked("Only changes from then on.", "7d|2026-01-31T09:00")
    ] = None


Filter = TypeVar("Filter", bound=ListFilter)


def askable(model: type[ListFilter]) -> dict[str, tuple[Any, Asked]]:
    """The fields that a caller may ask for, with the type of their values."""
    hints = get_type_hints(model, include_extras=True)
    return {
        name: (hint.__origin__, hint.__metadata__[0])
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
    }


def checked_filter(model: type[Filter], arguments: Mapping[str, Any]) -> Filter:
    """The filter of keyword arguments.

    Raises:
        InvalidArgument: there is no such argument, or it is something else.
    """
    fields = askable(model)
    for name, value in arguments.items():
        if name not in fields:
            raise InvalidArgument(name, en("one of {}", ", ".join(fields)), value)
        if value is None:
            continue
        kind = get_args(fields[name][0])[0]
        values = (
            list(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else get_args(kind)
        )
        if kind is datetime:
            if not (isinstance(value, datetime) and value.tzinfo):
                raise InvalidArgument(name, "a datetime with its time zone", value)
        elif not isinstance(value, str):
            raise InvalidArgument(name, "a text", value)
        elif values and value not in values:
            raise InvalidArgument(name, en("one of {}", ", ".join(values)), value)
    return model(**arguments)
