"""What can be wrong with those who are told by webhooks."""

from dataclasses import dataclass

from dingrelay_chaos.receiver import Manner
from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class ReceiverMisbehaves:
    """An endpoint, or all of them, answer otherwise than they should."""

    manner: Manner
    name: str
    """Of the endpoint; ``*`` for all."""
    seconds: float

    def begin(self, system: System) -> None:
        """Let it."""
        system.receiver.manners[self.name] = self.manner

    def end(self, system: System) -> None:
        """Let it behave again."""
        system.receiver.manners.pop(self.name, None)


@dataclass(frozen=True, slots=True)
class ReceiverAway:
    """The receiver refuses connections, and ends those that there are."""

    seconds: float

    def begin(self, system: System) -> None:
        """Let it go away."""
        system.receiver.go_away()

    def end(self, system: System) -> None:
        """Let it come back."""
        system.receiver.come_back()
