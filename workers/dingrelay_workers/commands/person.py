"""``dingrelay person``: people of the directory, by what somebody knows of them."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.language import tr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingrelay_producers.settings import Settings

app = typer.Typer(help="Find people in the directory.", no_args_is_help=True)


@app.callback()
def person() -> None:
    """Find people in the directory."""


@app.command()
def find(
    text: Annotated[
        str,
        typer.Argument(help="Part of a name; or a userid, mobile number, e-mail or job number."),
    ],
    app: Annotated[str | None, typer.Option(help="Only in this application's directory.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")
    ] = 20,
    as_json: options.AsJson = False,
) -> None:
    """Find people by name, or by an address; those who left come last."""
    from dingrelay_producers.cli.output import document, print_json
    from dingrelay_producers.settings import Settings

    found = asyncio.run(_find(Settings.load(), text, app, limit))
    if as_json:
        print_json(document(found))
    else:
        _print(found)


def _print(found: "Sequence[dict[str, Any]]") -> None:
    from dingrelay_producers.cli.table import Column, print_table
    from dingrelay_producers.zone import local

    columns = (
        Column("userid"),
        Column("name"),
        Column("app", rank=2),
        Column("job number", rank=3),
        Column("departments", rank=1, cut=True),
        Column("left", rank=1),
    )
    print_table(
        columns,
        (
            (
                each["userid"],
                each["name"],
                each["app"],
                each["job_number"],
                ", ".join(each["departments"]) or tr("no department"),
                local(each["left_at"]) if each["left_at"] else "",
            )
            for each in found
        ),
    )


async def _find(
    settings: "Settings", text: str, app: str | None, limit: int
) -> "list[dict[str, Any]]":
    """The people, as JSON values but for moments.

    Raises:
        ServiceUnavailable: the database can't be used.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from dingrelay_workers.database.database import Database
    from dingrelay_workers.database.schema import unusable
    from dingrelay_workers.directory import search
    from dingrelay_workers.directory.models import UserRow

    database = Database(settings.database)
    try:
        if not await database.has(UserRow):
            return []
        return await search.find(database, text, app=app, limit=limit)
    except SQLAlchemyError as error:
        raise unusable(error) from None
    finally:
        await database.dispose()
