"""``dingrelay person``: a person in the directory, and the data kept about them."""

import asyncio
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import (
    Column,
    as_json,
    console,
    note,
    output_file,
    print_json,
    print_result,
    print_table,
)
from dingrelay_producers.cli.shared import takes, value_of
from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.history_documents import KnownPerson, Message, PersonHistory
    from dingrelay_producers.client.personal_data import Erasure
    from dingrelay_producers.settings import Settings

User = Annotated[str, typer.Argument(help="Their userid, or their name.")]

COLOURS = {
    **dict.fromkeys(("accepted", "delivered", "read"), "green"),
    "pending": "cyan",
    "unknown": "magenta",
}
"""Every other outcome says that the person did not get it."""
MOST_REMAINING = 20
"""Things that can't be erased yet which are listed one by one."""

app = typer.Typer(
    help="Find people in the directory; show what one was sent; export or erase what is kept.",
    no_args_is_help=True,
)


@app.command()
@takes("app")
def find(
    text: Annotated[
        str,
        typer.Argument(help="Part of a name; or a userid, mobile number, e-mail or job number."),
    ],
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")
    ] = 20,
) -> None:
    """Find people by name, or by an address; those who left come last."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.history.service import HistoryService

    app: str | None = value_of("app")
    history = HistoryService(Settings.load())
    result = asyncio.run(history.search(text, app=app, limit=limit))
    print_result(result, lambda: _print(result.people))
    if result.matches > len(result.people):
        note(tr("{count} more fit", count=result.matches - len(result.people)), style="dim")
    if not result.people and not asyncio.run(history.search("", app=app, limit=1)).people:
        note(tr("The directory is empty: `dingrelay sync` reads it from DingTalk."), style="yellow")


def _print(people: "Sequence[KnownPerson]") -> None:
    print_table(
        people,
        Column("userid", lambda person: person.userid),
        Column("full name", lambda person: person.name),
        Column("app", lambda person: person.app, rank=2),
        Column("job number", lambda person: person.job_number, rank=3),
        Column("department", _departments, rank=1, cut=True),
        Column("left", lambda person: local(person.left_at) if person.left_at else "", rank=1),
        empty=tr("no such person in the directory"),
    )


def _departments(person: "KnownPerson") -> str:
    return ", ".join(filter(None, person.departments)) or tr("no department")


@app.command()
@takes("app")
def show(
    user: User,
    limit: options.Limit = 50,
) -> None:
    """Show what a person was sent, by messages and campaigns, and why something did not arrive."""
    from dingrelay_producers.client.client import Client

    app: str | None = value_of("app")
    user = options.userid(user, "USER", app)
    with Client() as client:
        history = client.person(user, app=app, limit=limit)
    print_result(history, lambda: _print_history(history))


def _meaning(sent: "Message") -> str:
    return translated(
        sent.reason or (OUTCOMES[sent.outcome].sentence if sent.outcome in OUTCOMES else "")
    )


def _print_history(history: "PersonHistory") -> None:
    out = console()
    for entry in history.known_as:
        departure = tr(", left {moment}", moment=local(entry.left_at)) if entry.left_at else ""
        person = ", ".join(filter(None, (entry.name, entry.userid, entry.job_number)))
        out.print(Text(f"{entry.app}: {person}{departure}, {_departments(entry)}"))
    if not history.known_as:
        out.print(tr("not in the directory"), style="dim")
    print_table(
        history.messages,
        Column("at", lambda message: local(message.at), rank=2),
        Column(
            "outcome",
            lambda message: Text(message.outcome, style=COLOURS.get(message.outcome, "red")),
        ),
        Column("result", _meaning, rank=1, cut=True),
        Column("app", lambda message: message.app, rank=3),
        Column("job or campaign", lambda message: message.job or message.campaign),
        Column(
            "what",
            lambda message: message.name,
            rank=2,
            cut=True,
        ),
        empty=tr("nothing was sent to this person"),
    )


@app.command()
@takes("app")
def export(
    user: User,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to a new file, as JSON.")
    ] = None,
) -> None:
    """Hand out all that is kept of a person. It may name others: look before you pass it on."""
    import json

    from dingrelay_producers.client.client import Client

    app: str | None = value_of("app")
    user = options.userid(user, "USER", app, unknown=True)
    with Client() as client:
        document = _json_values(client.export_person(user, app=app))
    if as_json.get():
        print_json(document)
    elif output is None:
        _print_counts(document)
    else:
        with output_file(str(output), "--output", private=True) as write:
            write(json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(document))
        note(tr("written to {file}", file=output), style="green")


def _print_counts(document: Mapping[str, Any]) -> None:
    places = {
        place: len(entries) for place, entries in document.items() if isinstance(entries, list)
    }
    print_table(
        [(_title_of(place), str(count)) for place, count in places.items() if count],
        Column("where", itemgetter(0)),
        Column("entries", itemgetter(1), right=True),
    )
    if any(places.values()):
        console().print(tr("Write it to a file with `--output`, or print it with `--json`."))


@app.command()
@takes("app")
def erase(
    user: User,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a person out of all that is kept. What is still needed goes later, by itself."""
    from dingrelay_producers.client.client import Client

    app: str | None = value_of("app")
    user = options.userid(user, "USER", app, unknown=True)
    with Client() as client:
        if not yes:
            people = client.person(user, app=app, limit=1).known_as
            names = ", ".join(f"{person.app}: {person.name}" for person in people)
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
        print_result(_json_values(erasure), lambda: _print_erasure(erasure, client.settings))


def _print_erasure(erasure: "Erasure", settings: "Settings") -> None:
    out = console()
    if not erasure.job:
        out.print(tr("Nothing is kept of {user}.", user=erasure.user))
        return
    erased = ", ".join(
        f"{_title_of(place)} {count}" for place, count in erasure.erased.items() if count
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
            "A worker finishes it: `dingrelay job show {job}` shows when it has. Its record names "
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
        Column("where", lambda entry: _title_of(entry.place)),
        Column("what", lambda entry: entry.id),
        Column("why", lambda entry: translated(entry.reason), rank=1, cut=True),
        Column("until", lambda entry: local(entry.until) if entry.until else "", rank=2),
        Column("what to do", lambda entry: translated(entry.hint), rank=1, cut=True),
    )
    if len(erasure.remaining) > MOST_REMAINING:
        out.print(tr("and {count} more", count=len(erasure.remaining) - MOST_REMAINING))


def _title_of(place: str) -> str:
    """The displayed name of a place."""
    from dingrelay_workers.personal_data.service import PERSONAL_DATA

    titles = {part.place: translated(part.title) for part in PERSONAL_DATA}
    return titles.get(place, place)


def _json_values(value: Any) -> Any:
    """A value, such as a dataclass, as JSON spells it."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
