"""Pasted people: userids, mobiles, e-mail addresses, job numbers or names, as the directory has them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import select

from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_tasks.addresses import PARSERS
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.recipients import Recipient, problem_of
from dingrelay_workers.database.database import Database, rows_among
from dingrelay_workers.directory import addresses, audience
from dingrelay_workers.directory.models import UserRow

_SEPARATOR = re.compile(r"[,;，；、]")
_MOBILE = re.compile(r"(\+|00)?(86[- ]?)?1\d{2}[- ]?\d{4}[- ]?\d{4}", re.ASCII)
"""A mobile number, and no userid, though a userid may be spelled so."""


PastedEntry = tuple[int, str]
"""A line of the text, from 1, and what names one person there, or several with blanks between them."""


def entries(pasted: str) -> Iterator[PastedEntry]:
    """Split a text at line ends and commas."""
    for number, line in enumerate(pasted.splitlines(), 1):
        for part in _SEPARATOR.split(line):
            if text := " ".join(part.split()):
                yield number, text


async def resolve(
    database: Database, app: str, pasted: Sequence[PastedEntry]
) -> list[Recipient | Malformed]:
    """The people of the entries.

    An entry is one person by its whole text, or by all of its words together, such as name and mobile; otherwise each of
    its words is a person. Only where the directory was never synced is any word a userid that is spelled like one.
    """
    userids_by_word = await _known(database, app, pasted)
    several = {user for userids in userids_by_word.values() if len(userids) > 1 for user in userids}
    async with database.read() as connection:
        places = await audience.places(connection, app, several)
    return [person for entry in pasted for person in _people(entry, userids_by_word, places)]


async def without(database: Database, app: str, text: str, user: str) -> str:
    """The text without what names a person; of several in one entry the others stay by their userids."""
    pasted = list(entries(text))
    userids_by_word = await _known(database, app, pasted)
    if userids_by_word.get(user) == frozenset():
        userids_by_word[user] = frozenset(
            {user}
        )  # who is in no directory any more, unless the word means another person
    lines: list[str] = []
    for line, entry in pasted:
        people = _people((line, entry), userids_by_word, {})
        userids = [person.userid for person in people if isinstance(person, Recipient)]
        lines += [userid for userid in userids if userid != user] if user in userids else [entry]
    return text if lines == [named for _, named in pasted] else "\n".join(lines)


def _people(
    entry: PastedEntry, known: Mapping[str, frozenset[str]], places: Mapping[str, str]
) -> Iterator[Recipient | Malformed]:
    line, text = entry
    words = text.split(" ")
    together = frozenset[str].intersection(*(known[word] for word in words))
    for userids in (known[text], together):
        if len(userids) == 1:
            yield Recipient(line, next(iter(userids)))
            return
    for word in [text] if known[text] else words:
        match sorted(known[word]):
            case [userid]:
                yield Recipient(line, userid)
            case []:
                yield Malformed(line, en("{} is no person in the directory", word), text=word)
            case several:
                namesakes = ", ".join(
                    f"{userid} {places.get(userid, '')}".strip() for userid in several
                )
                problem = en("{} is the name of several people: {}", word, namesakes)
                yield Malformed(line, problem, text=word, users=tuple(several))


def _is_userid(word: str) -> bool:
    looks_so = word.isascii() and "@" not in word and not _MOBILE.fullmatch(word)
    return looks_so and problem_of(word) is None


async def _known(
    database: Database, app: str, pasted: Sequence[PastedEntry]
) -> dict[str, frozenset[str]]:
    """Word, or whole text of an entry → the userids of those who have not left and are called so: as userid, by an address or by name.

    Of those who have left, by their userids: a check says that they have.
    """
    words = (word for _, text in pasted for word in (text, *text.split(" ")))
    userids_by_word: dict[str, frozenset[str]] = dict.fromkeys(words, frozenset())
    present = (UserRow.app == app, UserRow.left_at.is_(None))
    async with database.read() as connection:
        userids = select(UserRow.userid).where(*present)
        for (userid,) in await rows_among(connection, userids, UserRow.userid, userids_by_word):
            userids_by_word[userid] = frozenset({userid})
    for kind, parse in PARSERS.items():
        address_by_word: dict[str, str] = {}
        for word in (word for word, userids in userids_by_word.items() if not userids):
            try:
                address_by_word[word] = parse(word)
            except ValueError:
                continue
        by_address = await addresses.find(database, app, kind, set(address_by_word.values()))
        userids_by_word |= {
            word: frozenset(by_address[address]) for word, address in address_by_word.items()
        }
    async with database.read() as connection:
        names = select(UserRow.name, UserRow.userid).where(*present)
        sought = [word for word, userids in userids_by_word.items() if not userids]
        for name, userid in await rows_among(connection, names, UserRow.name, sought):
            userids_by_word[str(name)] |= {userid}
    unknown: Collection[str] = [word for word, userids in userids_by_word.items() if not userids]
    if await audience.was_synced(database, app):
        unknown = await audience.left_users(database, app, unknown)
    return userids_by_word | {word: frozenset({word}) for word in unknown if _is_userid(word)}
