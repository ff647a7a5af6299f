"""How long a job that failed waits before it is tried again."""

import random

BASE = 1.0
"""Seconds before the second attempt at most."""
GROWTH = 3
"""Factor by which the pauses grow."""
CAP = 600.0
"""Seconds before any attempt at most."""
MEAN = 0.75
"""Share of the longest pause; the rest is random, so that jobs that failed together come apart."""


def backoff(retried: float) -> float:
    """Seconds before the next attempt: exponential with jitter, at most ten minutes.

    Args:
        retried: seconds that the job has waited for attempts so far.
    """
    longest = min(CAP, BASE + (GROWTH - 1) * retried / MEAN)
    return random.uniform((2 * MEAN - 1) * longest, longest)
