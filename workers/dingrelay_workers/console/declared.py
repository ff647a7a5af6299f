"""How pages and forms of the console are declared, each at its function."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiohttp import web
from aiohttp.web_request import FileField
from multidict import MultiDictProxy

from dingrelay_tasks.sentence import en
from dingrelay_workers.http.api_keys import ANY, SCOPES
from dingrelay_workers.roles.scopes import operates
from dingrelay_workers.sessions.sessions import Session

if TYPE_CHECKING:
    from dingrelay_workers.console.visit import Visit

LONGEST_FORM = 20_000
"""Bytes of a form whose declaration says nothing else."""

FormValues = MultiDictProxy[str | bytes | bytearray | FileField]
"""Values of a form."""
Screen = Callable[["Visit"], Awaitable[web.StreamResponse]]
Act = Callable[["Visit", FormValues], Awaitable[web.Response]]
State = Callable[["Visit"], Awaitable[Mapping[str, object]]]


Group = Literal["people", "operation", "settings"]
"""Group of the navigation."""
GROUPS: Mapping[Group, str] = {
    "people": en("Messages"),
    "operation": en("Operation"),
    "settings": en("Settings"),
}
"""Group → its heading, in order."""


class MenuEntry(NamedTuple):
    """A page's entry in the navigation.

    Attributes:
        group: `operation` is seen only by people whose role operates (`roles.scopes.operates`).
        place: within the group.
        words: for people.
    """

    group: Group
    place: int
    words: str


class ConsoleRoute(NamedTuple):
    """A page or a form.

    Attributes:
        scope: that one of the person's roles must have; "" for any role, ``*`` for administrators.
        state: of what a form changes, as it is now. A form that was made for another one is refused.
        limit: bytes of a form.
        page: shows the form again with what was typed, where a field is wrong; None for a page that only says so.
        labels: field → its words, for that page.
        menu: its entry in the navigation; None for a page without one.
    """

    method: Literal["GET", "POST"]
    path: str
    scope: str
    handler: Any
    state: State | None = None
    limit: int = LONGEST_FORM
    menu: MenuEntry | None = None
    page: Screen | None = None
    labels: Mapping[str, str] = {}


DECLARED: list[ConsoleRoute] = []
"""Every page and form of the modules that are imported."""


def at(
    path: str, *, scope: str, menu: tuple[Group, int, str] | None = None
) -> Callable[[Screen], Screen]:
    """Declare a page at its function."""

    def declare(screen: Screen) -> Screen:
        entry = MenuEntry(*menu) if menu else None
        _declare(ConsoleRoute("GET", path, scope, screen, menu=entry))
        return screen

    return declare


def act(
    path: str,
    *,
    scope: str,
    state: State | None = None,
    limit: int = LONGEST_FORM,
    page: Screen | None = None,
    labels: Mapping[str, str] | None = None,
) -> Callable[[Act], Act]:
    """Declare at its function what a form does.

    The function gets the values of the form and answers with `Visit.redirect`. It raises `ContractError` where a
    field is wrong, or answers with a page of a status from 400 on: then nothing must have changed, and the form may
    be sent again. If it answers with a page of status 200, it is called again for the same form, and must not act
    twice (`Visit.once`).
    """

    def declare(acting: Act) -> Act:
        route = ConsoleRoute("POST", path, scope, acting, state, limit)
        _declare(route._replace(page=page, labels=labels or {}))
        return acting

    return declare


def _declare(route: ConsoleRoute) -> None:
    assert route.scope in {"", ANY, *SCOPES}, f"{route.path}: no scope {route.scope}"
    assert (route.method, route.path) not in {other_route[:2] for other_route in DECLARED}, (
        route.path
    )
    DECLARED.append(route)


def menu_of(session: Session) -> list[tuple[str, list[tuple[str, str]]]]:
    """Heading of each group of the navigation, with path and words of its pages that are for the person."""
    menu: list[tuple[str, list[tuple[str, str]]]] = []
    for group, heading in GROUPS.items():
        if group == "operation" and not operates(session.grants):
            continue
        pages = [
            (route.menu.place, route.path, route.menu.words)
            for route in DECLARED
            if route.menu and route.menu.group == group and session.may(route.scope)
        ]
        if pages:
            menu.append((heading, [(path, words) for _, path, words in sorted(pages)]))
    return menu
