"""Bodies of multipart/form-data, as curl makes them."""

import json
from collections.abc import Iterable, Iterator

BOUNDARY = "----------------------------dingrelay0123456789"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(campaign: object, **files: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """The form's bytes, a piece at a time; `campaign` is JSON, None for a form without it."""
    if campaign is not None:
        yield _head("campaign", "application/json")
        yield json.dumps(campaign).encode() + b"\r\n"
    for name, content in files.items():
        yield _head(name, "text/csv", filename=f"{name}.csv")
        yield from [content] if isinstance(content, bytes) else content
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def _head(name: str, media_type: str, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    ).encode()
