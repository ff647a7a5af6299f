"""How far apart calls' ways to DingTalk are, estimated from how long their answers took."""

import math

ASSUMED = 0.05
"""Seconds, until enough answers have come."""
COLD = 10
"""Answers of a process that are left out: the first calls wait for their connections."""
ENOUGH = 10
"""Answers before the estimate is used."""
REMEMBERED = 256
"""Answers after which an old one counts for little."""
OUTLIER = 3
"""Standard deviations beyond which an answer counts as that far: a stall is no part of the way."""


class LatencyEstimator:
    """Mean and variance of the time from a call's slot to its answer, the newest weighing most."""

    def __init__(self) -> None:
        self._count = -COLD
        self._mean = 0.0
        self._variance = 0.0

    def add(self, seconds: float) -> None:
        """Note one answer."""
        self._count += 1
        if self._count <= 0:
            return
        if self._count > ENOUGH:
            reach = OUTLIER * math.sqrt(self._variance)
            seconds = min(max(seconds, self._mean - reach), self._mean + reach)
        weight = max(1 / self._count, 1 / REMEMBERED)
        difference = seconds - self._mean
        self._mean += weight * difference
        self._variance = (1 - weight) * (self._variance + weight * difference**2)

    @property
    def spread(self) -> float:
        """Seconds between the shortest and the longest way there.

        The way there and the way back are taken to be alike, and each as likely to be long as
        short: then the variance of both together is a sixth of the square of this.
        """
        return math.sqrt(6 * self._variance) if self._count >= ENOUGH else ASSUMED
