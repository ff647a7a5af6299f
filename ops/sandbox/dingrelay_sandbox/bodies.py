"""The body of a call: JSON, a form, or a form with a file (API §11.3, §11.5)."""

import json
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a call. Its content is not kept."""

    field: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says. `payload` is None where it is nothing that can be read."""

    payload: dict[str, Any] | None = None
    upload: Upload | None = None


NOTHING = Body()


def read_body(content: bytes, content_type: str, whole_type: str) -> Body:
    """The body of a call.

    Args:
        content: as it came.
        content_type: its media type, such as ``application/json``.
        whole_type: the same with its parameters, of which a multipart body has a boundary.
    """
    if content_type == MULTIPART:
        return _parts(content, whole_type)
    if content_type == FORM:
        text = content.decode(errors="replace")
        return Body(dict(parse_qsl(text, keep_blank_values=True)))
    return Body(_object(content)) if content else NOTHING


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parts(content: bytes, whole_type: str) -> Body:
    head = f"Content-Type: {whole_type}\r\n\r\n".encode(errors="replace")
    whole = BytesParser().parsebytes(head + content)
    fields: dict[str, Any] = {}
    upload: Upload | None = None
    parts = whole.get_payload()
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, Message):
            continue
        _spell_as_utf8(part)
        name = str(part.get_param("name", "", "content-disposition"))
        value = part.get_payload(decode=True)
        data = value if isinstance(value, bytes) else b""
        filename = part.get_filename()
        if filename is None:
            fields[name] = data.decode(errors="replace")
        else:
            upload = Upload(name, filename, len(data))
    return Body(fields, upload)


def _spell_as_utf8(part: Message) -> None:
    """Read the head of a part as browsers and DingTalk's SDKs write it: names of files in UTF-8."""
    for header, value in part.raw_items():
        if header.lower() == "content-disposition":
            text = str(value).encode("ascii", "surrogateescape").decode(errors="replace")
            part.replace_header(header, text)
            return
