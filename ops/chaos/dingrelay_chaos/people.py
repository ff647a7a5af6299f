"""The people of a run, and the departments that they are in."""

STAYING = tuple(f"u{number}" for number in range(1, 41))
"""People who are there all the time, where they are."""
MOVING = tuple(f"u{number}" for number in range(41, 61))
"""People that changes of the organisation move, remove and bring back."""
PEOPLE = len(STAYING) + len(MOVING)
DEPARTMENTS = 8
