"""Lists that come in pages, and may not end."""

from collections.abc import Hashable, Iterable

from dingrelay_workers.dingtalk.answer import MALFORMED
from dingrelay_workers.dingtalk.errors import Transient

MOST_BARREN = 20
"""Pages of one list that may bring nothing new: what an app may not see is perhaps left out of them."""


class Paging:
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
