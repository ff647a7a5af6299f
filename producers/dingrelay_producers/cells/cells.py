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
        self.names: tuple[str, ...] = tuple(settings.cells) if settings.across_cells else ("",)

    def of(self, app: str) -> _T:
        """That of the cell that has an app.

        Raises:
            ContractError: no cell has it.
        """
        return self.named(self.name_of(app))

    def name_of(self, app: str) -> str:
        """The cell that has an app.

        Raises:
            ContractError: none has it.
        """
        owner = self._settings.cell_of(app)
        return owner if self._settings.across_cells else ""

    def named(self, name: str) -> _T:
        """That of the cell of this name, which is one of `names`."""
        made = self._made.get(name)
        if made is None:
            with self._lock:
                made = self._made.get(name)
                if made is None:
                    settings = self._settings.of_cell(name) if name else self._settings
                    made = self._made[name] = self._make(settings)
        return made

    def among(self, apps: Collection[str] | None = None) -> dict[str, _T]:
        """Cell → its own, of the cells that have these apps; of all if None.

        Apps that no cell has are left out.
        """
        names = self.names
        if apps is not None and self._settings.across_cells:
            wanted = {self._settings.owner_of(app) for app in apps}
            names = tuple(name for name in names if name in wanted)
        return {name: self.named(name) for name in names}

    @property
    def made(self) -> Collection[_T]:
        """Those that were asked for."""
        return list(self._made.values())
