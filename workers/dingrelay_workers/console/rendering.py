"""Pages from templates."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from dingrelay_producers.language import CHINESE, current_language, tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.time_spans import length
from dingrelay_producers.zone import local, zone
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog.documents import counted
from dingrelay_workers.console.context import CONTEXT, PAGE, REFUSED, SAID, SESSION, name_of
from dingrelay_workers.console.declared import menu_of
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.console.message_form import TYPES
from dingrelay_workers.console.moments import RANGES, spoken
from dingrelay_workers.console.phone import ShownMessage, markdown, picture, plain
from dingrelay_workers.console.sentences import ADVICE, action_words
from dingrelay_workers.console.titles import kind_words, lane_words, target_words
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.roles.scopes import operates

MESSAGE_TYPES = {**TYPES, "voice": en("Voice message")}
_MESSAGE = re.compile(r"message-send (\w+) (everyone|(?:users=\d+ ?)?(?:departments=\d+)?)")
FOLDERS = [Path(__file__).parent, *(noun.folder for noun in NOUNS)]
"""Folders with templates and static files."""
STATIC = {path.name: path for folder in FOLDERS for path in folder.glob("static/*")}


@cache
def static_file(name: str) -> tuple[bytes, str]:
    """A static file, and the beginning of its digest."""
    content = STATIC[name].read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]


def render(
    request: web.Request, template: str, *, status: int = 200, **values: Any
) -> web.Response:
    """A page from a template, for the person who has signed in, if there is one."""
    context, session = request.app[CONTEXT], request.get(SESSION)
    refused = request.get(REFUSED)
    if refused is not None and status == 200:
        status, values = 422, {"problems": refused.problems, **values}

    def typed(name: str, value: object) -> object:
        """The text of a field of a refused form, or the value that it begins with."""
        return value if refused is None else refused.sent.get(name, "")

    def ticked(name: str, value: str, *, usual: bool = False) -> bool:
        return usual if refused is None else value in refused.sent.getall(name, [])

    def path(to: str) -> str:
        return context.prefix + to

    def static(name: str) -> str:
        return path(f"/static/{static_file(name)[1]}/{name}")

    def may(scope: str) -> bool:
        return session is not None and session.may(scope)

    def token(to: str, state: Mapping[str, object], count: int | None) -> str:
        assert session is not None, "a form needs a session"
        values_seen = {name: str(value) for name, value in state.items()}
        form_token = FormToken(
            session.forms,
            values_seen,
            "" if count is None else str(count),
            refused.page if refused else request.path_qs,
        )
        return form_token.sealed(session, to)

    text = (
        _templates()
        .get_template(template)
        .render(
            path=path,
            static=static,
            here=request.path,
            full=refused.page if refused else request.path_qs,
            typed=typed,
            ticked=ticked,
            session=session,
            said=request.get(SAID, ""),
            may=may,
            menu=[] if session is None else menu_of(session),
            token=token,
            status=status,
            operates=session is not None and operates(session.grants),
            zone=zone(),
            clock=clock.now(),
            many_apps=not context.only_app,
            only_app=context.only_app,
            name_of=partial(name_of, request),
            environment=context.settings.env,
            language="zh-CN" if current_language() == CHINESE else "en",
            **values,
        )
    )
    body = text.encode("utf-8", "replace")
    if status == 200:
        request[PAGE] = body
    return page_of(request, body, status=status)


def page_of(request: web.Request, body: bytes, *, status: int = 200) -> web.Response:
    """The answer to a request with a page; of one that the browser has, it says only that."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Cookie, Accept-Language, Accept-Encoding, Sec-Fetch-Site",
    }
    tags = request.headers.get(hdrs.IF_NONE_MATCH, "")
    if status == 200 and tag in tags:
        return web.Response(status=304, headers=headers)
    if _may_be_compressed(request):
        body = gzip.compress(body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return web.Response(
        body=body, status=status, content_type="text/html", charset="utf-8", headers=headers
    )


def _may_be_compressed(request: web.Request) -> bool:
    """Whether it is to be sent compressed.

    Not where another site asks for it: such a site chooses a part of the page, a search for instance, and could find
    out the tokens of its forms by how well both compress together.
    """
    asked_elsewhere = request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}
    return not asked_elsewhere and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")


