"""The subject of an erasure, the tombstone in place of the userid, and the data that had to stay for now."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, or_
from sqlalchemy.orm import InstrumentedAttribute

from dingrelay_producers.client.personal_data import Remaining
from dingrelay_tasks.event import without_descriptions

NEEDED = timedelta(hours=36)
"""How long a sent message keeps the names of its people: the Beijing day in which DingTalk drops a
repeat of the same content, and the 24 hours in which it takes a message back or reports its
delivery (API §2.3, §2.4), with a margin for jobs that do so."""

PLACES = ("jobs", "history", "campaigns", "approvals", "webhooks", "audit", "directory")
"""Places from which a person is erased, in this order."""

MOST_LIKE = 500
"""Conditions of one statement that look for a text; SQLite takes up to a thousand."""


@dataclass(frozen=True, slots=True)
class DataSubject:
    """The person of a request.

    Attributes:
        user: their userid.
        app: of this app only; None for all.
        instances: their approvals, to search events for: the title of one has their name.
    """

    user: str
    app: str | None = None
    instances: frozenset[str] = frozenset()

    @property
    def spellings(self) -> set[str]:
        """The userid as it stands in JSON: with any character, and in ASCII only."""
        return {json.dumps(self.user, ensure_ascii=plain)[1:-1] for plain in (False, True)}

    def among(self, query: Any, app: InstrumentedAttribute[str]) -> Any:
        """The query, of those apps only that are asked about."""
        return query if self.app is None else query.where(app == self.app)

    def named_in(self, column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        """Whether a column of JSON may name the person; what it holds has to be looked at."""
        texts = [*self.spellings, *self.instances]
        if len(texts) > MOST_LIKE:
            texts = [*self.spellings, "processInstanceId"]
        return or_(*(cast(column, Text).contains(each, autoescape=True) for each in texts))

    def is_in(self, value: Any) -> bool:
        """Whether a JSON value names the person."""
        return bool(replaced(value, self.user, "") != value)

    def is_in_event(self, data: Any) -> bool:
        """Whether an event of DingTalk's is about the person, or about an approval of theirs."""
        values = data.values() if isinstance(data, Mapping) else ()
        return self.is_in(data) or any(
            isinstance(value, str) and value in self.instances for value in values
        )


@dataclass(frozen=True, slots=True)
class Erasing(DataSubject):
    """The person that is erased.

    Attributes:
        since: what was asked for or read later stays.
        tombstone: what stands where their userid stood.
        now: the time by Redis's clock.
        changed: place → rows and records that the person was taken out of.
        left: what had to stay for now.
        returned: the apps whose directories have them again, or will: they belong to the organisation.
    """

    since: datetime = field(kw_only=True)
    tombstone: str = field(kw_only=True)
    now: datetime = field(kw_only=True)
    changed: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(PLACES, 0)))
    left: list[Remaining] = field(default_factory=list[Remaining])
    returned: set[str] = field(default_factory=set[str])

    def leave(self, place: str, name: object, reason: str, until: datetime | None = None) -> None:
        """Note that something of the person can't be erased yet, as `Remaining` names it."""
        self.left.append(Remaining(place=place, id=str(name), reason=reason, until=until))

    def without(self, value: Any) -> Any:
        """A JSON value with the tombstone in place of the person."""
        return replaced(value, self.user, self.tombstone)

    def without_event(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """An event about the person, without whatever may tell more of anybody than their id."""
        kept: dict[str, Any] = self.without(without_descriptions(data))
        return kept

    def without_in_line(self, summary: str) -> str:
        """The one line of a job that the kinds make, which names its sender and some paths."""
        sender = f"sender={self.user}"
        return " ".join(
            f"sender={self.tombstone}" if word == sender else self.without(word)
            for word in summary.split(" ")
        )


def replaced(value: Any, user: str, by: str) -> Any:
    """A JSON value in which a userid stands for itself: alone, in a list with commas, or in a path.

    A text that only contains it, such as a sentence, stays: it may not mean the person.
    """
    if isinstance(value, str):
        if user not in value:
            return value
        return re.sub(rf"(?<![^,/]){re.escape(user)}(?![^,/])", lambda _: by, value)
    if isinstance(value, Mapping):
        return {
            (by if name == user else name): replaced(each, user, by) for name, each in value.items()
        }
    if isinstance(value, Sequence):
        return [replaced(each, user, by) for each in value]
    return value
