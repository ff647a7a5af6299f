"""What is kept of one person: all of it handed out, or taken out of everything.

It is in SQL and in Redis, and a producer need not have the libraries for the first. So the part that
reads and erases it is another installed package's, found by its entry point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from dingrelay_producers.installed import load
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import AppName, Document, UserId
from dingrelay_tasks.person_erase import PersonErase

ENTRY_POINTS = "dingrelay.personal_data"
"""Group of the entry point that makes a `PersonalDataBackend` of settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Something of a person that can't be erased yet.

    Attributes:
        place: ``jobs``, ``daily_limits``, ``answers``, ``campaigns``, ``approvals``, ``webhooks`` or
            ``directory``.
        id: of the job, the campaign, the approval …
        reason: why it has to stay, in one sentence.
        until: until when at most; None where that is not known.
    """

    place: str
    id: str
    reason: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What came of an erasure at once, and what is still to come.

    Attributes:
        since: when it was asked for. What was asked for or read later is not touched.
        tombstone: what stands where the userid stood.
        erased: place → rows and records that the person was taken out of.
        remaining: what could not go yet. A job goes on until nothing of it is left.
        returns: they belong to the organisation: the next walk or event brings them back into the
            directory, or has already.
        job: the id of the job that goes on; "" where nothing was found at all.
    """

    user: str
    app: str | None
    since: datetime
    tombstone: str
    erased: Mapping[str, int]
    remaining: Sequence[Remaining]
    returns: bool
    job: str = ""

    @property
    def follow_up(self) -> PersonErase | None:
        """The job that finishes it; None where there was nothing."""
        if not self.remaining and not any(self.erased.values()):
            return None
        return PersonErase(
            user=self.user, of_app=self.app, since=self.since, tombstone=self.tombstone
        )

    def followed_by(self, job: str) -> "Erasure":
        """The same, with the job that goes on."""
        return replace(self, job=job)


class Asked(Document):
    """Whose data is asked for: a person, of one app only or of all."""

    user: UserId
    app: AppName | None = None


class PersonalDataBackend(Protocol):
    """What keeps people's data. Both raise `ServiceUnavailable` where Redis or the database is away."""

    async def export(self, user: str, *, app: str | None) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        ...

    async def erase(self, user: str, *, app: str | None) -> Erasure:
        """Take them out of everything that is needed no more."""
        ...


def backend(settings: Settings) -> PersonalDataBackend:
    """The one that is installed.

    Raises:
        NotInstalled: none is.
    """
    made: PersonalDataBackend = load(
        ENTRY_POINTS, settings, what="what is kept of people", extra="worker"
    )
    return made
