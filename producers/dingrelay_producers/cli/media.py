"""``dingrelay media``: files for messages."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import console, print_json
from dingrelay_producers.cli.waiting import spinner
from dingrelay_producers.language import tr

app = typer.Typer(help="Upload files that messages show.", no_args_is_help=True)


@app.callback()
def media() -> None:
    """Upload files that messages show."""


@app.command()
def upload(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, of 20 MB at most.")],
    name: Annotated[
        str | None, typer.Option(help="Its name in DingTalk, if that is another one.")
    ] = None,
    media_type: Annotated[
        Literal["image", "voice", "video", "file"] | None,
        typer.Option("--type", help="What it is; the name's ending tells otherwise."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Upload it even if it has been uploaded before.")
    ] = False,
    lane: options.Lane = "normal",
    app: options.App = "default",
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Upload a file, and print its media_id for messages of the same application.

    A file that was uploaded in the last 30 days is not uploaded again.

    dingrelay media upload menu.png
    """
    from dingrelay_producers.client.client import Client

    with Client() as client, spinner(tr("uploading {file}", file=file)):
        found = client.upload(
            file, name=name, media_type=media_type, app=app, lane=lane, timeout=timeout, again=again
        )
    if as_json:
        print_json({"media_id": found.id, "type": found.type, "app": app, "known": found.known})
    else:
        console().print(found.id, markup=False, highlight=False, soft_wrap=True)
