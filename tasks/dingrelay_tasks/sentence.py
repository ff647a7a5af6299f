"""English text for people that can still be translated: a template and the values that are put into it."""

from collections.abc import Iterable
from typing import Any, Self


class Sentence(str):  # noqa: SLOT000  a str has no room for slots
    """English text that keeps what it was made of.

    It is compared, logged and stored as the `str` that it is. Where it is shown to a person, the template is
    translated and the values are put in again (`dingrelay_producers.language.translated`).

    Attributes:
        template: English, with ``{}`` for each value. It stands in the catalogue.
        values: what is put in. A value may be a sentence itself.
    """

    template: str
    values: tuple[Any, ...]

    def __new__(cls, template: str, *values: Any) -> Self:
        """The text in English; without values the template is the text."""
        # `str` of an exception is the sentence that it was raised with.
        kept = tuple(str(each) if isinstance(each, BaseException) else each for each in values)
        made = super().__new__(cls, template.format(*kept) if kept else template)
        made.template, made.values = template, kept
        return made

    def __str__(self) -> str:
        """The sentence itself, so that ``str(error)`` keeps it."""
        return self

    def __add__(self, more: str) -> "Sentence":
        """Both as one sentence, of which each part is translated for itself."""
        return Sentence("{}{}", self, more)

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What a copy is made of."""
        return self.template, *self.values


en = Sentence
"""Marks a sentence for the catalogue: ``en("no job {}", job_id)``. The template is a literal."""


def joined(separator: str, parts: Iterable[str]) -> Sentence:
    """Sentences in a row, each of which is translated for itself."""
    found = list(parts)
    return Sentence(separator.join(["{}"] * len(found)), *found)
