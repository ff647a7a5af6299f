"""Which part of a list: how many, and behind what. A cursor is opaque to clients."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field


def unknown_cursor() -> ValueError:
    """What is wrong with a cursor that is none of ours."""
    return ValueError("is no cursor of an earlier answer")


def pack(content: bytes) -> str:
    """A cursor that `unpack` opens."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unpack(cursor: str) -> bytes:
    """What a cursor holds.

    Raises:
        ValueError: it is none of ours.
    """
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        return base64.b64decode(padded.encode("ascii"), b"-_", validate=True)
    except (UnicodeError, binascii.Error):
        raise unknown_cursor() from None


def encode(*parts: str | int | datetime) -> str:
    """A cursor that `decode` takes apart."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat)
    return pack(text.encode())


def decode(cursor: str, *types: type) -> Sequence[Any]:
    """The parts of a cursor, which must have these types. Moments have a zone.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        parts = json.loads(unpack(cursor))
        json.dumps(parts, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise unknown_cursor() from None
    spelled = [str if each is datetime else each for each in types]
    if not isinstance(parts, list) or [type(part) for part in parts] != spelled:
        raise unknown_cursor()
    return [
        _moment(part) if each is datetime else part for part, each in zip(parts, types, strict=True)
    ]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise unknown_cursor() from None
    if moment.tzinfo is None:
        raise unknown_cursor()
    return moment


def checked(read: Callable[[str], object]) -> AfterValidator:
    """Refuses a cursor that can't be read so."""

    def check(cursor: str) -> str:
        read(cursor)
        return cursor

    return AfterValidator(check)


class Paging(BaseModel, extra="forbid"):
    """Which part of a list. Each list has cursors of its own."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    """Entries at most."""
    cursor: str | None = None
