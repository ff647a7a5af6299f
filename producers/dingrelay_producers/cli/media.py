"""``dingrelay media``: files for messages; and those that a message on the command line names.

``{"file": "menu.png"}`` may stand where DingTalk wants a media_id. Paths are relative to the folder in
which the command runs.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import typer

from dingrelay_producers.cli.output import console, print_result
from dingrelay_producers.cli.shared import app_of_jobs, seconds_to_wait, takes
from dingrelay_producers.cli.waiting import JOB_SECONDS, spinner
from dingrelay_producers.language import tr

if TYPE_CHECKING:
    from dingrelay_producers.client.client import Client
    from dingrelay_tasks.media_files import MediaType

Upload = Callable[[str, "MediaType"], str]
"""Path and type → the file's media_id."""

T = TypeVar("T")

BODIES: "dict[str, MediaType]" = {"image": "image", "voice": "voice", "file": "file"}
"""Messages whose body is a file, and its type."""
PICTURES = (("link", "picUrl"), ("oa", "body", "image"))
"""Paths of pictures in messages of other types."""
PLACEHOLDER = "@"

app = typer.Typer(help="Upload files that messages show.", no_args_is_help=True)


@app.callback()
def media() -> None:
    """Upload files that messages show."""


@app.command()
@takes("app", "timeout")
def upload(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, of 20 MB at most.")],
    media_type: Annotated[
        Literal["image", "voice", "video", "file"] | None,
        typer.Option("--type", help="Type; by the name's ending if not given."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Upload it even if it has been uploaded before.")
    ] = False,
) -> None:
    """Upload a file, and print its media_id for messages of the same application.

    A file that was uploaded in the last 30 days is not uploaded again.

    dingrelay media upload menu.png
    """
    from dingrelay_producers.client.client import Client

    app, timeout = app_of_jobs(), seconds_to_wait(JOB_SECONDS)
    with Client() as client, spinner(tr("uploading {file}", file=file)):
        medium = client.upload(file, media_type=media_type, app=app, timeout=timeout, again=again)
    print_result(
        {"media_id": medium.id, "type": medium.type, "app": app, "known": medium.known},
        lambda: console().print(medium.id, markup=False, soft_wrap=True),
    )


def parsed(job: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], T], upload: Upload) -> T:
    """A job or a campaign whose message may name files: they are uploaded once all else is right.

    Raises:
        ContractError: a field is wrong; nothing is uploaded.
        InvalidArgument: a file can't be read, or DingTalk has no such files.
        UploadFailed, WaitTimeout, ServiceUnavailable: as `Client.upload`.
    """
    if "message" not in job:
        return parse(job)
    paths: list[str] = []

    def note(path: str, _: "MediaType") -> str:
        paths.append(path)
        return PLACEHOLDER

    contract = parse({**job, "message": with_files(job["message"], note)})
    if not paths:
        return contract
    return parse({**job, "message": with_files(job["message"], upload)})


def unread(_: str, __: "MediaType") -> str:
    """An `Upload` for who only looks at a message."""
    return PLACEHOLDER


class Uploads:
    """The files of one command, each read and uploaded once."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._known: dict[tuple[str, str, MediaType], str] = {}

    def of(self, app: str) -> Upload:
        """Uploads for an app."""

        def upload(path: str, media_type: "MediaType") -> str:
            entry = app, path, media_type
            if entry not in self._known:
                self._known[entry] = self._upload(path, media_type, app)
            return self._known[entry]

        return upload

    def _upload(self, path: str, media_type: "MediaType", app: str) -> str:
        with spinner(tr("uploading {file}", file=path)):
            return self._client.upload(path, media_type=media_type, app=app).id


def with_files(message: Any, upload: Upload) -> Any:
    """The message with the media_id of each file that it names; anything else as it is."""
    if not isinstance(message, dict):
        return cast("object", message)
    content = cast("dict[str, Any]", message)
    kind = content.get("msgtype")
    if isinstance(kind, str) and kind in BODIES:
        return {**content, **_with_body(content.get(kind), kind, upload)}
    for place in PICTURES:
        if kind == place[0]:
            return _with_picture(content, place, upload)
    return content


def _with_body(body: Any, kind: str, upload: Upload) -> dict[str, Any]:
    path = _path(body)
    if path is None or "media_id" in body:
        return {}
    fields = {name: value for name, value in body.items() if name != "file"}
    return {kind: {"media_id": upload(path, BODIES[kind]), **fields}}


def _with_picture(content: Any, place: tuple[str, ...], upload: Upload) -> Any:
    """The same with the picture at this place, if it is a file."""
    if not place:
        path = _path(content)
        return content if path is None or len(content) > 1 else upload(path, "image")
    name, *inner_place = place
    if not isinstance(content, dict) or name not in content:
        return cast("object", content)
    fields = cast("dict[str, Any]", content)
    return {**fields, name: _with_picture(fields[name], tuple(inner_place), upload)}


def _path(node: Any) -> str | None:
    """The file that an object names; None if it names none."""
    path = cast("dict[str, Any]", node).get("file") if isinstance(node, dict) else None
    return path if isinstance(path, str) else None
