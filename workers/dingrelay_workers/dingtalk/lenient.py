"""How leniently a value of an answer is read, whichever API it comes from.

DingTalk's own samples hold integers and booleans as strings and one object where a list is meant
(API §0), so both are taken. What can't be read is an error, never a guess: a guess would end in
the directory, or as the id of a call.
"""

import json
import math
from typing import Any, cast

_LARGEST = 2**63 - 1
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Unreadable(Exception):
    """A value is not of its field's type. The message never quotes it."""


def integer(value: Any) -> int:
    """A number of at most 64 bits, also as a string.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, str):
        if len(value) > 20:
            raise Unreadable("no integer of 64 bits")
        try:
            number = int(value)
        except ValueError:
            # Python's own message quotes the value.
            raise Unreadable("no integer") from None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    else:
        raise Unreadable("no integer")
    if not -_LARGEST <= number <= _LARGEST:
        raise Unreadable("no integer of 64 bits")
    return number


def boolean(value: Any) -> bool:
    """A boolean, also as a string or a number.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str) and (known := _BOOLEANS.get(str(value).lower())) is not None:
        return known
    raise Unreadable("no boolean")


def text(value: Any) -> str:
    """A string that any database takes; numbers are taken as written.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unreadable("no text")
        return str(value)
    written = value if value.isascii() else value.encode("utf-8", "replace").decode()
    return written.replace("\0", "")


def integers(value: Any) -> list[int]:
    """A list of numbers, also as JSON in a string, or one number alone.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unreadable("no list") from None
    return [integer(item) for item in items(value)]


def texts(value: Any) -> list[str]:
    """A list of strings, or one string alone.

    Raises:
        Unreadable: it is none.
    """
    return [text(item) for item in items(value)]


def structure(value: Any) -> Any:
    """Any JSON value, made of texts that any database takes.

    Raises:
        Unreadable: it holds a number that JSON does not know.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable("no JSON number")
    if isinstance(value, list):
        return [structure(item) for item in value]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {text(name): structure(item) for name, item in pairs.items()}
    return value


def items(value: Any) -> list[Any]:
    """A list; a lone value counts as a list of one, none as an empty list (API §0)."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
