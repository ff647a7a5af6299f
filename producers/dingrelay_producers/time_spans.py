"""Lengths of time, as people read them."""

from dingrelay_producers.language import translated
from dingrelay_tasks.sentence import Sentence, en, joined

UNITS = ((en("{} d"), 86_400), (en("{} h"), 3_600), (en("{} min"), 60), (en("{} s"), 1))
"""Units of time and their seconds, the largest first."""


def length(seconds: float) -> str:
    """A length of time in the language that is spoken."""
    return translated(span(seconds))


def span(seconds: float) -> Sentence:
    """A length of time, in the two largest units that it has: ``45 s``, ``3 h 20 min``, ``2 d 4 h``."""
    left = max(0, round(seconds))
    if left < UNITS[-2][1]:
        return Sentence(UNITS[-1][0], left)
    parts: list[tuple[int, str]] = []
    for unit, size in UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
        if len(parts) == 2:
            break
    return joined(" ", (Sentence(unit, count) for count, unit in parts if count))
