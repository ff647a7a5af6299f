"""English text for people that can still be translated: a template and the values that are put into it."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

if TYPE_CHECKING:
    from pydantic import SerializationInfo


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
        printable = tuple(
            str(value) if isinstance(value, BaseException) else value for value in values
        )
        text = super().__new__(cls, template.format(*printable) if printable else template)
        text.template, text.values = template, printable
        return text

    def __str__(self) -> str:
        """The sentence itself, so that ``str(error)`` keeps it."""
        return self

    def __add__(self, more: str) -> "Sentence":
        """Both as one sentence, of which each part is translated for itself."""
        return Sentence("{}{}", self, more)

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Arguments from which a copy is made."""
        return self.template, *self.values


def en(template: str, /, *values: Any) -> Sentence:
    """A sentence, marked for the catalogue: ``en("no job {}", job_id)``. The template is a literal."""
    return Sentence(template, *values)


def joined(separator: str, parts: Iterable[str]) -> Sentence:
    """Sentences in a row, each of which is translated for itself."""
    sentences = list(parts)
    return Sentence(separator.join(["{}"] * len(sentences)), *sentences)


def of_library(message: str) -> Sentence:
    """A sentence of Python's own, such as ``Expecting ':' delimiter``: what it quotes are its values."""
    return Sentence(_QUOTED.sub("{}", message), *_QUOTED.findall(message))


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\(.*\)|[{}]")


def not_json(error: ValueError | RecursionError) -> Sentence:
    """The error of a text that `json` refuses."""
    if not isinstance(error, json.JSONDecodeError):
        return en("is not JSON: a number or a depth out of bounds")
    what = of_library(error.msg.rstrip(": "))
    if error.lineno == 1:
        return en("is not JSON: {} at column {}", what, error.colno)
    return en("is not JSON: {} at line {}, column {}", what, error.lineno, error.colno)


def writable(text: str, encoding: str = "utf-8") -> str:
    """A text as the encoding can carry it: what it quotes may be half of a character."""
    if isinstance(text, Sentence) and text.values:
        values = (
            writable(value, encoding) if isinstance(value, str) else value for value in text.values
        )
        return Sentence(text.template, *values)
    return text.encode(encoding, "backslashreplace").decode()


class _KeptValidator:
    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415  # help and errors need none of it

        return core_schema.no_info_wrap_validator_function(
            lambda text, validate: text if isinstance(text, Sentence) else validate(text),
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _in_language, info_arg=True, return_schema=core_schema.str_schema()
            ),
        )


TRANSLATE = "translate"
"""In the context of a document's serialisation: a function that translates its sentences."""


def _in_language(text: str, info: "SerializationInfo") -> str:
    context = info.context
    return cast("str", context[TRANSLATE](text)) if context else text


Kept = Annotated[str, _KeptValidator()]
"""A text of a document that stays a `Sentence` if it is one; pydantic would make it a plain `str`."""

MADE_OF = "made_of"
"""The key beside the texts of an error, in a record, for what they were made of. No document shows it."""
_SEPARATOR = "\x1f"
"""Between a stored text and what it was made of."""


def with_parts(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error as JSON values that keeps what its sentences were made of."""
    made_of = {
        name: parts_of_text for name, text in error.items() if (parts_of_text := _parts(text))
    }
    return {**error, MADE_OF: made_of} if made_of else dict(error)


def from_parts(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error as `with_parts` made it, with its sentences."""
    restored = dict(error)
    made_of = restored.pop(MADE_OF, None)
    if isinstance(made_of, Mapping):
        for name, parts in cast("Mapping[str, Any]", made_of).items():
            restored[name] = _sentence(parts, restored.get(name))
    return restored


def to_text(text: str) -> str:
    """A text as it is stored in one column: English first."""
    parts = _parts(text)
    return f"{text}{_SEPARATOR}{json.dumps(parts, ensure_ascii=False)}" if parts else text


def from_text(stored: str) -> str:
    """A text as `to_text` made it; any other as it is."""
    text, _, parts = stored.rpartition(_SEPARATOR)
    try:
        sentence = _sentence(json.loads(parts), text) if text else stored
    except ValueError:
        return stored
    return sentence if isinstance(sentence, Sentence) else stored


def _parts(text: object) -> list[Any] | None:
    """The template and the values of a sentence, as JSON values; None of a text without values."""
    if not isinstance(text, Sentence) or not text.values:
        return None
    return [
        text.template,
        *(
            _parts(value) or value if isinstance(value, str | int | float | None) else str(value)
            for value in text.values
        ),
    ]


def _sentence(parts: Any, text: Any) -> Any:
    """The sentence of these parts, if it is this text; one of both may have been changed."""
    try:
        template, *values = parts
        sentence = Sentence(
            template,
            *(_sentence(value, None) if isinstance(value, list) else value for value in values),
        )
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return text
    return sentence if text is None or sentence == text else text
