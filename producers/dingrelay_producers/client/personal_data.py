"""Personal data of one person: export and erasure."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dingrelay_tasks.contract import AppName, Document, UserId

if TYPE_CHECKING:
    from dingrelay_tasks.person_erase import PersonErase

_TOMBSTONE = re.compile("erased-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Something of a person that can't be erased yet.

    Attributes:
        place: ``jobs``, ``daily_limits``, ``answers``, ``campaigns``, ``drafts``, ``approvals``, ``webhooks`` or
            ``directory``.
        id: of the job, the campaign, the approval …
        reason: why it has to stay, in one sentence.
        until: until when at most; None where that is not known.
        hint: what can be done about it; "" where it goes by itself.
    """

    place: str
    id: str
    reason: str
    until: datetime | None
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Result of an erasure, and the part of it that is still to come.

    Attributes:
        since: when it was requested. Jobs and data from later are not touched.
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
    def follow_up(self) -> "PersonErase | None":
        """The job that finishes it; None where there was nothing."""
        if not self.remaining and not any(self.erased.values()):
            return None
        from dingrelay_tasks.person_erase import PersonErase

        return PersonErase(
            user=self.user, of_app=self.app, since=self.since, tombstone=self.tombstone
        )


def new_tombstone() -> str:
    """The replacement of an erased userid: random, so that it identifies no person.

    It could itself be a userid or a sender, so it fits wherever one does.
    """
    return f"erased-{secrets.token_hex(8)}"


def is_tombstone(userid: str) -> bool:
    """Whether this stands where an erased userid stood."""
    return _TOMBSTONE.fullmatch(userid) is not None


class PersonRequest(Document):
    """A request for a person's data, of one app or of all."""

    user: UserId
    app: AppName | None = None
