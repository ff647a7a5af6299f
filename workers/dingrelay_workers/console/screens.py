"""What the pages have in common. Each noun's page asks the noun's service, and shows what it answers."""

from collections.abc import Callable
from typing import Any

from dingrelay_producers.language import tr
from dingrelay_workers.console.app import BadFilter, Screen
from dingrelay_workers.http import paging

SCREENS: dict[str, Screen] = {}
"""Path → page; each noun's file adds its own."""
PAGE = 50
"""Rows of a list."""


def at(path: str) -> Callable[[Screen], Screen]:
    """Declare a page."""

    def declare(screen: Screen) -> Screen:
        SCREENS[path] = screen
        return screen

    return declare


def decoded(cursor: str, *types: type) -> Any:
    """What a cursor in the URL holds."""
    try:
        return paging.decode(cursor, *types)
    except ValueError:
        raise BadFilter(tr("this is no page of the list")) from None
