"""What the sandbox saw within a time that begins with the first call."""

import time
from dataclasses import dataclass

from testbed import Testbed, wait_until


@dataclass(frozen=True, slots=True)
class Watched:
    """Calls that arrived within the watched time.

    Attributes:
        seconds: how long it was.
        accepted: calls that were carried out.
        refused: calls that were answered with a throttle.
        recipients: people in the accepted calls.
    """

    seconds: float
    accepted: int
    refused: int
    recipients: int

    @property
    def calls(self) -> int:
        """Accepted and refused ones."""
        return self.accepted + self.refused

    @property
    def refused_share(self) -> float:
        """In percent of the calls."""
        return self.refused / max(1, self.calls) * 100

    def used_share(self, limit: float) -> float:
        """Accepted calls, in percent of a limit a second."""
        return self.accepted / (limit * self.seconds) * 100


def wait(testbed: Testbed, seconds: float) -> None:
    """Let it run until so many seconds after the first call."""
    wait_until(testbed.calls, 60, pause=0.01)
    time.sleep(seconds)


def seen(testbed: Testbed, seconds: float, *, lead: float = 0) -> Watched:
    """The calls of so many seconds, which begin `lead` seconds after the first call."""
    calls = testbed.calls()
    begin = min(call["monotonic"] for call in calls) + lead
    within = [call for call in calls if begin <= call["monotonic"] < begin + seconds]
    accepted = [call for call in within if call["verdict"] == "ok"]
    return Watched(
        seconds=seconds,
        accepted=len(accepted),
        refused=sum(call["verdict"] == "throttled" for call in within),
        recipients=sum(call["recipients"] for call in accepted),
    )
