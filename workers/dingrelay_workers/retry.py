"""How long a job that failed waits before it is tried again."""

import random

BASE = 1.0
"""Seconds before the second attempt at most."""
GROWTH = 3
"""By which the pauses grow: eight attempts take some ten minutes, so that whatever passes has passed."""
CAP = 600.0
"""Seconds before any attempt at most."""


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: exponential with jitter, at most ten minutes.

    Args:
        attempt: attempts made so far, from 1.
    """
    longest = min(CAP, BASE * GROWTH ** min(attempt - 1, 20))
    return random.uniform(longest / 2, longest)
