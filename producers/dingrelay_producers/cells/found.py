"""Cache: id of an object that is named by its id only → its cell."""

from threading import Lock

MOST = 10_000
"""Jobs that are remembered, the oldest out first."""


class Found:
    """Id → cell. Safe to share between threads.

    A record never moves, and which app is in which cell is read once a process: what was found stays.
    """

    def __init__(self) -> None:
        self._cells: dict[str, str] = {}
        self._lock = Lock()

    def get(self, name: str) -> str | None:
        """The cell in which it was found; None if it was not yet."""
        return self._cells.get(name)

    def put(self, name: str, cell: str) -> None:
        """It is in this cell."""
        with self._lock:
            if len(self._cells) >= MOST:
                del self._cells[next(iter(self._cells))]
            self._cells[name] = cell
