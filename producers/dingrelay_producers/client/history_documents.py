"""Documents of job lists: jobs, and their recipients."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.robot_names import target_of
from dingrelay_tasks.sentence import Kept


class Message(BaseModel, frozen=True):
    """A message to one person, sent or left out."""

    at: datetime
    """When DingTalk took the call or the job ended; when the campaign was made, where it took none."""
    app: str
    job: str = ""
    """The job's id; empty for a campaign."""
    campaign: str = ""
    """The campaign's id, also of a job that is a test of it; empty for another job."""
    sender: str
    lane: str = ""
    """The job's lane; empty for a campaign, which goes in `bulk`."""
    name: str
    """The campaign's name, or the job's summary."""
    outcome: str
    """`accepted`, `unverified`, `duplicate`, `daily_cap`, `unknown_user`, `out_of_scope`, `invalid`,
    `forbidden`, `not_sent`, `unknown`, `failed`, `kept`, `cancelled` or `pending`."""
    reason: Kept
    """Why, where there is more to say."""

    @property
    def target(self) -> str:
        """Target of the job; see `JobStatus`."""
        return "" if self.campaign else target_of(self.app, self.name)


class KnownPerson(BaseModel, frozen=True):
    """A person in the directory of an app."""

    app: str
    userid: str
    name: str
    job_number: str
    left_at: datetime | None
    """When they left; null if they have not."""
    departments: list[str]
    """The names of their departments."""


class FoundPeople(BaseModel):
    """People in the directory, those who have not left first."""

    people: list[KnownPerson]
    matches: int
    """How many fit, of which these are the first; counted up to 1,000."""


class PersonHistory(BaseModel, frozen=True):
    """One person: what they were sent, the latest first, and how the directories know them."""

    user: str
    messages: list[Message]
    known_as: list[KnownPerson]


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
