"""``dingrelay person``: a person in the directory, and the data kept about them."""

import asyncio
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import console, note, output_file, print_json
from dingrelay_producers.cli.table import Column, print_table
from dingrelay_producers.json_values import json_values
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dingrelay_producers.client.personal_data import Erasure
    from dingrelay_producers.settings import Settings

MOST_REMAINING = 20
"""Things that can't be erased yet which are listed one by one."""

app = typer.Typer(
    help="Find people in the directory; export or erase what is kept of one.", no_args_is_help=True
)


@app.callback()
def person() -> None:
    """Find people in the directory; export or erase what is kept of one."""


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
    found = asyncio.run(_find(text, app, limit))
    if as_json:
        print_json(json_values(found))
    else:
        _print(found)


def _print(found: "Sequence[dict[str, Any]]") -> None:
    def departments(person: dict[str, Any]) -> str:
        return ", ".join(person["departments"]) or tr("no department")

    def left(person: dict[str, Any]) -> str:
        return local(person["left_at"]) if person["left_at"] else ""

    print_table(
        found,
        Column("userid", lambda each: each["userid"]),
        Column("name", lambda each: each["name"]),
        Column("app", lambda each: each["app"], rank=2),
        Column("job number", lambda each: each["job_number"], rank=3),
        Column("departments", departments, rank=1, cut=True),
        Column("left", left, rank=1),
    )


async def _find(text: str, app: str | None, limit: int) -> "list[dict[str, Any]]":
    """The people, as JSON values but for moments.

    Raises:
        ServiceUnavailable: the database can't be used, or is not there.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.database.errors import refuse_missing, unusable
    from dingrelay_workers.directory import search
    from dingrelay_workers.directory.models import UserRow

    url = Settings.load().of_app(app).database
    refuse_missing(url)
    database = Database(url)
    try:
        if not await database.has(UserRow):
            return []
        return await search.find(database, text, app=app, limit=limit)
    except SQLAlchemyError as error:
        raise unusable(error) from None
    finally:
        await database.dispose()


@app.command()
def export(
    user: Annotated[str, typer.Argument(help="Their userid.")],
    app: Annotated[str | None, typer.Option(help="Only what this application keeps.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to a new file, as JSON.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Hand out all that is kept of a person. It may name others: look before you pass it on."""
    import json

    from dingrelay_producers.client.client import Client

    with Client() as client:
        found = json_values(client.export_person(user, app=app))
    if as_json:
        print_json(found)
    elif output is None:
        _print_counts(found)
    else:
        with output_file(str(output), "--output", private=True) as write:
            write(json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(found))
        note(tr("written to {file}", file=output), style="green")


def _print_counts(found: "Mapping[str, Any]") -> None:
    places = {place: len(kept) for place, kept in found.items() if isinstance(kept, list)}
    print_table(
        [(_named(place), str(count)) for place, count in places.items() if count],
        Column("where", itemgetter(0)),
        Column("entries", itemgetter(1), right=True),
    )
    if any(places.values()):
        console().print(tr("Write it to a file with `--output`, or print it with `--json`."))


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="Their userid.")],
    app: Annotated[str | None, typer.Option(help="Only what this application keeps.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Take a person out of all that is kept. What is still needed goes later, by itself."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        if not yes:
            known = client.person(user, app=app, limit=1).known_as
            names = ", ".join(f"{each.app}: {each.name}" for each in known)
            typer.confirm(
                tr(
                    "Erase {user} ({names})? It can't be undone",
                    user=user,
                    names=names or tr("not in the directory"),
                ),
                abort=True,
                err=True,
            )
        erasure = client.erase_person(user, app=app)
        if as_json:
            print_json(json_values(erasure))
        else:
            _print_erasure(erasure, client.settings)


def _print_erasure(erasure: "Erasure", settings: "Settings") -> None:
    out = console()
    if not erasure.job:
        out.print(tr("Nothing is kept of {user}.", user=erasure.user))
        return
    erased = ", ".join(
        f"{_named(place)} {count}" for place, count in erasure.erased.items() if count
    )
    if erased:
        out.print(
            tr(
                "Erased: {erased}. {tombstone} stands in their place.",
                erased=erased,
                tombstone=erasure.tombstone,
            )
        )
    else:
        out.print(tr("Nothing can be erased yet."))
    if erasure.returns:
        out.print(
            tr(
                "They belong to the organisation: the next user-sync or event brings them back into the "
                "directory. Take them out of DingTalk, or out of the app's contact scope, to prevent that."
            )
        )
    if erasure.remaining:
        _print_remaining(erasure)
    out.print(
        tr(
            "A worker finishes it: `dingrelay job show {job}` tells when it has. Its record names "
            "the person until it goes, {days:g} days later.",
            job=erasure.job,
            days=settings.record_ttl / 86_400,
        )
    )


def _print_remaining(erasure: "Erasure") -> None:
    out = console()
    out.print(tr("Still needed, and erased later:"))
    print_table(
        erasure.remaining[:MOST_REMAINING],
        Column("where", lambda left: _named(left.place)),
        Column("what", lambda left: left.id),
        Column("why", lambda left: translated(left.reason), rank=1, cut=True),
        Column("until", lambda left: local(left.until) if left.until else "", rank=2),
    )
    if len(erasure.remaining) > MOST_REMAINING:
        out.print(tr("and {count} more", count=len(erasure.remaining) - MOST_REMAINING))


def _named(place: str) -> str:
    """The displayed name of a place."""
    names = {
        "answers": tr("answers"),
        "approvals": tr("approvals"),
        "campaigns": tr("campaigns"),
        "daily_limits": tr("daily limits"),
        "directory": tr("directory"),
        "history": tr("history"),
        "jobs": tr("jobs"),
    }
    return names.get(place, place)
