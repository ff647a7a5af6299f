"""Kinds of jobs that other packages bring.

Each is an entry point of the group ``dingrelay.kinds``: its name is that of the kind, its value the module that declares it.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from dingrelay_tasks.sentence import en

ENTRY_POINTS = "dingrelay.kinds"
"""The group of entry points."""


class KindError(ValueError):
    """A kind is declared wrongly, or its module can't be imported; it is named with the package that brings it."""


@cache
def packaged_kinds() -> Mapping[str, EntryPoint]:
    """Entry points of the kinds that other packages bring, by their names.

    Raises:
        KindError: two of them bring the same one.
    """
    points: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        if point.name in points:
            packages = package_of(points[point.name]), package_of(point)
            raise KindError(
                en("the kind {} is brought by two packages: {} and {}", point.name, *packages)
            )
        points[point.name] = point
    return points


def package_of(point: EntryPoint) -> str:
    """The package of an entry point and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module
