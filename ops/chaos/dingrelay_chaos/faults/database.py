"""What can be wrong with the SQL database."""

from dataclasses import dataclass

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class DatabaseLocked:
    """Somebody else holds the database's write lock."""

    seconds: float

    def begin(self, system: System) -> None:
        """Take the lock."""
        system.database.lock()

    def end(self, system: System) -> None:
        """Give it back."""
        system.database.unlock()
