"""``dingrelay key``: API keys of the HTTP gateway."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dingrelay_producers.cli.options import Apps, Lanes, errors_of_options, split
from dingrelay_producers.cli.output import Column, console, print_result, print_secret, print_table
from dingrelay_producers.language import tr
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from datetime import datetime

    from dingrelay_workers.keys.documents import IssuedKey, KeyDocument
    from dingrelay_workers.keys.service import KeyService

Found = TypeVar("Found")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, drk_…")]

TIMEOUT = 30.0
"""Seconds for the database; another process may be writing to an SQLite file."""

_OPTIONS = {
    "name": "NAME",
    "scopes": "--scope",
    "apps": "--app",
    "lanes": "--lane",
}
"""Fields that options of another name give."""

app = typer.Typer(help="Give programs keys to the HTTP gateway.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="For people and logs.")],
    scope: Annotated[
        list[str],
        typer.Option(help="Permissions, such as messages:write, or *; repeatable, or a,b."),
    ],
    application: Apps = None,
    lane: Lanes = None,
    sender: Annotated[
        str, typer.Option(help="Sender of its jobs; NAME if not given, * lets each job name one.")
    ] = "",
    rate: Annotated[
        str | None, typer.Option(help="Requests over all gateways, such as 50/1s.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After how long, such as 90d.")] = None,
    owner: Annotated[
        str,
        typer.Option(help="Userid of its person, in whose name it approves and tests campaigns."),
    ] = "",
) -> None:
    """Make a key, and show it: this once only.

    A key that may do all: --scope '*'.
    """
    from dingrelay_workers.keys.documents import KeyRequest

    options = {
        "name": name,
        "scopes": split(scope),
        "apps": split(application) or None,
        "lanes": split(lane) or None,
        "sender": sender,
        "rate": rate,
        "expires": expires,
        "owner": owner or None,
    }
    with errors_of_options(_OPTIONS, options):
        request = KeyRequest.parse(options)
    _warn_of_unknown_apps(split(application))
    issued_key = asyncio.run(_ask(lambda keys: keys.create(request)))
    _show_once(issued_key)


@app.command("list")
def list_() -> None:
    """List the keys, the newest first, with their last use."""
    keys = asyncio.run(_ask(lambda keys: keys.list()))
    print_result([key.model_dump(mode="json") for key in keys], lambda: _print_table(keys))


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(help="For how long the present secret is taken as well; 0s: not at all.")
    ] = "24h",
) -> None:
    """Give a key a new secret, and show it: this once only. Its id stays."""
    from dingrelay_workers.keys.documents import RotationRequest

    with errors_of_options(_OPTIONS, {}):
        request = RotationRequest.parse({"overlap": overlap})
    issued_key = asyncio.run(_ask(lambda keys: keys.rotate(key_id, request)))
    _show_once(issued_key)


@app.command()
def revoke(key_id: KeyId) -> None:
    """Refuse a key from now on. Gateways that run notice within 5 s."""
    key = asyncio.run(_ask(lambda keys: keys.revoke(key_id)))
    print_result(
        key.model_dump(mode="json"),
        lambda: tr("{id} ({name}) is revoked", id=key.id, name=key.name),
    )


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
    print_secret(issued_key.model_dump(mode="json"), issued_key.key, advice)


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


def _moment(moment: "datetime | None") -> str:
    return local(moment) if moment else tr("never")
