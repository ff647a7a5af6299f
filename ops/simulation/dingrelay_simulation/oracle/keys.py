"""Keys of Redis: each has an end."""

from collections.abc import Iterator

from dingrelay_simulation.oracle.evidence import Evidence, Violation


def check_keys(evidence: Evidence) -> Iterator[Violation]:
    """Redis holds no key without an end."""
    for key in evidence.keys_without_end:
        yield Violation("key", f"{key} has no end", key)
