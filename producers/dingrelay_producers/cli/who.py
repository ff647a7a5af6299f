"""``dingrelay who``: everything that was sent to one person."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import console, print_json
from dingrelay_producers.cli.table import Column, print_table
from dingrelay_producers.json_values import json_values
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

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
    from dingrelay_producers.client.client import Client

    with Client() as client:
        found = client.person(user, app=app, limit=limit)
        if as_json:
            print_json(json_values(found))
        else:
            _print(found)


def _print(found: "PersonHistory") -> None:
    out = console()
    for known in found.known_as:
        left = tr(", left {moment}", moment=local(known.left_at)) if known.left_at else ""
        departments = ", ".join(filter(None, known.departments)) or tr("no department")
        out.print(Text(f"{known.app}: {known.name}{left}, {departments}"))
    if not found.known_as:
        out.print(tr("not in the directory"), style="dim")
    print_table(
        found.messages,
        Column("at", lambda sent: local(sent.at), rank=2),
        Column("outcome", lambda sent: Text(sent.outcome, style=COLOURS.get(sent.outcome, "red"))),
        Column("app", lambda sent: sent.app, rank=3),
        Column("job or campaign", lambda sent: sent.job or sent.campaign),
        Column(
            "what",
            lambda sent: f"{sent.name}  {translated(sent.reason)}".rstrip(),
            rank=1,
            cut=True,
        ),
    )
