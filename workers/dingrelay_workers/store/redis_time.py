"""Redis's clock between two looks at it: the one clock that all workers share."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RedisTime:
    """Redis's time when it was read, carried on by this process's monotonic clock.

    It is behind Redis by the time that the answer took, never ahead of it.

    Attributes:
        at: Redis's time, in ms since the epoch.
        read: when it was received, by the monotonic clock.
    """

    at: int
    read: float = field(default_factory=time.monotonic)

    def now(self) -> int:
        """The time, in ms since the epoch."""
        return self.at + int((time.monotonic() - self.read) * 1000)
