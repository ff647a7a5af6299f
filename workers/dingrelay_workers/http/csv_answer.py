"""Answers with lines for a spreadsheet, sent as they are read."""

from collections.abc import AsyncIterable, Mapping

from aiohttp import web

_CSV = {"Content-Type": "text/csv; charset=utf-8"}
_PART_BYTES = 64_000
"""Bytes that are sent at a time."""


async def send_csv(
    request: web.Request, lines: AsyncIterable[bytes], headers: Mapping[str, str] = {}
) -> web.StreamResponse:
    """Send lines as they come; of HEAD none is read."""
    response = web.StreamResponse(headers={**_CSV, **headers})
    await response.prepare(request)
    part = bytearray()
    if request.method == "HEAD":
        return response
    async for line in lines:
        part += line
        if len(part) > _PART_BYTES:
            await response.write(bytes(part))
            part.clear()
    await response.write_eof(bytes(part))
    return response
