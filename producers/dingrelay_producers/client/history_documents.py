"""Which jobs a list holds, and what is known of them and of the people they were for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dingrelay_producers.store.status import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What was sent to one person, or was not.

    Attributes:
        at: when DingTalk took the call or the job ended; when the campaign was made, where it took none.
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
    job: str = ""
    campaign: str = ""
    sender: str
    name: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPerson:
    """A person in the directory of an app.

    Attributes:
        left_at: when they left; None if they have not.
        departments: the names of their departments.
    """

    app: str
    userid: str
    name: str
    job_number: str
    left_at: datetime | None
    departments: Sequence[str]


@dataclass(frozen=True, slots=True)
class PersonHistory:
    """One person: what they were sent, the latest first, and how the directories know them."""

    user: str
    messages: Sequence[Message]
    known_as: Sequence[KnownPerson]


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
