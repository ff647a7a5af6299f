"""Texts of a message as a phone shows them: DingTalk's Markdown, and marks where a field is filled in (API §12.4)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from markupsafe import Markup, escape

# No class of characters holds what the piece begins with: a hostile text costs no more than its length.
_PIECES = re.compile(
    r"!\[(?P<picture>[^\[\]\n]*)\]\((?P<source>[^()\s]*)\)"
    r"|\[(?P<link>[^\[\]\n]+)\]\((?P<url>[^()\s]*)\)"
    r"|\*\*(?P<bold>[^*\n]+)\*\*|\*(?P<italic>[^*\n]+)\*"
    r"|(?P<font></?font[^<>\n]*>)"
)
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_BLOCK = re.compile(r"\s*(?:(#{1,6})\s+|(>)\s?|([-*+])\s+|(\d{1,3})\.\s+)(.*)")


class _Shown(NamedTuple):
    fields: bool
    url_of: Callable[[str], str]


class ShownMessage(dict[str, Any]):
    """A message that may be incomplete: what is missing is empty."""

    def __missing__(self, name: str) -> "ShownMessage":
        return ShownMessage()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "ShownMessage":
        """The message, with all that is in it."""
        shown_message: ShownMessage = json.loads(json.dumps(message), object_hook=cls)
        return shown_message


def plain(text: object, *, fields: bool = True) -> Markup:
    """A text as it is.

    Args:
        text: it.
        fields: ``{name}`` is filled in for each recipient, and is marked; in a message that is filled in, it is a text.
    """
    source, pieces, end = str(text), [], 0
    for mark in _FIELD.finditer(source) if fields else ():
        pieces.append(escape(source[end : mark.start()]))
        end = mark.end()
        piece = Markup('<mark class="field">{}</mark>').format(mark[0]) if mark[1] else mark[0][:1]
        pieces.append(escape(piece))
    return Markup("").join([*pieces, escape(source[end:])])


def picture(source: str, title: str, url: str = "") -> Markup:
    """A picture of a message; where it can be had at a `url` of the console, as it is."""
    if url:
        return Markup(
            '<a class="picture" href="{0}"><img src="{0}" alt="{1}" loading="lazy"></a>'
        ).format(url, title)
    return Markup('<span class="picture" title="{}">{}</span>').format(source, title)


def markdown(
    text: object, *, fields: bool = True, url_of: Callable[[str], str] = lambda _: ""
) -> Markup:
    """A text in DingTalk's Markdown; `url_of` a picture in it leads to it."""
    return Markup("").join(_blocks(str(text), _Shown(fields, url_of)))


def _blocks(text: str, shown: _Shown) -> Iterator[Markup]:
    ahead: list[str] = []
    for line in [*text.splitlines(), ""]:
        block = _BLOCK.fullmatch(line)
        if ahead and (block or not line.strip()):
            yield Markup("<p>{}</p>").format(_joined(ahead, shown))
            ahead = []
        if not block:
            ahead += [line] if line.strip() else []
            continue
        heading, quote, _, number, words = block.groups()
        inner = _inline(words, shown)
        if heading:
            yield Markup('<p class="h{}">{}</p>').format(len(heading), inner)
        elif quote:
            yield Markup("<blockquote>{}</blockquote>").format(inner)
        else:
            yield Markup('<p class="li">{} {}</p>').format(f"{number}." if number else "•", inner)


def _joined(lines: list[str], shown: _Shown) -> Markup:
    """The lines of a paragraph: a line breaks after two blanks only."""
    parts = [
        _inline(line.strip(), shown) + (Markup("<br>") if line.endswith("  ") else Markup(" "))
        for line in lines
    ]
    return Markup("").join(parts)


def _inline(text: str, shown: _Shown) -> Markup:
    pieces, end = [], 0
    for piece in _PIECES.finditer(text):
        pieces.append(plain(text[end : piece.start()], fields=shown.fields))
        end = piece.end()
        pieces.append(_piece(piece, shown))
    return Markup("").join([*pieces, plain(text[end:], fields=shown.fields)])


def _piece(piece: re.Match[str], shown: _Shown) -> Markup:
    """A picture, a link, or what is bold or slanted; colours are left out."""
    kind = piece.lastgroup
    if kind == "source":
        source = piece["source"]
        return picture(source, piece["picture"] or source, shown.url_of(source))
    if kind == "url":
        inner = plain(piece["link"], fields=shown.fields)
        return Markup('<span class="link" title="{}">{}</span>').format(piece["url"], inner)
    if kind == "bold":
        return Markup("<strong>{}</strong>").format(plain(piece["bold"], fields=shown.fields))
    if kind == "italic":
        return Markup("<em>{}</em>").format(plain(piece["italic"], fields=shown.fields))
    return Markup("")
