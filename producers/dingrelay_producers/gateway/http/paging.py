"""Which part of a list: how many, and behind what. A cursor is opaque to those who keep it."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NONE_OF_OURS = "is no cursor of an earlier answer"


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
        raise ValueError(NONE_OF_OURS) from None


def encode(*parts: str | int) -> str:
    """A cursor that `decode` takes apart."""
    return pack(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode())


def decode(cursor: str, *types: type) -> Sequence[Any]:
    """The parts of a cursor, which must have these types.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        parts = json.loads(unpack(cursor))
        json.dumps(parts, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError(NONE_OF_OURS) from None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(types):
        raise ValueError(NONE_OF_OURS)
    return parts


def _limited(cursor: str) -> str:
    if len(cursor) > 1_000:
        raise ValueError(NONE_OF_OURS)
    return cursor


class Paging(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    """Entries at most."""
    cursor: Annotated[str, AfterValidator(_limited), Field(max_length=1_000)] | None = None
    """`next` of the page before."""
