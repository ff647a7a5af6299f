"""The reader's language: English, or Chinese, from the catalogues ``locale``.

Logs, records, JSON and what the client raises are always English, so that programs can compare them. Only
what is about to be shown to a person is said in their language: a command says its own words by `tr`; a
sentence that comes from elsewhere, as an error, a hint in a record or a campaign's reason does, keeps its
template and its values (`dingrelay_tasks.sentence`) and is said again by `translated`.

The catalogue of English has the texts with a count, each with its forms for one and for more, as
``{count:,} {count:job|jobs}``. gettext's own plurals have one count a text; here are texts with two, and sentences whose
English is stored before anyone reads it.
"""

import gettext
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from string import Formatter

from dingrelay_producers.reader_settings import asked
from dingrelay_tasks.sentence import Sentence

ENGLISH = "en"
CHINESE = "zh_CN"

VARIABLE = "DINGRELAY_LANGUAGE"
DOMAIN = "dingrelay"
FOLDER = Path(__file__).parent / "locale"

SENTENCE = "sentence"
"""The context, in the catalogue, of what is made in English and said again. It keeps apart what a command
says itself: a value that happens to be one of its words is not translated."""

_SYSTEM = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first that is set counts, as POSIX has it."""

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)
"""The reader's language, so that one process can serve several at once."""


def chosen() -> str:
    """The language that the environment asks for: ``en`` or ``zh_CN``.

    ``DINGRELAY_LANGUAGE`` counts first, also from a file, then the system's own variables.
    """
    language = language_of(asked(VARIABLE))
    if language is not None:
        return language
    system = next((os.environ[name] for name in _SYSTEM if os.environ.get(name)), "")
    return language_of(system) or ENGLISH


def language_of(tag: str) -> str | None:
    """The language of a tag such as ``zh``, ``zh-CN`` or ``zh_CN.GBK``; None if it is not ours."""
    primary = re.split(r"[-_.@]", tag.strip().lower(), maxsplit=1)[0]
    return {"zh": CHINESE, "en": ENGLISH}.get(primary)


def accepted(header: str | None) -> str:
    """The language that an ``Accept-Language`` header likes best of ours; English if it likes none.

    A caller without the header, as curl is, gets the language of the environment.
    """
    return _liked(header) if header else chosen()


@lru_cache(maxsize=100)
def _liked(header: str) -> str:
    best, liking = ENGLISH, 0.0
    for choice in header[:4_000].split(","):
        tag, _, weight = choice.partition(";")
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
    """Let `tr` and `translated` speak a language while the block runs, in this thread or task.

    Args:
        language: ``en`` or ``zh_CN``; that of the environment if not given, unless standard output has no
            Chinese characters.
    """
    reader_language = language or chosen()
    token = _spoken.set(reader_language if language or _can_print(reader_language) else ENGLISH)
    try:
        yield
    finally:
        _spoken.reset(token)


def current_language() -> str:
    """The language that is spoken here."""
    return _spoken.get()


def tr(message: str, /, **values: object) -> str:
    """A message of a command's own in the language that is spoken.

    Args:
        message: English, and with ``{name}`` for each value. It stands in the catalogue, so it is
            given as a literal.
        values: what is put in.
    """
    spoken = _catalogue(current_language()).gettext(message) if message else message
    return _FORMS.format(spoken, **values) if values else spoken


def translated(text: str, language: str | None = None) -> str:
    """A text that was made in English, in a language; as it is where the catalogue does not have it.

    A `Sentence` is translated by its template, and so are the sentences among its values; a state is not.

    Args:
        text: such as ``en("no job {}: a wrong id, or its record has expired", job_id)``.
        language: ``en`` or ``zh_CN``; the one that is spoken if not given.
    """
    language = language or current_language()
    if not isinstance(text, Sentence):
        return _catalogue(language).pgettext(SENTENCE, text)
    template = _catalogue(language).pgettext(SENTENCE, text.template)
    values = (
        translated(value, language)
        if isinstance(value, str) and not isinstance(value, Enum)
        else value
        for value in text.values
    )
    return _FORMS.format(template, *values) if text.values else template


class _Forms(Formatter):
    """Formats, beside all that `str.format` does, ``{count:job|jobs}``: the first for 1, the second for any other."""

    def format_field(self, value: object, format_spec: str) -> str:
        one, bar, more = format_spec.partition("|")
        if not bar:
            return format(value, format_spec)
        return one if value == 1 else more


_FORMS = _Forms()


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    # A package without its catalogue still has all its words, in English.
    catalogue = gettext.translation(DOMAIN, FOLDER, [language], fallback=True)
    if language != ENGLISH:
        catalogue.add_fallback(_CataloguesOfKinds(language))
    return catalogue


class _CataloguesOfKinds(gettext.NullTranslations):
    """The catalogues of packages that bring kinds of jobs, opened with the first text that is not in ours.

    Such a package has its own beside its modules, as ``locale/zh_CN/LC_MESSAGES/messages.mo``.
    """

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    @cached_property
    def _catalogues(self) -> list[gettext.NullTranslations]:
        from dingrelay_tasks.packaged_kinds import packaged_kinds  # noqa: PLC0415  # it searches all packages

        modules = (point.module.partition(".")[0] for point in packaged_kinds().values())
        specs = filter(None, map(find_spec, dict.fromkeys(modules)))
        return [
            gettext.translation(
                "messages", Path(folder) / "locale", [self._language], fallback=True
            )
            for spec in specs
            for folder in spec.submodule_search_locations or ()
        ]

    def gettext(self, message: str) -> str:
        """The text in the first catalogue that has it, or itself."""
        texts = (catalogue.gettext(message) for catalogue in self._catalogues)
        return next((text for text in texts if text != message), message)

    def pgettext(self, context: str, message: str) -> str:
        """The same; their catalogues need no contexts."""
        return self.gettext(message)


def _can_print(language: str) -> bool:
    if language == ENGLISH:
        return True
    try:
        "中文，：".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
