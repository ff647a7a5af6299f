"""The directory equals the organisation; no person who is there is marked as left."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation

MARGIN = 0.1
"""Seconds by which a sync may begin to read before its row says so, or end after it."""


def check_directory(evidence: Evidence) -> Iterator[Violation]:
    """A sync without changes or faults brings the directory to what the organisation is."""
    directories = evidence.directories
    if directories.synced:
        status = evidence.statuses.get(directories.synced)
        if status is None or status.state != State.DONE:
            text = f"the last sync is {status and status.state}: {status and status.error}"
            yield Violation("unsynced", text, directories.synced)
            return
        true, stored = directories.true, directories.stored
        for one in sorted(true.keys() | stored.keys(), key=str):
            if true.get(one) != stored.get(one):
                text = f"{one} is {true.get(one)}, in the directory {stored.get(one)}"
                yield Violation("directory", text, directories.synced)


def check_left(evidence: Evidence) -> Iterator[Violation]:
    """Each person who was found to have left was away while that sync ran."""
    for leaving in evidence.directories.left:
        absences = evidence.directories.absences.get(leaving.user, [])
        if not any(
            since <= leaving.until + MARGIN and leaving.since - MARGIN <= until
            for since, until in absences
        ):
            text = f"{leaving.user} was there, and is marked as left at {leaving.until:.3f}"
            yield Violation("left", text, leaving.user)
