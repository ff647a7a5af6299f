"""How long a job that failed waits before it is tried again."""

import random

BASE = 1.0
CAP = 600.0


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: exponential with full jitter, at most ten minutes.

    Args:
        attempt: attempts made so far, from 1.
    """
    return random.uniform(0, min(CAP, BASE * 2 ** min(attempt, 20)))
