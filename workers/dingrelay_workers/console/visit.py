"""A request of a person who has signed in."""

import re
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote

from aiohttp import web

from dingrelay_producers.language import tr
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import clock
from dingrelay_producers.zone import local
from dingrelay_tasks.contract import LANES
from dingrelay_workers.console.context import NAMES, ConsoleContext, name_of
from dingrelay_workers.console.declared import FormValues
from dingrelay_workers.console.rendering import render
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.http.csv_answer import send_csv
from dingrelay_workers.noun import Noun, Part
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.roles.scopes import permitting
from dingrelay_workers.sessions.sessions import Session

PAGE = 50
"""Rows of a list."""


_Service = TypeVar("_Service")


async def _writers(
    noun: Noun, part: Part, visit: "Visit", objects: Collection[str]
) -> Mapping[str, Sequence[str]]:
    writers: Mapping[str, Sequence[str]] = await noun.load(part)(visit, objects)
    return writers


Writers = Callable[["Visit", Collection[str]], Awaitable[Mapping[str, Sequence[str]]]]
WRITERS: Mapping[str, Writers] = {
    kind.kind: partial(_writers, noun, kind.writers)
    for noun in NOUNS
    for kind in noun.audited
    if kind.writers
}
"""Kind of object → who wrote each of those that exist."""


class NotHere(Exception):
    """There is no such job, person or campaign."""


class BadFilter(Exception):
    """A filter in the URL, or a field of a form, can't be read; the reason is for people."""


class Confirmation(TypedDict, total=False):
    """Content of a page that asks for confirmation. Its texts may be sentences (`en`), or are in the reader's language.

    Attributes:
        title: what is about to happen, as a question.
        button: the verb, with the number where there is one.
        lines: what follows from it.
        examples: some of what is changed.
        count: to be typed; None asks for none.
        state: as the form's.
        fields: hidden ones of the form.
        action: path of the form; that of the page if not given.
        back: where "cancel" leads; to the page above if not given.
        ends: whether it ends, deletes or takes back something: its button is that of a danger.
    """

    title: str
    button: str
    lines: Sequence[str]
    examples: Sequence[str]
    count: int | None
    state: Mapping[str, object]
    fields: Mapping[str, str]
    action: str
    back: str
    ends: bool


def _csv_headers(*name_parts: str) -> Mapping[str, str]:
    day = local(clock.now())[:10]
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', " ", " ".join([*filter(None, name_parts), day]))
    encoded = quote(name.strip(), safe="")
    return {
        # A browser that can't read the second form takes the first.
        "Content-Disposition": f"attachment; filename=\"{day}.csv\"; filename*=UTF-8''{encoded}.csv",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


@dataclass(slots=True)
class Visit:
    """A request of a person who has signed in, and who may use the page.

    Attributes:
        scope: of the page.
        grant: what the person may do here at most: apps and lanes are those of the page's scope.
        once: random bytes, the same where a form is sent twice; of a form only.
        said: shown above the page that a form leads to.
    """

    request: web.Request
    context: ConsoleContext
    session: Session
    scope: str
    grant: Grant
    once: bytes = b""
    said: str = ""

    def service(self, kind: type[_Service]) -> _Service:
        """The service of a class."""
        return self.context.services.of(kind)

    def may(self, scope: str) -> bool:
        """Whether the person may use pages of this scope."""
        return self.session.may(scope)

    def covers(self, app: str, lane: str, *, scope: str = "") -> bool:
        """Whether one of the person's roles has this app and this lane, by the scope of the page or by another one."""
        grants = permitting(self.session.grants, scope or self.scope)
        return any(grant.permits_app(app) and lane in grant.lanes for grant in grants)

    @property
    def reach(self) -> frozenset[tuple[frozenset[str], frozenset[str]]]:
        """Apps and lanes of each role by which the person may use this page: two with the same see the same."""
        grants = permitting(self.session.grants, self.scope)
        return frozenset((grant.apps, frozenset[str](grant.lanes)) for grant in grants)

    def query(self, name: str) -> str:
        """A parameter of the URL, without blanks around it; "" if it is missing."""
        return self.request.query.get(name, "").strip()

    def choice(self, name: str, choices: Collection[str]) -> str:
        """A parameter of the URL that is one of these; "" if it is missing."""
        value = self.query(name)
        return value and checked_choice(name, value, choices)

    def after(self, *types: type, read: Callable[[Sequence[Any]], Any] = tuple) -> Any:
        """The place behind which a page of a list begins, as `read` parses the values of its cursor; None for the first."""
        cursor = self.query("after")
        try:
            return read(paging.decode(cursor, *types)) if cursor else None
        except ValueError:
            raise BadFilter(tr("this is no page of the list")) from None

    def part(self, name: str) -> str:
        """A part of the path, such as ``id`` of ``/jobs/{id}``."""
        return self.request.match_info[name]

    @property
    def directories(self) -> AbstractSet[str]:
        """The apps whose directories have the people of the console."""
        return {DEFAULT_APP, *self.context.settings.apps}

    @property
    def apps(self) -> Sequence[str]:
        """Apps that the person may use this page for."""
        apps = sorted(self.context.settings.apps) or [DEFAULT_APP]
        return [app for app in apps if self.grant.permits_app(app)]

    @property
    def lanes(self) -> Sequence[str]:
        """Lanes that the person may use this page for."""
        return [lane for lane in LANES if self.grant.permits_lane(lane)]

    async def send_csv(self, lines: AsyncIterable[bytes], *name_parts: str) -> web.StreamResponse:
        """Send lines for a spreadsheet as they come, in a file that is named so, with the day; of HEAD none is read."""
        return await send_csv(self.request, lines, _csv_headers(*name_parts))

    async def know(self, *users: str) -> None:
        """Look up the names of people on the page."""
        history, names = self.service(HistoryService), self.request.get(NAMES, {})
        fresh_names = await history.names(set(users) - {""}, apps=self.directories)
        self.request[NAMES] = {**names, **fresh_names}

    def name_of(self, user: str) -> str:
        """The name of a person of `know`; the userid where the directories have none."""
        return name_of(self.request, user)

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page from a template."""
        return render(self.request, template, status=status, **values)

    def redirect(self, path: str, said: str = "") -> web.Response:
        """Lead to another page of the console.

        Args:
            path: without the prefix.
            said: after a form: a sentence (`en`) that the page shows.
        """
        self.said = said
        return web.Response(status=303, headers={"Location": self.context.prefix + path})

    def confirmation(self, **question: Unpack[Confirmation]) -> web.Response:
        """A page that asks before something that can't be undone, or that changes many things."""
        own = self.request.path_qs.removeprefix(self.context.prefix)
        values = {
            "action": own,
            "back": own.partition("?")[0].rpartition("/")[0] or "/",
            **question,
        }
        return self.page("confirm.html", **cast("dict[str, Any]", values))


def text_of(form: FormValues, name: str) -> str:
    """A field of a form, without blanks around it; "" if it is missing."""
    value = form.get(name, "")
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def texts_of(form: FormValues, name: str) -> list[str]:
    """All values of a field, such as those of boxes that are ticked."""
    return [value for value in form.getall(name, []) if isinstance(value, str)]


def checked_choice(name: str, value: str, choices: Collection[str]) -> str:
    """A value of a filter.

    Raises:
        BadFilter: it is none of these.
    """
    if value in choices:
        return value
    known = ", ".join(choices)
    raise BadFilter(
        tr("{name}: there is no “{value}”; there are {known}", name=name, value=value, known=known)
    )
