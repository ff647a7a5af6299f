"""What can be wrong with Valkey."""

from dataclasses import dataclass

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class ValkeyRestarts:
    """Valkey ends, and comes back with what its append-only file holds."""

    seconds: float
    how: str

    def begin(self, system: System) -> None:
        """End it."""
        system.valkey.end(kill=self.how == "kill")

    def end(self, system: System) -> None:
        """Start it again."""
        system.valkey.start()


@dataclass(frozen=True, slots=True)
class ValkeyFailsOver:
    """Valkey ends, and its replica takes its place when the fault ends.

    Attributes:
        losing: seconds of writes that never reached the replica.
    """

    seconds: float
    losing: float

    def begin(self, system: System) -> None:
        """End the primary."""
        system.valkey.fail_over(self.losing)

    def end(self, system: System) -> None:
        """Promote the replica."""
        system.valkey.promote()


@dataclass(frozen=True, slots=True)
class ValkeyFreezes:
    """Valkey keeps its connections and answers nothing."""

    seconds: float

    def begin(self, system: System) -> None:
        """Stop it."""
        system.valkey.suspend()

    def end(self, system: System) -> None:
        """Let it go on."""
        system.valkey.resume()


@dataclass(frozen=True, slots=True)
class ValkeyRefuses:
    """Valkey refuses writes: it is full, or a replica."""

    seconds: float
    how: str

    def begin(self, system: System) -> None:
        """Let it refuse."""
        system.valkey.refuse_writes(full=self.how == "full")

    def end(self, system: System) -> None:
        """Let it write again."""
        system.valkey.take_writes(full=self.how == "full")
