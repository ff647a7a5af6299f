"""How much of the same the tests do: what suffices in the suite, many times as much for a night."""

import os
from typing import TypeVar

T = TypeVar("T")
THOROUGH = bool(os.environ.get("THOROUGH"))
"""`THOROUGH=1 make test` does all, for what is found once in a thousand times."""


def either(few: T, many: T) -> T:
    """The value for the plain suite, or for a thorough run."""
    return many if THOROUGH else few
