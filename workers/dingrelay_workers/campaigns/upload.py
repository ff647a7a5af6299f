"""Reads a request for a campaign: JSON alone, or a form whose files go to the disk as they come.

A form is what curl, browsers and every HTTP library send files with, and it has room for what the
campaign is to be beside its recipients. Until then the files lie in nameless temporary files, so a
slow upload holds neither memory nor the database, and one that breaks off leaves nothing behind.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from typing import BinaryIO

from aiohttp import BodyPartReader, MultipartReader, web

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.body_reader import FRAMING_ERRORS, parse_json, read_json
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import BODY_LIMIT, Upload

FORM = "multipart/form-data"
CAMPAIGN, RECIPIENTS, WITHOUT = "campaign", "recipients", "without"

LARGEST_UPLOAD = 1_000_000_000
"""Bytes of all files together: ten million people with some fields each."""
LONGEST_UPLOAD = 3_600.0
"""Seconds that a whole upload may take, if it never stands still."""
BLOCK = 1 << 17
"""Bytes read from the connection, and written to the disk, at once."""


@asynccontextmanager
async def arrived(request: web.Request, within: float) -> AsyncGenerator[Upload]:
    """The request's body; its files are there while the block runs.

    Args:
        request: with its body unread.
        within: seconds in which a body without files must have arrived, and for which an upload may
            stand still.

    Raises:
        Problem: it is malformed (400), late (408), too large (413), of another type (415), or lacks
            a part (422).
        ServiceUnavailable: there is no room for temporary files.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != FORM:
        if media_type != "application/json":
            accepted = {"Accept": f"application/json, {FORM}"}
            detail = en("the body must be application/json or {}", FORM)
            raise Problem(problems.UNSUPPORTED, detail, headers=accepted)
        yield Upload(await read_json(request, limit=BODY_LIMIT, within=within))
        return
    with ExitStack() as files:
        form = _Form(request, files, within)
        try:
            async with asyncio.timeout(LONGEST_UPLOAD):
                upload = await form.read()
        except TimeoutError:
            raise _late(LONGEST_UPLOAD) from None
        yield upload


def _reader(request: web.Request) -> MultipartReader:
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(
            problems.UNSUPPORTED,
            "compressed bodies are not taken",
            headers={"Accept-Encoding": "identity"},
        )
    if (request.content_length or 0) > LARGEST_UPLOAD:
        raise _too_large()
    try:
        return MultipartReader(request.headers, request.content)
    except FRAMING_ERRORS:
        raise Problem(problems.MALFORMED, "the form's boundary can't be read") from None


class _Form:
    """The parts of one form."""

    def __init__(self, request: web.Request, files: ExitStack, within: float) -> None:
        self._reader = _reader(request)
        self._content = request.content
        self._files = files
        self._within = within
        self._left = LARGEST_UPLOAD
        self._fields: bytes | None = None
        self._arrived: dict[str, BinaryIO] = {}
        self._digests: dict[str, str] = {}

    async def read(self) -> Upload:
        while (part := await self._next()) is not None:
            name = part.name or ""
            if name in self._arrived or (name == CAMPAIGN and self._fields is not None):
                raise Problem.at(problems.INVALID, f"/{name}", "this part is there twice")
            if name == CAMPAIGN:
                self._fields = await self._small(part)
            elif name in {RECIPIENTS, WITHOUT}:
                self._arrived[name], self._digests[name] = await self._file(part)
            else:
                detail = en("the parts are {}, {} and {}", CAMPAIGN, RECIPIENTS, WITHOUT)
                raise Problem.at(problems.INVALID, "", detail)
        if self._fields is None:
            detail = en("is required: a part with what the campaign is to be, as JSON")
            raise Problem.at(problems.INVALID, f"/{CAMPAIGN}", detail)
        return Upload(parse_json(self._fields), self._arrived, self._digests)

    async def _next(self) -> BodyPartReader | None:
        try:
            async with asyncio.timeout(self._within):
                part = await self._reader.next()
        except TimeoutError:
            raise _late(self._within) from None
        except FRAMING_ERRORS:
            raise _badly_framed() from None
        if isinstance(part, MultipartReader):
            raise Problem(problems.MALFORMED, "a part of the form is a form itself")
        for header in ("Content-Encoding", "Content-Transfer-Encoding"):
            if part and part.headers.get(header, "binary").lower() not in _PLAIN:
                raise Problem(problems.MALFORMED, en("a part of the form has a {}", header))
        return part

    async def _small(self, part: BodyPartReader) -> bytes:
        content = b""
        while not part.at_eof():
            content += await self._block(part)
            if len(content) > BODY_LIMIT:
                raise Problem(
                    problems.TOO_LARGE, en("{}: may have {:,} bytes", CAMPAIGN, BODY_LIMIT)
                )
        return content

    async def _file(self, part: BodyPartReader) -> tuple[BinaryIO, str]:
        """A part on the disk, and the digest of its content."""
        digest = hashlib.sha256()
        try:
            file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it does

            def write(block: bytes) -> None:
                digest.update(block)
                file.write(block)

            while not part.at_eof():
                await asyncio.to_thread(write, await self._block(part))
            file.seek(0)
        except OSError as error:
            raise ServiceUnavailable(en("temporary files ($TMPDIR): {}", error.strerror)) from None
        return file, digest.hexdigest()

    async def _block(self, part: BodyPartReader) -> bytes:
        try:
            async with asyncio.timeout(self._within):
                block = await part.read_chunk(BLOCK)
        except TimeoutError:
            raise _late(self._within) from None
        except FRAMING_ERRORS:
            raise _badly_framed() from None
        if not block and not part.at_eof() and self._content.at_eof():
            raise _badly_framed()
        self._left -= len(block)
        if self._left < 0:
            raise _too_large()
        return block


_PLAIN = {"", "binary", "identity", "7bit", "8bit"}


def _badly_framed() -> Problem:
    return Problem(problems.MALFORMED, "the form ended early or is badly framed")


def _late(seconds: float) -> Problem:
    detail = en("nothing of the body arrived for {:g} s", seconds)
    if seconds == LONGEST_UPLOAD:
        detail = en("the body did not arrive within {:g} s", seconds)
    return Problem(problems.TIMEOUT, detail, headers={"Connection": "close"})


def _too_large() -> Problem:
    return Problem(problems.TOO_LARGE, en("the body may have {:,} bytes", LARGEST_UPLOAD))
