"""A file as multipart/form-data, as browsers write it (API §11.5)."""

import mimetypes
import secrets

ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""How browsers spell what would end a file's name in the head of its part."""


def form(name: str, content: bytes) -> tuple[str, bytes]:
    """The media type of a form with the file, which has its boundary, and the form."""
    boundary = f"dingrelay-{secrets.token_hex(16)}"
    for character, escape in ESCAPES.items():
        name = name.replace(character, escape)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="media"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    end = f"\r\n--{boundary}--\r\n"
    return f"multipart/form-data; boundary={boundary}", head.encode() + content + end.encode()
