"""Pasted people: userids, mobiles, e-mail addresses, job numbers or names, as the directory has them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import select

from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_tasks.addresses import PARSERS
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.recipients import Recipient, problem_of
from dingrelay_workers.database.database import Database, chunks
from dingrelay_workers.directory import addresses
from dingrelay_workers.directory.models import UserRow

_SEPARATOR = re.compile(r"[,;，；、]")
_MOBILE = re.compile(r"(\+|00)?(86[- ]?)?1\d{2}[- ]?\d{4}[- ]?\d{4}", re.ASCII)
"""What is a mobile number and no userid, though a userid may be spelled so."""


class PastedEntry(NamedTuple):
    """What names one person, or several with blanks between them.

    Attributes:
        line: of the text, from 1.
    """

    line: int
    text: str


def entries(pasted: str) -> Iterator[PastedEntry]:
    """What stands between line ends and commas."""
    for number, line in enumerate(pasted.splitlines(), 1):
        for part in _SEPARATOR.split(line):
            if text := " ".join(part.split()):
                yield PastedEntry(number, text)


async def resolve(
    database: Database, app: str, pasted: Sequence[PastedEntry]
) -> list[Recipient | Malformed]:
    """The people of the entries.

    An entry is one person by its whole text, or by all of its words together, such as name and mobile; otherwise each of
    its words is a person. A word that the directory does not know is a userid, unless none is spelled like that.
    """
    known = await _known(database, app, {word for each in pasted for word in _words(each)})
    return [person for entry in pasted for person in _people(entry, known)]


async def without(database: Database, app: str, text: str, user: str) -> str:
    """The text without what names a person; of several in one entry the others stay by their userids."""
    pasted = list(entries(text))
    known = await _known(database, app, {word for each in pasted for word in _words(each)})
    kept: list[str] = []
    for entry in pasted:
        userids = [each.userid for each in _people(entry, known) if isinstance(each, Recipient)]
        kept += [each for each in userids if each != user] if user in userids else [entry.text]
    return text if kept == [entry.text for entry in pasted] else "\n".join(kept)


def _words(entry: PastedEntry) -> set[str]:
    return {entry.text, *entry.text.split(" ")}


def _people(
    entry: PastedEntry, known: dict[str, frozenset[str]]
) -> Iterator[Recipient | Malformed]:
    words = entry.text.split(" ")
    together = frozenset[str].intersection(*(known[word] for word in words))
    for userids in (known[entry.text], together):
        if len(userids) == 1:
            yield Recipient(entry.line, next(iter(userids)))
            return
    for word in [entry.text] if known[entry.text] else words:
        yield _person(entry.line, word, known[word])


def _person(line: int, word: str, userids: frozenset[str]) -> Recipient | Malformed:
    match sorted(userids):
        case [userid]:
            return Recipient(line, userid)
        case []:
            is_userid = word.isascii() and "@" not in word and not _MOBILE.fullmatch(word)
            if is_userid and problem_of(word) is None:
                return Recipient(line, word)
            return Malformed(line, en("{} is no person in the directory", word))
        case several:
            found = ", ".join(several)
            return Malformed(line, en("{} is the name of several people: {}", word, found))


async def _known(database: Database, app: str, words: Iterable[str]) -> dict[str, frozenset[str]]:
    """Word → the userids of those who have not left and are called so: as userid, by an address or by name."""
    found: dict[str, frozenset[str]] = dict.fromkeys(words, frozenset())
    here = (UserRow.app == app, UserRow.left_at.is_(None))
    async with database.read() as connection:
        for some in chunks(found):
            userids = select(UserRow.userid).where(*here, UserRow.userid.in_(some))
            found |= {userid: frozenset({userid}) for userid in await connection.scalars(userids)}
    for kind, parse in PARSERS.items():
        asked: dict[str, str] = {}
        for word in (word for word, userids in found.items() if not userids):
            try:
                asked[word] = parse(word)
            except ValueError:
                continue
        by_address = await addresses.find(database, app, kind, set(asked.values()))
        found |= {word: frozenset(by_address[address]) for word, address in asked.items()}
    async with database.read() as connection:
        for some in chunks([word for word, userids in found.items() if not userids]):
            names = select(UserRow.name, UserRow.userid).where(*here, UserRow.name.in_(some))
            for name, userid in await connection.execute(names):
                found[str(name)] |= {userid}
    return found
