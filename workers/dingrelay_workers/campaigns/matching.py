"""Matches rows with people of the directory: a row is one person, whichever of its cells identifies them."""

from collections.abc import Iterable, Mapping, Sequence

from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.recipients import ADDRESS_WORDS, Recipient
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import addresses
from dingrelay_workers.directory.addresses import Identifier

LONGEST_NUMBER = 12
"""Digits of a job number that is looked for with zeros before it."""

_Cell = tuple[Identifier, str]


async def resolved(
    database: Database, app: str, rows: Sequence[Recipient | Malformed]
) -> Sequence[Recipient | Malformed]:
    """The rows with the userids of those who are named by an address; a row whose cells are several people is malformed."""
    values: dict[Identifier, set[str]] = {}
    for row in rows:
        if isinstance(row, Recipient):
            for kind, value in (*filter(None, [row.address]), *row.others):
                values.setdefault(kind, set()).add(value)
    if not values:
        return rows
    users: dict[_Cell, Sequence[str]] = {
        (kind, value): userids
        for kind, of_kind in values.items()
        for value, userids in (await addresses.find(database, app, kind, of_kind)).items()
    }
    lost = [
        value for (kind, value), userids in users.items() if kind == "job_number" and not userids
    ]
    whole = await _with_zeros(database, app, lost)
    return [_person(row, users, whole) if isinstance(row, Recipient) else row for row in rows]


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


def _person(
    row: Recipient, users: Mapping[_Cell, Sequence[str]], whole: Mapping[str, str]
) -> Recipient | Malformed:
    """The recipient with their userid; a problem where the row is not one person's."""
    userids = users[row.address] if row.address else [row.userid]
    if not userids:
        assert row.address, "a userid is not looked up"
        kind, value = row.address
        problem = en('no person in the directory has the {} "{}"', ADDRESS_WORDS[kind], value)
        if kind == "job_number" and value in whole:
            problem += en(
                '; "{}" is there: Excel drops the zeros of a number, not of a text', whole[value]
            )
        return row.malformed(problem)
    for cell in row.others:
        if not users[cell]:
            continue
        both = set(userids).intersection(users[cell])
        if not both:
            value = row.address[1] if row.address else row.userid
            return row.malformed(different(value, cell[1]), (*userids, *users[cell]))
        userids = sorted(both)
    if len(userids) > 1:
        assert row.address, "a userid is one person's"
        kind, value = row.address
        several = ", ".join(userids)
        problem = en(
            'the {} "{}" is that of several people: {}', ADDRESS_WORDS[kind], value, several
        )
        return row.malformed(problem, userids)
    return Recipient(row.line, userids[0], row.fields)


def different(*values: str) -> str:
    """The problem of a row whose cells identify different people."""
    return en("{} are different people, and a line is one person", ", ".join(values))
