"""Which jobs a list holds, and what is known of them and of the people they were for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, get_args

from dingrelay_producers.errors import InvalidArgument
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list holds; None for any.

    Attributes:
        to: those that were for this person, by their userid.
        since: accepted at or after this moment.
        until: accepted before it.
        text: those with this text in what they asked for.
    """

    state: State | None = None
    kind: str | None = None
    app: str | None = None
    sender: str | None = None
    lane: str | None = None
    to: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    @property
    def reads_jobs(self) -> bool:
        """Whether what a job asks for decides, and not only how it stands."""
        return self.to is not None or self.text is not None

    def takes(self, job: JobStatus) -> bool:
        """Whether a job fits, as far as its status shows."""
        return (
            self.state in {None, job.state}
            and self.kind in {None, job.kind}
            and self.app in {None, job.app}
            and self.sender in {None, job.sender}
            and self.lane in {None, job.lane}
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
        )


class JobFields(TypedDict, total=False):
    """A `JobFilter` as keyword arguments; None for any."""

    state: State | str | None
    kind: str | None
    app: str | None
    sender: str | None
    lane: Lane | None
    to: str | None
    since: datetime | None
    until: datetime | None
    text: str | None


def checked_job_filter(given: JobFields) -> JobFilter:
    """The filter of keyword arguments.

    Raises:
        InvalidArgument: there is no such argument, or it is something else.
    """
    fields: dict[str, Any] = dict(given)
    for name, value in fields.items():
        if name not in JobFields.__annotations__:
            raise InvalidArgument(name, f"one of {', '.join(JobFields.__annotations__)}", value)
        if name in {"since", "until"}:
            if value is not None and not (isinstance(value, datetime) and value.tzinfo):
                raise InvalidArgument(name, "a datetime with its time zone", value)
        elif value is not None and not isinstance(value, str):
            raise InvalidArgument(name, "a text", value)
    for name, known in (("state", list(State)), ("lane", get_args(Lane))):
        if fields.get(name) is not None and fields[name] not in known:
            raise InvalidArgument(name, f"one of {', '.join(known)}", fields[name])
    state = fields.pop("state", None)
    return JobFilter(state=State(state) if state is not None else None, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What was sent to one person, or was not.

    Attributes:
        at: when that was decided.
        job: the job's id; "" for a campaign.
        campaign: the campaign's id; "" for a job.
        name: the campaign's name, or the job's summary.
        outcome: ``accepted``, ``unverified``, ``duplicate``, ``daily_cap``, ``unknown_user``, ``out_of_scope``,
            ``invalid``, ``forbidden``, ``not_sent``, ``unknown``, ``failed``, ``kept``, ``cancelled`` or
            ``pending``.
        reason: why, where there is more to say.
    """

    at: datetime
    app: str
    job: str
    campaign: str
    sender: str
    name: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person in the directory of an app.

    Attributes:
        left_at: when they left; None if they have not.
        departments: the names of their departments.
    """

    app: str
    name: str
    left_at: datetime | None
    departments: Sequence[str]


@dataclass(frozen=True, slots=True)
class PersonHistory:
    """One person: what they were sent, the latest first, and how the directories know them."""

    user: str
    messages: Sequence[Message]
    known_as: Sequence[Person]


@dataclass(frozen=True, slots=True)
class JobDetails:
    """One job with details that lists omit.

    Attributes:
        key: its idempotency key; "" for none.
        recipients: person → what became of it for them; empty for departments, everyone and other kinds.
    """

    status: JobStatus
    key: str
    recipients: Mapping[str, str]
