"""Reading a successful answer whose fields may be missing or of another type than documented."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError, Transient

MALFORMED = "malformed_answer"
"""Our code for a success that lacks what it should tell."""

_T = TypeVar("_T")


class Answer:
    """An object in an answer of DingTalk's.

    Every accessor takes what DingTalk is careless about (`lenient.py`), and raises for anything
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
            for entry in lenient.items(self._content.get(name))
        ]

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """The objects in this list as they are; none if the field is absent."""
        return [self._mapping(name, entry) for entry in lenient.items(self._content.get(name))]

    def text(self, name: str, default: str | None = None) -> str:
        """The text in this field; it must not be empty unless there is a default."""
        value = self._content.get(name)
        if value is None or value == "":
            if default is None:
                raise self._malformed(name)
            return default
        return self._read(lenient.text, name, value)

    def texts(self, name: str) -> list[str]:
        """The texts in this list; none if the field is absent."""
        value = self._content.get(name)
        if value == "":
            # A list that holds the empty text would count as one entry.
            raise self._malformed(name)
        return self._read(lenient.texts, name, value)

    def numbers(self, name: str) -> list[int]:
        """The whole numbers in this list; none if the field is absent."""
        return self._read(lenient.integers, name, self._content.get(name))

    def flag(self, name: str) -> bool:
        """Whether this field is true; false if it is absent."""
        value = self._content.get(name)
        return value is not None and self._read(lenient.boolean, name, value)

    def number(self, name: str) -> int:
        """The whole number in this field."""
        return self._read(lenient.integer, name, self._content.get(name))

    def _read(self, reader: Callable[[Any], _T], name: str, value: object) -> _T:
        try:
            return reader(value)
        except lenient.Unreadable:
            raise self._malformed(name) from None

    def _mapping(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._malformed(name)
        return value

    def _malformed(self, name: str) -> DingTalkError:
        error = Ambiguous if self._api.changes else Transient
        return error(MALFORMED, f"{name} is missing in a successful answer, or of a wrong type")


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
        known = len(self._ids)
        self._ids.update(ids)
        self._barren += len(self._ids) == known
        if place in self._places or self._barren > MOST_BARREN:
            raise Transient(MALFORMED, "the pages of a list lead back, or bring nothing new")
        self._places.add(place)
