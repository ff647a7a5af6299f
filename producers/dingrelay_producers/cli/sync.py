"""``dingrelay sync``: bring the directory up to date with DingTalk."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.language import tr


def sync(
    scope: Annotated[
        Literal["everything", "department", "user"], typer.Argument(help="What to read.")
    ] = "everything",
    target: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The department or the user.")
    ] = None,
    app: options.App = "default",
    lane: options.Lane = "bulk",
    confirm_removals: Annotated[
        bool,
        typer.Option("--confirm-removals", help="Mark people as left however many they are."),
    ] = False,
    wait: options.Wait = False,
    timeout: options.Timeout = 3600,
    as_json: options.AsJson = False,
) -> None:
    """Read departments and people from DingTalk into the directory.

    dingrelay sync department 5 --wait
    """
    if (target is None) != (scope == "everything"):
        problem = (
            tr("{scope} takes none", scope=scope)
            if scope == "everything"
            else tr("needed for {scope}", scope=scope)
        )
        raise typer.BadParameter(problem, param_hint="ID")
    from dingrelay_producers.cli.enqueue import enqueue
    from dingrelay_tasks.user_sync import UserSync

    job = UserSync.parse(
        {
            "app": app,
            "lane": lane,
            "scope": scope,
            "department": _department(target) if scope == "department" else None,
            "user": target if scope == "user" else None,
            "confirm_removals": confirm_removals,
        }
    )
    enqueue(job, wait=wait, timeout=timeout, as_json=as_json)


def _department(target: str | None) -> int:
    try:
        return int(target or "")
    except ValueError:
        raise typer.BadParameter(tr("a department's id is a number"), param_hint="ID") from None
