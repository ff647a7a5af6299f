"""``dingrelay console sessions``: who is signed in to the console."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from dingrelay_producers.cli.output import Column, console, print_result, print_table
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.sessions.service import SessionDocument


def _carry_out(noun: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.cli_services import carry_out

    carry_out(noun, verb, *arguments)
    console().print(translated(verb.done))


app = noun_app(
    VerbCommands(
        "dingrelay_workers.sessions.service:SessionService",
        ("id", typer.Argument()),
        _carry_out,
        names={"end_all": "end-all"},
    ),
    "See who is signed in to the console, and end their sessions.",
)


@app.command("list")
def list_() -> None:
    """List the sessions that go on, the one that was used last first."""
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.sessions.service import SessionService

    sessions = ask(SessionService, lambda service: service.list())
    print_result(sessions, lambda: _print(sessions))


def _print(sessions: "Sequence[SessionDocument]") -> None:
    print_table(
        sessions,
        Column("id", lambda row: row.id),
        Column("user", lambda row: row.user),
        Column("name", lambda row: row.name, rank=1, cut=True),
        Column("roles", lambda row: " ".join(row.roles), rank=2),
        Column("by", lambda row: tr("link") if row.by_link else row.directory, rank=5),
        Column("signed in", lambda row: local(row.begun_at), rank=4),
        Column("last page", lambda row: local(row.used_at), rank=3),
    )
