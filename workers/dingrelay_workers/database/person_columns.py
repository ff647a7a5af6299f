"""The declaration of people in a table, column by column: `__people__` of each model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Text, cast, false, or_

from dingrelay_tasks.person_fields import Path, people_in, renamed, renamed_in


class PersonColumns:
    """The columns of a table that can hold a text, by what they hold of people; each column is named once.

    Args:
        user: a userid.
        users: userids, as a text with commas or as a JSON list.
        within: JSON, with the paths of its userids (`person_fields`).
        about: what describes the people of the row, and goes with them: names, titles, texts.
        others: columns without people: ids, codes, names of ours, and texts that were written by people.
        kept: how long a row stays at most, as the guide says it.
    """

    def __init__(
        self,
        *,
        user: str = "",
        users: str = "",
        within: Mapping[str, Sequence[Path]] | None = None,
        about: str = "",
        others: str = "",
        kept: str = "",
    ) -> None:
        self.user, self.users = tuple(user.split()), tuple(users.split())
        self.within = dict(within or {})
        self.about, self.others = tuple(about.split()), tuple(others.split())
        self.kept = kept

    @property
    def declared(self) -> list[str]:
        """All columns that it names."""
        return [*self.user, *self.users, *self.within, *self.about, *self.others]

    @property
    def holds_people(self) -> bool:
        """Whether a row can name or describe a person."""
        return bool(self.user or self.users or self.within or self.about)

    def values_of(self, row: Any) -> dict[str, Any]:
        """The declared columns of a row whose columns are attributes."""
        return {name: getattr(row, name) for name in self.declared}

    def may_name(self, table: Any, user: str) -> ColumnElement[bool]:
        """Whether a row may name the person: true of each that does, as `names` shows."""
        exact = [getattr(table, name) == user for name in self.user]
        texts = [getattr(table, name) for name in (*self.users, *self.within)]
        return or_(false(), *exact, *(contains(column, user) for column in texts))

    def names(self, row: Mapping[str, Any], user: str) -> bool:
        """Whether a row, or as many of its columns as there are, names the person."""
        return user in self.people_of(row)

    def people_of(self, row: Mapping[str, Any]) -> set[str]:
        """The userids in a row, or in as many of its columns as there are."""
        people = {row[name] for name in self.user if row.get(name)}
        for name in self.users:
            people |= people_in(row.get(name), [""])
        for name, paths in self.within.items():
            people |= people_in(row.get(name), paths)
        return people

    def renamed(self, row: Mapping[str, Any], user: str, tombstone: str) -> dict[str, Any]:
        """The columns of a row that change where a tombstone takes the place of a person."""
        values = {
            **{name: tombstone for name in self.user if row.get(name) == user},
            **{name: renamed(row[name], user, tombstone) for name in self.users if name in row},
            **{
                name: renamed_in(row[name], paths, user, tombstone)
                for name, paths in self.within.items()
                if name in row
            },
        }
        return {name: value for name, value in values.items() if value != row[name]}


def contains(column: Any, user: str) -> ColumnElement[bool]:
    """Whether the text of a column has the userid somewhere, however JSON or a path spells it."""
    in_json = (json.dumps(user, ensure_ascii=plain)[1:-1] for plain in (False, True))
    spelled = {user, quote(user, safe=""), *in_json}
    return or_(
        *(cast(column, Text).contains(spelling, autoescape=True) for spelling in sorted(spelled))
    )
