"""Files for messages: uploaded by a job, and once for an app and content (API §11.5).

The file waits in Redis, beside the job's record, until a worker uploads it. DingTalk's id of it is
remembered: it may be used in any number of messages, and no expiry of it is stated.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from dingrelay_producers.errors import InvalidArgument, UploadFailed
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.media_files import ENDINGS, LARGEST_FILE, MediaType
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_tasks.media_upload import MediaUpload


@dataclass(frozen=True, slots=True)
class Medium:
    """A file that DingTalk has.

    Attributes:
        id: for messages; good for the app that it was uploaded for.
        type: ``image``, ``voice``, ``video`` or ``file``.
        known: it had been uploaded before.
    """

    id: str
    type: MediaType
    known: bool


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that is to be uploaded."""

    name: str
    type: MediaType
    content: bytes

    @property
    def digest(self) -> str:
        """The digest of type, name and content, by which an uploaded file is recognised: people see the name."""
        head = f"{self.type}\n{self.name}\n".encode()
        return hashlib.sha256(head + self.content).hexdigest()


def read(file: Any, name: Any, media_type: Any) -> LocalFile:
    """The file that is meant.

    Args:
        file: its path, or its content.
        name: how it is called in DingTalk; that of the path if None.
        media_type: the type; by the name's ending if None.

    Raises:
        InvalidArgument: it can't be read, or DingTalk has no such file.
    """
    if isinstance(file, bytes):
        content = file
    elif isinstance(file, (str, os.PathLike)):
        path = Path(cast("str", file))
        name = path.name if name is None else name
        try:
            # One that is too large need not be held whole.
            with path.open("rb") as opened:
                content = opened.read(LARGEST_FILE + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidArgument(
                "file", en("a file that can be read ({})", why), str(path)
            ) from None
    else:
        raise InvalidArgument("file", "a path, or bytes with a name", file)
    if not isinstance(name, str) or not name.isprintable() or not name or "/" in name:
        raise InvalidArgument("name", "a file's name", name)
    if media_type is None:
        media_type = ENDINGS.get(name.rpartition(".")[2].lower())
        if media_type is None:
            expected = en(
                "a name that ends with one of {}, unless the type is given", ", ".join(ENDINGS)
            )
            raise InvalidArgument("name", expected, name)
    if media_type not in get_args(MediaType):
        raise InvalidArgument("media_type", "image, voice, video or file", media_type)
    if not content:
        raise InvalidArgument("file", "a file with something in it", name)
    if len(content) > LARGEST_FILE:
        raise InvalidArgument("file", en("a file of at most {:,} bytes", LARGEST_FILE), name)
    return LocalFile(name, media_type, content)


def job_of(file: LocalFile, app: str, lane: Lane) -> "tuple[MediaUpload, bytes]":
    """The job that uploads a file, and the form that waits for it in Redis.

    The form's name is random: one upload that ends takes nothing away from another of the same file.

    Raises:
        ContractError: names the field that is wrong.
    """
    content_type, form = _form(file.name, file.content)
    from dingrelay_tasks.media_upload import MediaUpload

    job = MediaUpload.parse(
        {
            "app": app,
            "lane": lane,
            "upload": secrets.token_hex(32),
            "content_type": content_type,
            "query": {"type": file.type},
        }
    )
    return job, form


def uploaded(status: JobStatus) -> str:
    """DingTalk's id of the file that a job has uploaded.

    Raises:
        UploadFailed: it has not.
    """
    if status.state != State.DONE:
        error = status.error
        why = f"{error.prefix} {error.message}".strip() if error else ""
        raise UploadFailed(status.id, en("{}: {}", status.state, why) if why else str(status.state))
    media_id = (status.result or {}).get("answer", {}).get("media_id")
    if not isinstance(media_id, str) or not media_id:
        raise UploadFailed(status.id, "done, and DingTalk's answer has no media_id")
    return media_id


ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""How browsers spell what would end a file's name in the head of its part."""


def _form(name: str, content: bytes) -> tuple[str, bytes]:
    """A file as multipart/form-data, as browsers write it (API §11.5): its media type, with the boundary, and the form."""
    boundary = f"dingrelay-{secrets.token_hex(16)}"
    for character, escape in ESCAPES.items():
        name = name.replace(character, escape)
    import mimetypes

    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="media"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    end = f"\r\n--{boundary}--\r\n"
    return f"multipart/form-data; boundary={boundary}", head.encode() + content + end.encode()
