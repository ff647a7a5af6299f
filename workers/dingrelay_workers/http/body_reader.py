"""Reads the bodies of requests: JSON as RFC 8259 and I-JSON have it, and nothing looser."""

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dingrelay_tasks.contract import DEEPEST, batched, too_deep
from dingrelay_tasks.sentence import en, not_json
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem

FRAMING_ERRORS = (
    AssertionError,
    HttpProcessingError,
    LookupError,
    RuntimeError,
    ValueError,
    web.RequestPayloadError,
)
"""Errors that aiohttp's reader raises for a body that is no form."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_CHARSET = re.compile(r'charset="?utf-8"?', re.IGNORECASE)


async def read_json(request: web.Request, *, limit: int, within: float) -> Any:
    """The body as JSON values.

    Args:
        request: with its body unread.
        limit: bytes it may have.
        within: seconds in which it must have arrived.

    Raises:
        Problem: it is no JSON (400), late (408), too large (413) or of another type (415).
    """
    require_type(request, "application/json")
    content = await read_bytes(request, limit=limit, within=within)
    if not content:
        raise Problem(problems.MALFORMED, "the body is missing; it must be a JSON object")
    return parse_json(content)


def require_type(request: web.Request, *types: str) -> str:
    """The media type of the body, which must be one of these.

    Raises:
        Problem: it is another, or is compressed, or is not UTF-8.
    """
    accepted = {"Accept": ", ".join(types)}
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        raise Problem(
            problems.UNSUPPORTED,
            "compressed bodies are not taken",
            headers={"Accept-Encoding": "identity"},
        )
    media_type, _, parameters = request.headers.get("Content-Type", "").partition(";")
    media_type = media_type.strip().lower()
    if media_type not in types:
        expected_types = ", ".join(types)
        raise Problem(
            problems.UNSUPPORTED, en("the body must be {}", expected_types), headers=accepted
        )
    if parameters.strip() and not _CHARSET.fullmatch(parameters.strip()):
        raise Problem(problems.UNSUPPORTED, "the body must be UTF-8", headers=accepted)
    return media_type


async def read_bytes(request: web.Request, *, limit: int, within: float) -> bytes:
    """The body, whole.

    Raises:
        Problem: it is late (408) or too large (413), or the connection ended within it (400).
    """
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    content = bytearray()
    try:
        # One that came with its head is not waited for.
        async with nullcontext() if request.content.is_eof() else asyncio.timeout(within):
            while chunk := await request.content.readany():
                content += chunk
                if len(content) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise late(within) from None
    except (web.RequestPayloadError, ValueError):
        raise Problem(problems.MALFORMED, "the body ended early or is badly framed") from None
    return bytes(content)


def too_large(limit: int) -> Problem:
    """A body of more than `limit` bytes."""
    return Problem(problems.TOO_LARGE, en("the body may have {:,} bytes", limit))


def late(within: float) -> Problem:
    """A body that took too long."""
    return Problem(
        problems.TIMEOUT,
        en("the body did not arrive within {:g} s", within),
        headers={"Connection": "close"},
    )


def parse_json(content: bytes) -> Any:
    """The JSON values in a text.

    Raises:
        Problem: it is no JSON, or JSON that programs read differently: repeated names, numbers out
            of range, half of a surrogate pair, too many levels.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _malformed("is not UTF-8") from None
    try:
        values = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _malformed(not_json(error)) from None
    except RecursionError:
        raise _malformed(en("has more than {} levels", DEEPEST)) from None
    except ValueError:
        # Python refuses integers of thousands of digits.
        raise _malformed("holds a number that is out of range") from None
    if too_deep(values, text):
        raise _malformed(en("has more than {} levels", DEEPEST))
    if _SURROGATE.search(content):
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _malformed("holds half of a surrogate pair") from None
    return values


def _malformed(what: str) -> Problem:
    return Problem.at(problems.MALFORMED, "", en("the body {}", what))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _malformed("has an object that names a member twice")
    return members


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _malformed("holds a number that is out of range")
    return number


def _constant(name: str) -> NoReturn:
    raise _malformed(en("is not JSON: {} is no JSON number", name))


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_finite, parse_constant=_constant
)


Line = tuple[int, bytes | None]
"""Number of a line of a body, from 1 on; its content without its end, None if it is longer than a line may be."""


async def batches(
    request: web.Request, *, size: int, longest: int, within: float
) -> AsyncGenerator[list[Line]]:
    """The lines of a body in batches, blank ones left out.

    Args:
        request: with its body unread.
        size: lines of a batch at most.
        longest: bytes a line may have.
        within: seconds in which more must arrive.

    Raises:
        Problem: nothing more arrived in time (408), or the connection ended within the body (400).
    """
    splitter = LineSplitter(longest)
    async for piece in _pieces(request, within):
        # A piece is all that had arrived, so no line waits for later ones; the longer a
        # batch takes, the more the next piece holds.
        lines = splitter.feed(piece)
        for batch in batched(lines, size):
            yield batch
    if lines := splitter.end():
        yield lines


class LineSplitter:
    """Makes lines of pieces, however these are cut."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._number = 0
        self._rest = bytearray()
        self._overlong = False

    def feed(self, piece: bytes) -> list[Line]:
        """The lines that end in this piece, without blank ones."""
        *ended, last = piece.split(b"\n")
        lines: list[Line] = []
        for part in ended:
            self._hold(part)
            lines += self.end()
        self._hold(last)
        return lines

    def end(self) -> list[Line]:
        """The line so far; none if it is blank."""
        self._number += 1
        content, self._rest = self._rest, bytearray()
        if self._overlong:
            self._overlong = False
            return [(self._number, None)]
        if not content or content.isspace():
            return []
        return [(self._number, bytes(content))]

    def _hold(self, part: bytes) -> None:
        if self._overlong or len(self._rest) + len(part) > self._longest:
            # The rest of this line is not kept.
            self._overlong = True
            self._rest.clear()
        else:
            self._rest += part


async def _pieces(request: web.Request, within: float) -> AsyncGenerator[bytes]:
    while True:
        try:
            async with asyncio.timeout(within):
                piece = await request.content.readany()
        except TimeoutError:
            raise late(within) from None
        except (web.RequestPayloadError, ConnectionError, ValueError):
            raise Problem(problems.MALFORMED, "the body ended early or is badly framed") from None
        if not piece:
            return
        yield piece
