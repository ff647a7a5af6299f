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


@dataclass(frozen=True, slots=True)
class DatabaseAway:
    """The database can't be opened, nor written to where it is open."""

    seconds: float

    def begin(self, system: System) -> None:
        """Take it away."""
        system.database.take_away()

    def end(self, system: System) -> None:
        """Bring it back."""
        system.database.bring_back()
