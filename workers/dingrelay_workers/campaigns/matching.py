"""Matches rows with people of the directory: a row is one person, whichever of its cells identifies them."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from dingrelay_producers.client.campaign_documents import Identifier, Malformed
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.recipients import ADDRESS_WORDS, Recipient, spelled
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import addresses, audience

LONGEST_NUMBER = 12
"""Digits of a job number that is looked for with zeros before it."""

_Cell = tuple[Identifier, str]
_LEVEL = re.compile(r"[/\\>＞]")
"""Stands between a department and one below it."""


class Departments(NamedTuple):
    """The departments of people, and which names are those of departments.

    Attributes:
        lines: of people, by userid; see `audience.lines`.
        names: that departments have, of those that were looked up.
    """

    lines: Mapping[str, Sequence[Sequence[str]]]
    names: Collection[str]

    @classmethod
    async def read(
        cls, database: Database, app: str, users: Collection[str], texts: Iterable[str]
    ) -> "Departments":
        """The departments of these people, and the names that texts may be."""
        names = {department_of(text) for text in texts}
        async with database.read() as connection:
            lines = await audience.lines(connection, app, users)
            return cls(lines, await audience.department_names(connection, app, names))

    def inside(self, users: Iterable[str], text: str) -> list[str]:
        """The people who are in a department or below it."""
        name = department_of(text)
        return [user for user in users if any(name in line for line in self.lines.get(user, ()))]

    def several(self, users: Sequence[str]) -> str:
        """People of one name, by their departments where these tell them apart."""
        places = {
            user: "/".join(line[0] for line in self.lines.get(user, ()) if line) for user in users
        }
        counts = Counter(places.values())
        return ", ".join(
            user if not place else place if counts[place] == 1 else f"{place} ({user})"
            for user, place in places.items()
        )


def department_of(text: str) -> str:
    """The department's own name, of a text that may begin with those above it."""
    return _LEVEL.split(text)[-1].strip()


async def resolved(
    database: Database, app: str, rows: Sequence[Recipient | Malformed]
) -> Sequence[Recipient | Malformed]:
    """The rows with the userids of those who are named by an address; a row whose cells are several people is malformed."""
    values: dict[Identifier, set[str]] = {}
    sound = [row for row in rows if isinstance(row, Recipient)]
    for row in rows:
        for kind, value in _cells(row):
            values.setdefault(kind, set()).add(value)
    if not values:
        return rows
    users: dict[_Cell, Sequence[str]] = {}
    departed: dict[_Cell, Sequence[str]] = {}
    for kind, of_kind in values.items():
        by_value = await addresses.find(database, app, kind, of_kind)
        users |= {(kind, value): userids for value, userids in by_value.items()}
        lost = {value for value, userids in by_value.items() if not userids}
        left = await addresses.find(database, app, kind, lost, left=True)
        departed |= {(kind, value): userids for value, userids in left.items() if userids}
    numbers = [
        value for (kind, value), userids in users.items() if kind == "job_number" and not userids
    ]
    whole = await _with_zeros(database, app, numbers)
    named = [
        (row.department, users[row.address])
        for row in sound
        if row.address and row.address[0] == "name"
    ]
    people = {user for text, userids in named if text or len(userids) > 1 for user in userids}
    departments = await Departments.read(database, app, people, (text for text, _ in named if text))
    match = _Matching(users, departed, whole, departments)
    return [
        match.person(row)
        if isinstance(row, Recipient)
        else row._replace(users=tuple(dict.fromkeys((*row.users, *match.anybody(row)))), cells=())
        for row in rows
    ]


def _cells(row: Recipient | Malformed) -> Sequence[_Cell]:
    """The cells of a row that may identify people of the directory."""
    if isinstance(row, Malformed):
        return row.cells
    return (*filter(None, [row.address]), *row.others)


async def _with_zeros(database: Database, app: str, numbers: Iterable[str]) -> dict[str, str]:
    """Job numbers that no person has → those of persons from which a spreadsheet may have dropped zeros."""
    longer = {
        number.zfill(length): number
        for number in numbers
        if number.isdecimal()
        for length in range(len(number) + 1, LONGEST_NUMBER + 1)
    }
    people_by_number = await addresses.find(database, app, "job_number", longer) if longer else {}
    return {longer[whole]: whole for whole, people in people_by_number.items() if people}


class _Matching(NamedTuple):
    """The directory, as far as rows ask for it.

    Attributes:
        users: cell → userids of those who have it.
        departed: cells that only people have who have left → their userids.
        whole: job number that no person has → that of one from which a spreadsheet may have dropped zeros.
    """

    users: Mapping[_Cell, Sequence[str]]
    departed: Mapping[_Cell, Sequence[str]]
    whole: Mapping[str, str]
    departments: Departments

    def anybody(self, row: Recipient | Malformed) -> list[str]:
        """All people that a cell of the row identifies, also those who have left."""
        cells = _cells(row)
        return [user for cell in cells for user in self.users[cell] or self.departed.get(cell, ())]

    def person(self, row: Recipient) -> Recipient | Malformed:
        """The recipient with their userid; a problem where the row is not one person's."""
        userids = self.users[row.address] if row.address else [row.userid]
        if not userids:
            return self._nobody(row)
        for cell in row.others:
            if not self.users[cell]:
                continue
            both = set(userids).intersection(self.users[cell])
            if not both:
                problem = different(row.written, spelled(*cell))
                return row.malformed(problem, "different", (*userids, *self.users[cell]))
            userids = sorted(both)
        if row.address and row.address[0] == "name" and row.department:
            inside = self.departments.inside(userids, row.department)
            if not inside and department_of(row.department) in self.departments.names:
                problem = elsewhere(row.words, row.department)
                return row.malformed(problem, "different", userids)
            userids = inside or userids
        if len(userids) > 1:
            assert row.address, "a userid is one person's"
            kind = row.address[0]
            several = self.departments.several(userids) if kind == "name" else ", ".join(userids)
            problem = en(
                'the {} "{}" is that of several people: {}',
                ADDRESS_WORDS[kind],
                row.written,
                several,
            )
            return row.malformed(problem, "several", userids)
        return row._replace(userid=userids[0])

    def _nobody(self, row: Recipient) -> Malformed:
        assert row.address, "a userid is not looked up"
        kind, value = row.address
        if row.address in self.departed:
            return row.malformed(departed(row.words), "left", self.anybody(row))
        words = ADDRESS_WORDS[kind], row.written
        problem = en('no person in the directory has the {} "{}"', *words)
        if kind == "job_number" and value in self.whole:
            problem += en(
                '; "{}" is there: Excel drops the zeros of a number, not of a text',
                self.whole[value],
            )
        return row.malformed(problem, "unknown", self.anybody(row))


def different(*values: str) -> str:
    """The problem of a row whose cells identify different people."""
    return en("{} are different people, and a line is one person", ", ".join(values))


def departed(words: str) -> str:
    """The problem of a row whose person has left."""
    return en("{} has left the organisation", words)


def elsewhere(words: str, department: str) -> str:
    """The problem of a row whose person is in another department."""
    return en("{} is not in {}", words, department)
