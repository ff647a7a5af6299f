"""The options that say what a campaign sends, its people, and how; shared by its commands."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from dingrelay_producers.cli.options import read_message, read_moment, split
from dingrelay_producers.language import tr

if TYPE_CHECKING:
    from dingrelay_producers.cli.media import Upload
    from dingrelay_tasks.media_upload import MediaType
    from dingrelay_workers.campaigns.audience import Audience
    from dingrelay_workers.campaigns.spec import CampaignSpec

Text = Annotated[
    str | None, typer.Option(help="A text message; {name} is a field of each recipient.")
]
Markdown = Annotated[
    tuple[str, str] | None, typer.Option(metavar="TITLE TEXT", help="A Markdown message.")
]
Message = Annotated[
    str | None,
    typer.Option(
        metavar="JSON|@FILE|@-",
        help='DingTalk\'s own msg object, of any type; a file in it as {"file": "menu.png"}.',
    ),
]
File = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE|-",
        help="CSV with a column userid under a header, or one JSON object a line.",
    ),
]
FileColumn = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="NAME|KIND=NAME",
        help="Column of --file that names people, if it is not userid: staff_id holds userids, "
        "job_number=staff_id job numbers; so do mobile= and email=.",
    ),
]
To = Annotated[list[str] | None, typer.Option(help="Users, comma-separated; repeatable.")]
Department = Annotated[
    list[int] | None, typer.Option(help="A department and all below it; repeatable.")
]
Everyone = Annotated[bool, typer.Option("--everyone", help="Everyone in the directory.")]
Without = Annotated[list[str] | None, typer.Option("--except", help="Not these users; as --to.")]
WithoutDepartment = Annotated[
    list[int] | None, typer.Option("--except-department", help="Nobody in or below it; repeatable.")
]
WithoutFile = Annotated[
    str | None,
    typer.Option("--except-file", metavar="FILE", help="Leave out the people it names; as --file."),
]
Quiet = Annotated[
    str, typer.Option(metavar="HH:MM-HH:MM", help="Hours of Beijing's day without calls.")
]
Encoding = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Of the files, such as gb18030; otherwise their bytes show it."
    ),
]
Rate = Annotated[int | None, typer.Option(help="Recipients a minute at most.")]
Malformed = Annotated[
    Literal["refuse", "skip"],
    typer.Option(help="What rows that name nobody mean: nothing is created, or they are left out."),
]


def spec(
    text: str | None,
    markdown: tuple[str, str] | None,
    message: str | None,
    *,
    at: str | None,
    app: str,
    stored: bool,
    **fields: Any,
) -> "CampaignSpec":
    """The campaign that the options describe; `fields` are those that the options say as they are.

    Files that its message names are uploaded if it is to be `stored`.

    Raises:
        BadParameter: the message or the moment can't be read.
        ContractError: names the field that is wrong.
        InvalidArgument, UploadFailed, WaitTimeout, ServiceUnavailable: as `Client.upload`.
    """
    content = read_message(text, markdown, message)
    from dingrelay_producers.cli.media import parsed, unread
    from dingrelay_workers.campaigns.spec import CampaignSpec

    start_at = read_moment(at, "--at")
    asked = {"message": content, "start_at": start_at, "app": app, **fields}
    return parsed(asked, CampaignSpec.parse, _uploads(app) if stored else unread)


def _uploads(app: str) -> "Upload":
    """Uploads for an app. Most campaigns name no file, and a client takes 25 MB."""

    def upload(path: str, media_type: "MediaType") -> str:
        from dingrelay_producers.cli.media import Uploads
        from dingrelay_producers.client.client import Client

        with Client() as client:
            return Uploads(client).of(app)(path, media_type)

    return upload


@contextmanager
def audience(
    *,
    file: str | None,
    to: list[str] | None,
    department: list[int] | None,
    everyone: bool,
    without: list[str] | None,
    without_department: list[int] | None,
    without_file: str | None,
    column: str | None = None,
    encoding: str = "",
) -> Generator["Audience"]:
    """The people that the options name, with the files open while the block runs.

    Raises:
        BadParameter: they name no recipient, or a file can't be opened.
    """
    if not (file or to or department or everyone):
        raise typer.BadParameter(
            tr("give at least one of them"), param_hint="--file, --to, --department, --everyone"
        )
    if file == without_file == "-":
        raise typer.BadParameter(tr("standard input can be read once"), param_hint="--except-file")
    if column is not None and file is None:
        raise typer.BadParameter(tr("goes with --file"), param_hint="--column")
    from dingrelay_workers.campaigns.audience import Audience
    from dingrelay_workers.campaigns.recipients import Column

    with ExitStack() as files:
        yield Audience(
            rows=_open(files, file, "--file"),
            users=split(to),
            departments=department or [],
            everyone=everyone,
            column=Column.of(column) if column is not None else None,
            encoding=encoding,
            without_rows=_open(files, without_file, "--except-file"),
            without_users=split(without),
            without_departments=without_department or [],
        )


def _open(files: ExitStack, name: str | None, option: str) -> BinaryIO | None:
    if name is None:
        return None
    if name == "-":
        return typer.get_binary_stream("stdin")
    try:
        return files.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}", param_hint=option) from None
