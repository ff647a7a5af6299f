"""What is kept of one person: exported, or taken out of everything."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, count
from typing import Any

from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_tasks.contract import AppName, Document, UserId
from dingrelay_tasks.person_erase import PersonErase


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
        since: when it was requested. Jobs and data from later are not touched.
        tombstone: what stands where the userid stood.
        erased: place → rows and records that the person was taken out of.
        remaining: what could not go yet. A job goes on until nothing of it is left.
        returns: they belong to the organisation: the next walk or event brings them back into the
            directory, or has already.
        job: the id of the job that goes on; "" where nothing was found at all.
        jobs: the ids of all that go on: with cells there may be one in each.
    """

    user: str
    app: str | None
    since: datetime
    tombstone: str
    erased: Mapping[str, int]
    remaining: Sequence[Remaining]
    returns: bool
    job: str = ""
    jobs: Sequence[str] = ()

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
        return replace(self, job=job, jobs=[job])


def together(erasures: Sequence[Erasure]) -> Erasure:
    """What came of one person's erasures in several cells, as one."""
    first = min(erasures, key=lambda each: each.since)
    erased = Counter[str]()
    for each in erasures:
        erased.update(each.erased)
    jobs = [job for each in erasures for job in each.jobs]
    return replace(
        first,
        erased=dict(erased),
        remaining=[left for each in erasures for left in each.remaining],
        returns=any(each.returns for each in erasures),
        job=jobs[0] if jobs else "",
        jobs=jobs,
    )


def exported(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several cells keep of one person, as one: what is a list is all of theirs, the rest the first's."""
    found = dict(min(parts, key=lambda part: part["at"]))
    for name, kept in found.items():
        if isinstance(kept, list):
            found[name] = [entry for part in parts for entry in part[name]]
    return found


def app_in(settings: Settings) -> str:
    """An app of the cell of these settings, known or not: a job that names it is carried out there."""
    known = (*settings.cells[settings.cell].apps, *settings.apps, DEFAULT_APP)
    # A cell that names none has all that no other names.
    any_other = (f"{settings.cell}{number}" for number in count())
    return next(app for app in chain(known, any_other) if settings.serves(app))


def new_tombstone() -> str:
    """The replacement of an erased userid: random, so that it identifies no person.

    It could itself be a userid or a sender, so it fits wherever one does.
    """
    return f"erased-{secrets.token_hex(8)}"


class Asked(Document):
    """A request for a person's data, of one app or of all."""

    user: UserId
    app: AppName | None = None
