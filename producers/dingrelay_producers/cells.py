"""One thing a cell, such as its connections, made when it is first asked for."""

from collections.abc import Callable, Collection
from threading import Lock
from typing import Generic, TypeVar

from dingrelay_producers.settings import Settings

_T = TypeVar("_T")


class Cells(Generic[_T]):
    """The same thing of each cell. Where there are no cells there is one, without a name.

    Args:
        settings: with the cells and their apps.
        make: makes one, from the settings of its cell.
    """

    def __init__(self, settings: Settings, make: Callable[[Settings], _T]) -> None:
        self._settings = settings
        self._make = make
        self._made: dict[str, _T] = {}
        self._lock = Lock()

    def of(self, app: str | None) -> _T:
        """The instance for the cell that has an app; the chosen cell's if None.

        Raises:
            ContractError: no cell has the app, or another one than the chosen one.
            SettingsError: there are cells, no app is given, and no cell is chosen.
        """
        return self.named(self._settings.cell_of(app))

    def named(self, name: str) -> _T:
        """The instance for the cell of this name."""
        made = self._made.get(name)
        if made is None:
            with self._lock:
                made = self._made.get(name)
                if made is None:
                    made = self._made[name] = self._make(self._settings.of_cell(name))
        return made

    @property
    def made(self) -> Collection[_T]:
        """The instances made so far."""
        return list(self._made.values())
