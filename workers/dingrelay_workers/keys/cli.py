"""``dingrelay key``: API keys of the HTTP gateway."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dingrelay_producers.cli.output import Column, console, print_result, print_secret, print_table
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from datetime import datetime

    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.keys.documents import IssuedKey, KeyDocument
    from dingrelay_workers.keys.service import KeyService

Found = TypeVar("Found")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, drk_…")]

TIMEOUT = 30.0
"""Seconds for the database; another process may be writing to an SQLite file."""


def _carry_out(_: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.keys.documents import IssuedKey, KeyRequest

    if isinstance(arguments[0], KeyRequest):
        _warn_of_unknown_apps(arguments[0].apps)
    key = asyncio.run(_ask(lambda keys: verb.body(keys, *arguments)))
    if isinstance(key, IssuedKey):
        _show_once(key)
        return
    state = tr("{id} ({name}) is {state}", id=key.id, name=key.name, state=tr(key.state))
    print_result(key, lambda: state)


app = noun_app(
    VerbCommands("dingrelay_workers.keys.service:KeyService", ("key_id", KeyId), _carry_out),
    "Give programs keys to the HTTP gateway.",
)


@app.command("list")
def list_() -> None:
    """List the keys, the newest first, with their last use."""
    keys = asyncio.run(_ask(lambda keys: keys.list()))
    print_result(keys, lambda: _print_table(keys))


async def _ask(question: "Callable[[KeyService], Awaitable[Found]]") -> Found:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.database.schema import opened
    from dingrelay_workers.keys.service import KeyService

    async with opened(Settings.load()) as database:
        return await question(KeyService(database, timeout=TIMEOUT))


def _warn_of_unknown_apps(names: list[str]) -> None:
    """A slip in a name makes a key that may do nothing; but apps may be configured elsewhere."""
    from dingrelay_producers.settings import Settings
    from dingrelay_tasks.robot_names import ROBOTS
    from dingrelay_workers.http.api_keys import TARGET

    apps = Settings.load().apps
    for name in names:
        if apps and name not in {*apps, "*", ROBOTS} and not TARGET.match(name):
            warning = tr(
                "note: no app {name} in the settings here; there are {names}",
                name=name,
                names=", ".join(sorted(apps)),
            )
            console(stderr=True).print(warning, style="yellow", markup=False)


def _show_once(issued_key: "IssuedKey") -> None:
    advice = tr("Keep it: it is shown this once only and can't be found out again.")
    if until := issued_key.old_secret_until:
        advice += tr(" The one before is taken until {moment}.", moment=local(until))
    print_secret(issued_key, issued_key.key, advice)


def _print_table(keys: "Sequence[KeyDocument]") -> None:
    print_table(
        keys,
        Column("state", lambda key: key.state),
        Column("id", lambda key: key.id),
        Column("last use", lambda key: _moment(key.last_used_at), rank=5),
        Column("expires", lambda key: _moment(key.expires_at), rank=4),
        Column("scopes", lambda key: " ".join(key.scopes), rank=2),
        Column("apps", lambda key: " ".join(key.apps), rank=6),
        Column("lanes", lambda key: " ".join(key.lanes), rank=7),
        Column("sender", lambda key: key.sender, rank=3),
        Column("rate", lambda key: str(key.rate or tr("none")), rank=8),
        Column("owner", lambda key: key.owner, rank=9),
        Column("name", lambda key: key.name, rank=1, cut=True),
    )
    for key in keys:
        if key.warning:
            warning = tr(
                "note: {id} ({name}) {warning}",
                id=key.id,
                name=key.name,
                warning=translated(key.warning),
            )
            console(stderr=True).print(warning, style="yellow", markup=False)


def _moment(moment: "datetime | None") -> str:
    return local(moment) if moment else tr("never")
