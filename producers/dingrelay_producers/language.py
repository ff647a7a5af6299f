"""The reader's language: English, or Chinese from the catalogue ``locale``.

Logs, records, JSON and what the client raises are always English, so that programs can
compare them. Only what is about to be shown to a person is said in their language: a command says its own
words by `tr`; a sentence that comes from elsewhere, as an error, a hint in a record or a campaign's reason
does, is said again by `translated`, which finds the template that it was made from.
"""

import gettext
import os
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from dingrelay_producers.reader_settings import asked

ENGLISH = "en"
CHINESE = "zh_CN"

VARIABLE = "DINGRELAY_LANGUAGE"
DOMAIN = "dingrelay"
FOLDER = Path(__file__).parent / "locale"

SENTENCE = "sentence"
"""The context, in the catalogue, of what is made in English and said again. It keeps what a command says
itself apart: some of that, such as ``{id} is {state}``, would be the template of anything."""

_SYSTEM = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first that is set counts, as POSIX has it."""

_LENGTH = re.compile(r"\d+ (?:d|h|min|s)(?: \d+ (?:h|min|s))?")
"""A length of time, as `cli.output.length` writes it."""

_DEEPEST = 4
"""How many sentences a sentence may hold in each other. None of ours needs more, and a hostile text
costs no more."""
_LONGEST = 4_000
"""Characters of a sentence that is looked up; what is longer is no sentence of ours."""

_spoken = ENGLISH


def chosen() -> str:
    """The language that the environment asks for: ``en`` or ``zh_CN``.

    ``DINGRELAY_LANGUAGE`` counts first, also from a file, then the system's own variables.
    """
    own = language_of(asked(VARIABLE))
    if own is not None:
        return own
    system = next((os.environ[name] for name in _SYSTEM if os.environ.get(name)), "")
    return language_of(system) or ENGLISH


def language_of(tag: str) -> str | None:
    """The language of a tag such as ``zh``, ``zh-CN`` or ``zh_CN.GBK``; None if it is not ours."""
    primary = re.split(r"[-_.@]", tag.strip().lower(), maxsplit=1)[0]
    return {"zh": CHINESE, "en": ENGLISH}.get(primary)


def accepted(header: str) -> str:
    """The language that an ``Accept-Language`` header likes best of ours; English if it likes none."""
    best, liking = ENGLISH, 0.0
    for each in header[:_LONGEST].split(","):
        tag, _, weight = each.partition(";")
        language = language_of(tag)
        if language is None:
            continue
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight.strip() else 1.0
        except ValueError:
            continue
        if liking < quality <= 1:
            best, liking = language, quality
    return best


@contextmanager
def spoken(language: str | None = None) -> Generator[None]:
    """Let `tr`, and the libraries that ask gettext, speak a language while the block runs.

    Args:
        language: ``en`` or ``zh_CN``; that of the environment if not given, unless standard output has no
            Chinese characters.
    """
    global _spoken  # noqa: PLW0603
    before, variable, domain = _spoken, os.environ.get("LANGUAGE"), gettext.textdomain()
    wanted = language or chosen()
    _spoken = wanted if language or _can_print(wanted) else ENGLISH
    # typer asks gettext, which looks here first, and takes any name that has no catalogue for English.
    os.environ["LANGUAGE"] = _spoken
    gettext.bindtextdomain(DOMAIN, FOLDER)
    gettext.textdomain(DOMAIN)
    try:
        yield
    finally:
        _spoken = before
        gettext.textdomain(domain)
        if variable is None:
            os.environ.pop("LANGUAGE", None)
        else:
            os.environ["LANGUAGE"] = variable


def now_spoken() -> str:
    """The language that is spoken here."""
    return _spoken


def tr(message: str, /, **values: object) -> str:
    """A message of a command's own in the language that is spoken.

    Args:
        message: English, and with ``{name}`` for each value. It stands in the catalogue, so it is
            given as a literal.
        values: what is put in.
    """
    spoken = _message(message, _spoken)
    return spoken.format(**values) if values else spoken


def translated(sentence: str, language: str | None = None) -> str:
    """A sentence that was made in English, in a language; as it is where the catalogue has nothing like it.

    Args:
        sentence: such as ``no job 1234: a wrong id, or its record has expired``.
        language: ``en`` or ``zh_CN``; the one that is spoken if not given.
    """
    language = language or _spoken
    if language == ENGLISH or len(sentence) > _LONGEST:
        return sentence
    # A list of errors has one in each line.
    return "\n".join(_line(line, language) for line in sentence.split("\n"))


@lru_cache(1_000)
def _line(sentence: str, language: str) -> str:
    return (sentence and _again(sentence, language, _DEEPEST)) or sentence


class _Template(NamedTuple):
    """A message with values, cut where they stand."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    message: str


