"""Marks in the source, beside behaviours that mutations take out: which of them a run reached (`mutations.py`)."""

MARKS: set[str] = set()
"""Names of mutations that would have made a difference, as Python code noted them."""
KEY = "{simulation}reached"
"""Key of a set in Redis of those that scripts noted."""
PYTHON = "__import__('dingrelay_simulation.reached', fromlist=['mark']).mark('NAME')"
LUA = f"redis.pcall('SADD', '{KEY}', 'NAME')"
"""Expression that stands in a source for the word `REACHED`, and is true."""


def mark(name: str) -> bool:
    """Note that a behaviour was reached."""
    MARKS.add(name)
    return True
