"""How much of the same the tests do: what tells something in the suite, many times it for a night."""

import os
from typing import TypeVar

T = TypeVar("T")
THOROUGH = bool(os.environ.get("THOROUGH"))
"""`THOROUGH=1 make test` does all, for what is found once in a thousand times."""


def either(few: T, many: T) -> T:
    """What the suite takes, or what a thorough run does."""
    return many if THOROUGH else few
