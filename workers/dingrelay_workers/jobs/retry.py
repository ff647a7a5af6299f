"""How long a job that failed waits before it is tried again."""

import random

BASE = 1.0
"""Seconds before the second attempt at most."""
GROWTH = 3
"""By which the pauses grow: eight attempts take some ten minutes, so that whatever passes has passed."""
CAP = 600.0
"""Seconds before any attempt at most."""


LAST_CHANCE = 60.0
"""Seconds at most before the last attempt that a code allows: three within as many seconds would all
meet one short disturbance."""


def backoff(attempt: int, *, last: bool = False) -> float:
    """Seconds before the next attempt: exponential with jitter, at most ten minutes.

    Args:
        attempt: attempts made so far, from 1.
        last: the next attempt is the last one, though the job has more.
    """
    longest = min(CAP, BASE * GROWTH ** min(attempt - 1, 20))
    if last:
        longest = max(longest, LAST_CHANCE)
    return random.uniform(longest / 2, longest)
