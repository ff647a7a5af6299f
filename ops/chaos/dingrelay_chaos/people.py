"""The people of a run, and the departments that they are in."""

STAYING = tuple(f"u{number}" for number in range(1, 41))
"""People who are there all the time, where they are."""
MOVING = tuple(f"u{number}" for number in range(41, 61))
"""People that changes of the organisation move, remove and bring back."""
JOINING = tuple(f"n{number}" for number in range(1, 9))
"""People who are not there at first, and join in the course of a run."""
PEOPLE = len(STAYING) + len(MOVING)
DEPARTMENTS = 8
SHIFTING = tuple(range(101, 106))
"""Departments that come, change and go; only people who move are ever in them."""


KINDS = ("mobile", "email", "job_number")
"""What else people are named by."""


def addresses_of_joining() -> dict[str, dict[str, str]]:
    """What those who join are named by, who have never been there."""
    return {
        user: {
            "mobile": f"139{number:08d}",
            "email": f"{user}@example.com",
            "job_number": f"N-{number}",
        }
        for number, user in enumerate(JOINING, start=1)
    }
