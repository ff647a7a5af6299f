"""``dingrelay who``: everything that was sent to one person."""

from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.language import tr, translated

if TYPE_CHECKING:
    from dingrelay_producers.client.history_backend import PersonHistory

COLOURS = {"accepted": "green", "pending": "cyan", "unknown": "magenta"}
"""Every other outcome says that the person did not get it."""


def who(
    user: Annotated[str, typer.Argument(help="Their userid.")],
    app: Annotated[str | None, typer.Option(help="Only what this application sent.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the latest.")
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """Show what a person was sent, by messages and campaigns, and why something did not arrive."""
    from dingrelay_producers.cli.cells_away import cells_away
    from dingrelay_producers.cli.output import document, print_json
    from dingrelay_producers.client.client import Client

    with Client() as client, cells_away() as away:
        found = client.person(user, app=app, limit=limit, on_away=away)
        if as_json:
            print_json(document(found))
        else:
            _print(found)


def _print(found: "PersonHistory") -> None:
    from rich.text import Text

    from dingrelay_producers.cli.output import console
    from dingrelay_producers.cli.table import Column, print_table
    from dingrelay_producers.zone import local

    out = console()
    for known in found.known_as:
        left = tr(", left {moment}", moment=local(known.left_at)) if known.left_at else ""
        departments = ", ".join(filter(None, known.departments)) or tr("no department")
        out.print(Text(f"{known.app}: {known.name}{left}, {departments}"))
    if not found.known_as:
        out.print(tr("not in the directory"), style="dim")
    columns = (
        Column("at", rank=2),
        Column("outcome"),
        Column("app", rank=3),
        Column("job or campaign"),
        Column("what", rank=1, cut=True),
    )
    print_table(
        columns,
        (
            (
                local(message.at),
                Text(message.outcome, style=COLOURS.get(message.outcome, "red")),
                message.app,
                message.job or message.campaign,
                f"{message.name}  {translated(message.reason)}".rstrip(),
            )
            for message in found.messages
        ),
    )
