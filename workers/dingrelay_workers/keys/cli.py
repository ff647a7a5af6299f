"""``dingrelay key``: API keys of the HTTP gateway."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.output import Column, console, print_result, print_secret, print_table
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from datetime import datetime

    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.keys.documents import IssuedKey, KeyDocument

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, drk_…")]


def _carry_out(noun: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.cli_services import carry_out
    from dingrelay_workers.keys.documents import IssuedKey, KeyRequest

    if isinstance(arguments[0], KeyRequest):
        _warn_of_unknown_apps(arguments[0].apps)
    key = carry_out(noun, verb, *arguments)
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
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.keys.service import KeyService

    keys = ask(KeyService, lambda service: service.list())
    print_result(keys, lambda: _print_table(keys))


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
