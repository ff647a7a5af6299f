"""Parts of another installed package, found by their entry points: a producer need not have them."""

from importlib.metadata import entry_points
from typing import Any

from dingrelay_producers.errors import NotInstalled
from dingrelay_producers.settings import Settings


def load(group: str, settings: Settings, *, what: str, extra: str) -> Any:
    """The first part of this group, made from the settings.

    Args:
        group: of the entry points.
        settings: what it is made from.
        what: what it keeps, for the error.
        extra: the extra that installs it.

    Raises:
        NotInstalled: there is none, or what it needs is not there.
    """
    for point in entry_points(group=group):
        try:
            return point.load()(settings)
        except ModuleNotFoundError as error:
            raise NotInstalled(what, extra) from error
    raise NotInstalled(what, extra)
