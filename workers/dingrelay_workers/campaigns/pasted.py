"""Pasted people: userids, mobiles, e-mail addresses, job numbers or names, as the directory has them.

A text is a list, whose entries stand on lines or between commas, or a table that was copied from a spreadsheet. An
entry, and a row, is one person.
"""

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from dingrelay_producers.client.campaign_documents import Cause, Malformed
from dingrelay_producers.client.history_documents import KnownPerson
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.matching import (
    Departments,
    departed,
    department_of,
    different,
    elsewhere,
    resolved,
)
from dingrelay_workers.campaigns.recipients import HEADERS, Recipient, Rows, problem_of, read
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import addresses, audience

_SEPARATOR = re.compile(r"[,;，；、]")
_PARTS = re.compile(r"[\s()（）]+")
"""Stands between a name and the number or department beside it."""
_MOBILE = re.compile(r"(\+|00)?(86[- ]?)?1\d{2}[- ]?\d{4}[- ]?\d{4}", re.ASCII)
"""A mobile number, and no userid, though a userid may be spelled so."""
_HEADINGS = frozenset({*HEADERS, *(name for names in HEADERS.values() for name in names)})


class Entry(NamedTuple):
    """Names one person.

    Attributes:
        line: of the text, from 1.
        text: all of it.
        parts: its words, or its cells, each of which identifies that person, or names the department, where the whole
            does not.
    """

    line: int
    text: str
    parts: tuple[str, ...]


def rows(pasted: str, field_names: Collection[str] = ()) -> Rows | Iterator[Entry]:
    """The rows of a table under a header, whose other columns may be fields; or the entries of a list."""
    if "\t" in pasted:
        try:
            return read(io.BytesIO(pasted.encode(errors="surrogatepass")), field_names)
        except ContractError:
            pass  # without a header each cell of a row must identify the person by itself
    return entries(pasted)


def entries(pasted: str) -> Iterator[Entry]:
    """Split a text at line ends and commas; a line with tabs is one entry. A heading above the first is none."""
    first = True
    for number, line in enumerate(pasted.splitlines(), 1):
        cells = tuple(filter(None, (" ".join(cell.split()) for cell in line.split("\t"))))
        if len(cells) > 1:
            yield Entry(number, "\t".join(cells), cells)
            first = False
            continue
        for part in _SEPARATOR.split(line):
            if text := " ".join(part.split()):
                if not (first and text in _HEADINGS):
                    yield Entry(number, text, tuple(filter(None, _PARTS.split(text))))
                first = False


def count(pasted: str) -> int:
    """How many people a text names at most; what is there twice counts once."""
    return len(
        {
            (row.userid, row.address, row.department) if isinstance(row, Recipient) else row[1:]
            for row in rows(pasted)
        }
    )


async def resolve(
    database: Database, app: str, pasted: Sequence[Entry | Recipient | Malformed]
) -> Sequence[Recipient | Malformed]:
    """The people of rows or entries, one of each.

    An entry is the person that its whole text identifies, or else all of its parts together, such as name and mobile.
    Only where the directory was never synced is a part a userid that is spelled like one.
    """
    listed = [row for row in pasted if isinstance(row, Entry)]
    if not listed:
        return await resolved(database, app, [row for row in pasted if not isinstance(row, Entry)])
    users = await _users(database, app, listed)
    lost = [part for part, userids in users.items() if not userids]
    left = await _departed(database, app, lost)
    people = {
        user
        for entry in listed
        for part in (entry.text, *entry.parts)
        if len(entry.parts) > 1 or len(users[part]) > 1
        for user in users[part]
    }
    departments = await Departments.read(database, app, people, lost)
    return [_person(entry, users, departments, left) for entry in listed]


def entry_of(person: KnownPerson) -> str:
    """The entry that means this person: with their name where that is one word."""
    return f"{person.name} {person.userid}" if re.fullmatch(r"\w+", person.name) else person.userid


def meaning(pasted: str, line: int, entry: str, person: str) -> str:
    """The list with another entry in the place of one on a line; the rows of a table stay."""
    lines = pasted.splitlines()
    if not 0 < line <= len(lines) or isinstance(rows(pasted), Rows):
        return pasted
    parts = re.split(f"({_SEPARATOR.pattern})", lines[line - 1])
    if "\t" in entry:
        parts = [lines[line - 1]]
    lines[line - 1] = "".join(
        person if [named.text for named in entries(part)] == [entry] else part for part in parts
    )
    return "\n".join(lines)