@pass_context
def _local(context: Context, moment: datetime) -> str:
    """A page of a hundred moments looks up the zone once."""
    return local(moment, context["zone"])


@pass_context
def _spoken(context: Context, moment: datetime, *, seconds: bool = False) -> str:
    """A moment as people say it."""
    return spoken(moment, context["clock"], context["zone"], seconds=seconds)


@pass_context
def _lane_words(context: Context, name: str) -> str:
    return lane_words(name, context["only_app"])


class Columns:
    """The columns of a table: its head, and what each cell says where the table is a list of cards, on a phone.

    Args:
        numbers: columns of figures.
        main: the column that names a row.
        acts: whether a last column has what can be done.
        headings: name → heading of each column; one that is empty is left out.
    """

    def __init__(
        self, numbers: str = "", main: str = "", *, acts: bool = False, **headings: str
    ) -> None:
        figures = numbers.split()
        heads = Markup()
        self._cells: dict[str, Markup] = {}
        for name, heading in headings.items():
            if not heading:
                continue
            kind = "n" if name in figures else "main" if name == main else ""
            in_class = Markup(' class="{}"').format(kind) if kind else Markup()
            heads += Markup("<th{}>{}</th>").format(in_class, heading)
            self._cells[name] = Markup('{} data-label="{}"').format(in_class, heading)
        if acts:
            words = tr("what can be done")
            heads += Markup('<th><span class="unseen">{}</span></th>').format(words)
        self.head = Markup("<thead><tr>{}</tr></thead>").format(heads)

    def __getitem__(self, name: str) -> Markup:
        """Attributes of a cell in this column."""
        return self._cells[name]


def title_of(summary: str) -> str:
    """A message's title for people: its summary without app and lane, in words."""
    short = re.sub(r"^(\S+) app=\S+ lane=\S+( sender=\S+)?", r"\1", summary)
    message = _MESSAGE.fullmatch(short)
    if message is None:
        kind, _, details = short.partition(" ")
        return f"{kind_words(kind)} {target_words(details.removeprefix('to='))}".rstrip()
    type_ = translated(MESSAGE_TYPES.get(message[1], message[1]))
    if message[2] == "everyone":
        return tr("{type} to everyone", type=type_)
    if message[2] == "users=1":
        return tr("{type} to one person", type=type_)
    if message[2].startswith("users=") and " " not in message[2]:
        return tr("{type} to {count} people", type=type_, count=message[2].removeprefix("users="))
    return tr("{type} to departments", type=type_)


def _url_of(context: Context, source: str) -> str:
    """Path of a picture of a message that was uploaded; "" of another one, and for people who see no campaigns."""
    if not source.startswith("@") or not context["may"]("campaigns:read"):
        return ""
    return str(context["path"](f"/campaigns/pictures/{quote(source, safe='')}"))


@pass_context
def _picture(context: Context, source: str) -> Markup:
    return picture(source, tr("Picture"), _url_of(context, source))


@pass_context
def _markdown(context: Context, text: str, *, fields: bool = True) -> Markup:
    return markdown(text, fields=fields, url_of=partial(_url_of, context))


def _advice(text: str) -> Markup:
    """A text in the reader's language, in which backticks stand around commands."""
    parts = translated(ADVICE.get(text, text)).split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if index % 2 else part
        for index, part in enumerate(parts)
    )


def _query(**values: str) -> str:
    """The query of a link, without values that are empty."""
    return f"?{urlencode({name: value for name, value in values.items() if value})}"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder / "templates" for folder in FOLDERS]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names: dict[str, Any] = cast("dict[str, Any]", environment.globals)
    filters: dict[str, Any] = environment.filters
    names |= {
        "_": tr,
        "columns": Columns,
        "time_ranges": RANGES,
        "query_of": _query,
        "action_words": action_words,
        "problems": {},
    }
    filters |= {
        "local": _local,
        "spoken": _spoken,
        "target_words": target_words,
        "kind_words": kind_words,
        "length_of": length,
        "title_of": title_of,
        "lane_words": _lane_words,
        "counted": counted,
        "translated": translated,
        "advice": _advice,
        "as_plain": plain,
        "as_markdown": _markdown,
        "as_picture": _picture,
        "as_message": ShownMessage.of,
    }
    return environment
