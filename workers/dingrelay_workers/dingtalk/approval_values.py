"""Values of an approval's controls, as sent or as returned by DingTalk."""

import html
import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Any, cast

MOST_DIGITS = 100
"""Digits before or after the point of a number; more are compared as a text."""


def is_empty(value: Any) -> bool:
    """Whether a control with this value holds nothing."""
    if isinstance(value, str):
        parsed = as_json(value)
        return value.strip() in {"", "null"} if parsed is None else is_empty(parsed)
    if isinstance(value, list):
        entries: list[Any] = value
        columns = bool(entries) and all(
            isinstance(entry, dict) and "props" in entry and "rowValue" not in entry
            for entry in entries
        )
        return columns or all(map(is_empty, entries))
    if isinstance(value, dict):
        return all(map(is_empty, cast("dict[str, Any]", value).values()))
    return value is None


def as_json(value: Any) -> Any:
    """The list or object that a value is, or spells; None if it does neither."""
    if isinstance(value, (list, dict)):
        return cast("Any", value)
    if not isinstance(value, str) or value.strip()[:1] not in {"[", "{"}:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def as_list(value: Any) -> list[Any] | None:
    """The list that a value is, or spells; None if it does neither."""
    parsed: Any = as_json(value)
    if not isinstance(parsed, list):
        return None
    entries: list[Any] = parsed
    return entries


def as_text(value: Any) -> str:
    """A value as a text: itself, or as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split(value: str) -> list[str]:
    """The parts of a text, whatever comma is between them."""
    return [part.strip() for part in re.split("[,，、]", value) if part.strip()]


def lines(text: str) -> str:
    """A text with one kind of line end."""
    return text.replace("\r\n", "\n")


def squeezed(text: str) -> str:
    """A text without what may be lost or respelled on the way: spaces, controls, width, escapes."""
    plain = unicodedata.normalize("NFKC", html.unescape(text)).replace("\\", "")
    return "".join(letter for letter in plain if letter.isprintable() and not letter.isspace())


def number(text: str) -> Decimal | None:
    """The number that a text spells; None if it spells none, or one that is too long."""
    try:
        found = Decimal(unicodedata.normalize("NFKC", text).replace(",", "").strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found.adjusted()) < MOST_DIGITS else None
