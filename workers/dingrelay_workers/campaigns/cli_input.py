"""Input of the campaign commands: a message, people by many names, and files that name them."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, cast

import typer

from dingrelay_producers.cli.options import split
from dingrelay_producers.cli.output import note
from dingrelay_producers.exit_codes import USAGE
from dingrelay_producers.language import tr, translated
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.cli.media import Upload
    from dingrelay_producers.client.campaign_documents import Plan
    from dingrelay_tasks.media_files import MediaType
    from dingrelay_workers.campaigns.recipients import Rows

Text = Annotated[
    str | None, typer.Option(help="A text message; {name} is a field of each recipient.")
]
File = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE|-",
        help="CSV or Excel file (.xlsx) with a column userid, job_number (工号), mobile (手机号), "
        "email (邮箱) or name (姓名) under a header; or one JSON object a line.",
    ),
]
FileColumn = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="NAME|KIND=NAME",
        help="Column of --file that names people, if it is none of these: job_number=编号 holds job "
        "numbers, mobile=, email= and userid= the like.",
    ),
]
To = Annotated[
    list[str] | None,
    typer.Option(help="People by userid or name, comma-separated; repeatable."),
]
Department = Annotated[
    list[int] | None, typer.Option(help="A department and all below it; repeatable.")
]
Everyone = Annotated[bool, typer.Option("--everyone", help="Everyone in the directory.")]
Without = Annotated[
    list[str] | None,
    typer.Option("--except", help="Not these people; as --to. campaign=ID is all of a campaign's."),
]
WithoutDepartment = Annotated[
    list[int] | None,
    typer.Option("--except-department", help="No person in or below it; repeatable."),
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
        metavar="NAME", help="Encoding of the files, such as gb18030; detected if not given."
    ),
]
Rate = Annotated[int | None, typer.Option(help="Recipients a minute at most.")]
OnMalformed = Annotated[
    Literal["refuse", "skip"],
    typer.Option(
        help="Handling of rows that name no person: nothing is created, or they are left out."
    ),
]


CAMPAIGN = "campaign="
"""How ``--except`` names a campaign."""


@contextmanager
def malformed_named(file: str | None, without_file: str | None) -> Generator[None]:
    """Names the file of malformed rows, and what can be done.

    Raises:
        Exit: there are some, and they are refused.
    """
    from dingrelay_producers.client.campaign_documents import MalformedRecipients

    try:
        yield
    except MalformedRecipients as error:
        name = (file if error.field == "recipients" else without_file) or error.field
        note(translated(en("{}: {}", name, error.problem)), style="red")
        if error.field == "recipients":
            advice = tr(
                "Correct them, or leave them out by `--malformed skip`; `--malformed-file FILE` lists them all."
            )
            note(advice, style="yellow")
        raise typer.Exit(USAGE) from None


def check_people(
    file: str | None,
    to: list[str] | None,
    department: list[int] | None,
    everyone: bool,
    column: str | None,
    without_file: str | None,
) -> None:
    """Refuse options that name no person, or that don't go together."""
    if not (file or to or department or everyone):
        raise typer.BadParameter(
            tr("give at least one of them"), param_hint="--file, --to, --department, --everyone"
        )
    if file == without_file == "-":
        raise typer.BadParameter(tr("standard input can be read once"), param_hint="--except-file")
    if column is not None and file is None:
        raise typer.BadParameter(tr("goes with --file"), param_hint="--column")


def left_out(without: list[str] | None) -> tuple[list[str], list[str]]:
    """The people of ``--except``, and the campaigns."""
    named = split(without)
    campaigns = [each for each in named if each.startswith(CAMPAIGN)]
    people = [each for each in named if not each.startswith(CAMPAIGN)]
    return people, [each.removeprefix(CAMPAIGN) for each in campaigns]


def open_input(files: ExitStack, name: str | None, option: str) -> BinaryIO | None:
    """A file that an option names; ``-`` is standard input, None no file."""
    if name is None:
        return None
    if name == "-":
        return typer.get_binary_stream("stdin")
    try:
        return files.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise typer.BadParameter(
            translated(en("{}: {}", name, error.strerror)),
            param_hint=option,
        ) from None


def rows_of(source: BinaryIO, column: str | None, encoding: str) -> "Rows":
    """The rows of a file that names people."""
    from dingrelay_workers.campaigns import recipients

    return recipients.read(source, (), column or "", encoding)


def parse_stored(asked: dict[str, Any], *, dry_run: bool) -> "Plan":
    """Parse the fields of a campaign except its people. Files that its message names are uploaded, but for a dry run.

    Raises:
        ContractError: names the field that is wrong.
        InvalidArgument, UploadFailed, WaitTimeout, ServiceUnavailable: as `Client.upload`.
    """
    from dingrelay_producers.cli.media import parsed, unread
    from dingrelay_workers.campaigns.documents import CampaignSpec

    upload = unread if dry_run else _uploads(asked["app"])
    spec = parsed(asked, CampaignSpec.parse, upload)
    return cast("Plan", {name: getattr(spec, name) for name in CampaignSpec.model_fields})


def _uploads(app: str) -> "Upload":
    """Uploads for an app. Most campaigns name no file, and a client takes 25 MB."""

    def upload(path: str, media_type: "MediaType") -> str:
        from dingrelay_producers.cli.media import Uploads
        from dingrelay_producers.client.client import Client

        with Client() as client:
            return Uploads(client).of(app)(path, media_type)

    return upload
