"""Reads a body line by line, however long it is, in constant memory."""

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

from aiohttp import web

from dingrelay_workers.http import problems
from dingrelay_workers.http.body_reader import late
from dingrelay_workers.http.problems import Problem


class Line(NamedTuple):
    """One line of a body.

    Attributes:
        number: from 1 on.
        content: without its end; None if it is longer than a line may be.
    """

    number: int
    content: bytes | None


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
        for first in range(0, len(lines), size):
            yield lines[first : first + size]
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
            return [Line(self._number, None)]
        if not content or content.isspace():
            return []
        return [Line(self._number, bytes(content))]

    def _hold(self, part: bytes) -> None:
        if self._overlong or len(self._rest) + len(part) > self._longest:
            # What follows in this line is not kept.
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