def _again(sentence: str, language: str, depth: int) -> str | None:
    whole = _catalogue(language).pgettext(SENTENCE, sentence)
    if whole != sentence:
        return whole
    if _LENGTH.fullmatch(sentence):
        return re.sub("[a-z]+", lambda unit: _message(unit[0], language), sentence)
    if not depth:
        return None
    for template in _templates(language):
        values = _values(template, sentence)
        if values is not None:
            filled = {
                name: _again(value, language, depth - 1) or value for name, value in values.items()
            }
            return _put_in(_catalogue(language).pgettext(SENTENCE, template.message), filled)
    # An error names its field first: the rest is the sentence.
    head, colon, tail = sentence.partition(": ")
    if colon and (rest := _again(tail, language, depth - 1)):
        return f"{_again(head, language, 0) or head}：{rest}"
    return None


def _values(template: _Template, sentence: str) -> Mapping[str, str] | None:
    """What was put into a template so that it became the sentence; None if it was another one.

    Each value is the shortest that will do, found from the left in one pass: a hostile
    text costs no more time than another.
    """
    first, *between, last = template.literals
    if not sentence.startswith(first) or not sentence.endswith(last):
        return None
    rest = sentence[len(first) : len(sentence) - len(last)]
    values: list[str] = []
    for literal in between:
        # A value has a character at least.
        at = rest.find(literal, 1)
        if at < 0:
            return None
        values.append(rest[:at])
        rest = rest[at + len(literal) :]
    values.append(rest)
    found = dict(zip(template.names, values, strict=True))
    consistent = all(
        found[name] == value for name, value in zip(template.names, values, strict=True)
    )
    return found if consistent and all(values) else None


def _put_in(message: str, values: Mapping[str, str]) -> str:
    # The values are text already, however the message would write them.
    return "".join(
        literal + (values.get(name, "") if name else "")
        for literal, name, _, _ in Formatter().parse(message)
    )


@cache
def _templates(language: str) -> tuple[_Template, ...]:
    """Messages with values, those with most words of their own first: they are the more particular."""
    found: list[_Template] = []
    for message in _sentences(language):
        if "{" not in message:
            continue
        try:
            parsed = [(literal, name) for literal, name, _, _ in Formatter().parse(message)]
        except ValueError:
            continue
        names = tuple(name for _, name in parsed if name is not None)
        literals = [""]
        for literal, name in parsed:  # a doubled brace ends a literal without a name
            literals[-1] += literal
            if name is not None:
                literals.append("")
        # "{0}: {1}" would be the template of everything.
        if names and all(name.isidentifier() for name in names) and _words(literals):
            found.append(_Template(tuple(literals), names, message))
    return tuple(sorted(found, key=lambda template: -sum(map(len, template.literals))))


def _words(literals: list[str]) -> bool:
    return any(len(word) >= 3 for literal in literals for word in re.findall("[A-Za-z]+", literal))


def _message(message: str, language: str) -> str:
    if language == ENGLISH or not message:
        return message
    return _catalogue(language).gettext(message)


def _sentences(language: str) -> list[str]:
    # The standard library keeps what it has read here, and offers no other way to list it.
    catalogue: Mapping[object, str] = vars(_catalogue(language)).get("_catalog", {})
    head = f"{SENTENCE}\x04"  # how a .mo file spells a context
    return [
        message.removeprefix(head)
        for message in catalogue
        if isinstance(message, str) and message.startswith(head)
    ]


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    # A package without its catalogue still has all its words, in English.
    return gettext.translation(DOMAIN, FOLDER, [language], fallback=True)


def _can_print(language: str) -> bool:
    if language == ENGLISH:
        return True
    try:
        "中文，：".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
