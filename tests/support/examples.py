"""How many examples tests try, and what hypothesis draws: JSON of any shape, and objects in which some names are likely."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
THOROUGH = bool(os.environ.get("THOROUGH"))
"""`THOROUGH=1 make test` does all, for what is found once in a thousand times."""


def either(few: T, many: T) -> T:
    """The value for the plain suite, or for a thorough run."""
    return many if THOROUGH else few


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TEXTS = st.text(st.characters(exclude_categories=[]))
"""Halves of surrogate pairs too, which JSON can spell and UTF-8 can't."""


def json_values(
    names: Sequence[str] = (), scalars: st.SearchStrategy[Any] = SCALARS, *, leaves: int = 8
) -> st.SearchStrategy[Any]:
    """Scalars, lists and objects of them; the fields of objects have these names, or any."""
    named = st.sampled_from(names) if names else st.text(max_size=8)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(named, inner, max_size=4),
        max_leaves=leaves,
    )
