"""``dingrelay console sessions``: who is signed in to the console."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from dingrelay_producers.cli.output import Column, console, print_result, print_table
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.sessions.service import SessionDocument, SessionService

Found = TypeVar("Found")


def _carry_out(_: Any, verb: "Verb", *arguments: Any) -> None:
    asyncio.run(_ask(lambda sessions: verb.body(sessions, *arguments)))
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
    sessions = asyncio.run(_ask(lambda sessions: sessions.list()))
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


async def _ask(question: "Callable[[SessionService], Awaitable[Found]]") -> Found:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.database.schema import opened
    from dingrelay_workers.sessions.service import SessionService

    async with opened(Settings.load()) as database:
        return await question(SessionService(database))
