"""How leniently a successful answer is read, whichever API it comes from.

DingTalk's own samples hold integers and booleans as strings and one object where a list is meant
(API §0), so both are taken. What can't be read is an error, never a guess: a guess would end in
the directory, or as the id of a call.
"""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar, cast

from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError, Transient

_LARGEST = 2**63 - 1
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Unreadable(Exception):
    """A value is not of its field's type. The message never quotes it."""


def integer(value: Any) -> int:
    """A number of at most 64 bits, also as a string.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, str):
        if len(value) > 20:
            raise Unreadable("no integer of 64 bits")
        try:
            number = int(value)
        except ValueError:
            # Python's own message quotes the value.
            raise Unreadable("no integer") from None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    else:
        raise Unreadable("no integer")
    if not -_LARGEST <= number <= _LARGEST:
        raise Unreadable("no integer of 64 bits")
    return number


def boolean(value: Any) -> bool:
    """A boolean, also as a string or a number.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str) and (meaning := _BOOLEANS.get(str(value).lower())) is not None:
        return meaning
    raise Unreadable("no boolean")


def text(value: Any) -> str:
    """A string that any database takes; numbers are taken as written.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unreadable("no text")
        return str(value)
    written = value if value.isascii() else value.encode("utf-8", "replace").decode()
    return written.replace("\0", "")


def integers(value: Any) -> list[int]:
    """A list of numbers, also as JSON in a string, or one number alone.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unreadable("no list") from None
    return [integer(item) for item in items(value)]


def texts(value: Any) -> list[str]:
    """A list of strings, or one string alone.

    Raises:
        Unreadable: it is none.
    """
    return [text(item) for item in items(value)]


def structure(value: Any) -> Any:
    """Any JSON value, made of texts that any database takes.

    Raises:
        Unreadable: it holds a number that JSON does not know.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable("no JSON number")
    if isinstance(value, list):
        return [structure(item) for item in value]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {text(name): structure(item) for name, item in pairs.items()}
    return value


def items(value: Any) -> list[Any]:
    """A list; a lone value counts as a list of one, none as an empty list (API §0)."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


MALFORMED = "malformed_answer"
"""Our code for a success that lacks what it should hold."""

_T = TypeVar("_T")


class Answer:
    """An object in an answer of DingTalk's.

    Every accessor takes what DingTalk is careless about, and raises for anything
    else: `Ambiguous` after a call that changes something, since it was carried out, `Transient`
    after one that reads.
    """

    def __init__(self, api: Api, content: Mapping[str, Any]) -> None:
        self._api = api
        self._content = content

    def part(self, name: str) -> "Answer":
        """The object in this field."""
        return Answer(self._api, self._mapping(name, self._content.get(name)))

    def parts(self, name: str) -> list["Answer"]:
        """The objects in this list; none if the field is absent."""
        return [
            Answer(self._api, self._mapping(name, entry))
            for entry in items(self._content.get(name))
        ]

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """The objects in this list as they are; none if the field is absent."""
        return [self._mapping(name, entry) for entry in items(self._content.get(name))]

    def text(self, name: str, default: str | None = None) -> str:
        """The text in this field; it must not be empty unless there is a default."""
        value = self._content.get(name)
        if value is None or value == "":
            if default is None:
                raise self._malformed(name)
            return default
        return self._read_field(text, name, value)

    def texts(self, name: str) -> list[str]:
        """The texts in this list; none if the field is absent."""
        value = self._content.get(name)
        if value == "":
            # A list that holds the empty text would count as one entry.
            raise self._malformed(name)
        return self._read_field(texts, name, value)

    def numbers(self, name: str) -> list[int]:
        """The whole numbers in this list; none if the field is absent."""
        return self._read_field(integers, name, self._content.get(name))

    def flag(self, name: str) -> bool:
        """Whether this field is true; false if it is absent."""
        value = self._content.get(name)
        return value is not None and self._read_field(boolean, name, value)

    def number(self, name: str) -> int:
        """The whole number in this field."""
        return self._read_field(integer, name, self._content.get(name))

    def _read_field(self, reader: Callable[[Any], _T], name: str, value: object) -> _T:
        try:
            return reader(value)
        except Unreadable:
            raise self._malformed(name) from None

    def _mapping(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._malformed(name)
        return value

    def _malformed(self, name: str) -> DingTalkError:
        error = Ambiguous if self._api.changes else Transient
        return error(
            MALFORMED, en("{} is missing in a successful answer, or of a wrong type", name)
        )


MOST_BARREN = 20
"""Pages of one list that may bring nothing new: what an app may not see is perhaps left out of them."""


class AnswerPages:
    """One list, whose pages lead to the next one: back to an earlier one, or on for ever, is an error.

    Each page is a call, which may count against the month.
    """

    def __init__(self, first: Hashable) -> None:
        """Nothing is read yet; `first` is where the first page begins."""
        self._places = {first}
        self._ids: set[str] = set()
        self._barren = 0

    def took(self, ids: Iterable[str], place: Hashable) -> None:
        """Take note of a page.

        Args:
            ids: what is on it.
            place: where the next page begins, of a page that is not the last.

        Raises:
            Transient: the list does not end.
        """
        ids_before = len(self._ids)
        self._ids.update(ids)
        self._barren += len(self._ids) == ids_before
        if place in self._places or self._barren > MOST_BARREN:
            raise Transient(MALFORMED, "the pages of a list lead back, or bring nothing new")
        self._places.add(place)