async def without(database: Database, app: str, text: str, user: str) -> str:
    """The text without the rows and entries that name a person."""
    pasted = list[Entry | Recipient | Malformed](rows(text))
    people = await resolve(database, app, pasted)
    named = {
        at
        for at, (row, person) in enumerate(zip(pasted, people, strict=True))
        if (person.userid == user if isinstance(person, Recipient) else user in person.users)
        or (isinstance(row, Entry) and isinstance(person, Malformed) and user in row.parts)
    }
    if not named:
        return text
    if all(isinstance(row, Entry) for row in pasted):
        kept = (
            row.text for at, row in enumerate(pasted) if at not in named and isinstance(row, Entry)
        )
        return "\n".join(kept)
    lines = list(io.StringIO(text, newline=""))
    starts = [*(row.line for row in pasted), len(lines) + 1]
    gone = {line for at in named for line in range(starts[at], starts[at + 1])}
    return "".join(line for number, line in enumerate(lines, 1) if number not in gone)


def _person(
    entry: Entry,
    users: Mapping[str, frozenset[str]],
    departments: Departments,
    left: Mapping[str, Collection[str]],
) -> Recipient | Malformed:
    line, text, parts = entry
    if users[text] or not any(users[part] for part in parts):
        parts = (text,)
    places = [
        part for part in parts if not users[part] and department_of(part) in departments.names
    ]
    if len(places) < len(parts):
        parts = tuple(part for part in parts if part not in places)

    def malformed(problem: str, cause: Cause, people: Iterable[str] = ()) -> Malformed:
        return Malformed(line, problem, text=text, users=tuple(people), cause=cause)

    if absent := [part for part in parts if not users[part]]:
        words = dict.fromkeys((text, *entry.parts))
        anybody = sorted({user for word in words for user in users[word] or left.get(word, ())})
        return malformed(*_absence(absent[0], left, table="\t" in text), anybody)
    together = sorted(frozenset[str].intersection(*(users[part] for part in parts)))
    if not together:
        everyone = sorted({user for part in parts for user in users[part]})
        return malformed(different(*parts), "different", everyone)
    inside = together
    for place in places:
        inside = departments.inside(inside, place)
    if not inside:
        return malformed(elsewhere(", ".join(parts), ", ".join(places)), "different", together)
    if len(inside) > 1:
        problem = en("{} is the name of several people: {}", text, departments.several(inside))
        return malformed(problem, "several", inside)
    return Recipient(line, inside[0], address=("name", text))


def _absence(part: str, left: Collection[str], *, table: bool) -> tuple[str, Cause]:
    """Why a part is no person."""
    if part in left:
        return departed(part), "left"
    problem = en("{} is no person in the directory", part)
    return problem + en("; of a table copy the headings as well") if table else problem, "unknown"


async def _departed(
    database: Database, app: str, parts: Collection[str]
) -> Mapping[str, Collection[str]]:
    """The parts that are the name or an address of people who have left → their userids."""
    left: dict[str, set[str]] = {}
    for kind, parse in addresses.PARSERS.items():
        values = _parsed(parse, parts)
        by_value = await addresses.find(database, app, kind, set(values.values()), left=True)
        for part, value in values.items():
            if by_value[value]:
                left.setdefault(part, set()).update(by_value[value])
    return left


def _parsed(parse: Callable[[str], str], parts: Iterable[str]) -> Mapping[str, str]:
    """Parts that can be an identifier → as it is compared."""
    values: dict[str, str] = {}
    for part in parts:
        with suppress(ValueError):
            values[part] = parse(part)
    return values


def _is_userid(word: str) -> bool:
    looks_so = word.isascii() and "@" not in word and not _MOBILE.fullmatch(word)
    return looks_so and problem_of(word) is None


async def _users(
    database: Database, app: str, listed: Iterable[Entry]
) -> Mapping[str, frozenset[str]]:
    """Part, or whole text of an entry → the userids of those who have not left and have it as userid, address or name.

    Of those who have left, by their userids: a check says that they have.
    """
    parts = (part for entry in listed for part in (entry.text, *entry.parts))
    users: dict[str, frozenset[str]] = dict.fromkeys(parts, frozenset())
    for kind, parse in addresses.PARSERS.items():
        values = _parsed(parse, (part for part, userids in users.items() if not userids))
        by_value = await addresses.find(database, app, kind, set(values.values()))
        users |= {part: frozenset(by_value[value]) for part, value in values.items()}
    unknown: Collection[str] = [part for part, userids in users.items() if not userids]
    if await audience.was_synced(database, app):
        unknown = await audience.left_users(database, app, unknown)
    return users | {part: frozenset({part}) for part in unknown if _is_userid(part)}
