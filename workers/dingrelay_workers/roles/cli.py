"""``dingrelay console role``: who may do what in the console."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from dingrelay_producers.cli.options import Apps, Lanes, errors_of_options, split
from dingrelay_producers.cli.output import Column, console, print_result, print_table
from dingrelay_producers.language import tr
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_workers.roles.service import RoleService

Found = TypeVar("Found")

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT", help="A userid, or department:ID for all in it and in those below."
    ),
]
Role = Annotated[
    str, typer.Argument(metavar="ROLE", help="One of view, write, approve, operate and admin.")
]
Directory = Annotated[
    str, typer.Option("--directory", help="The application in whose directory they are.")
]
_OPTIONS = {"apps": "--app", "lanes": "--lane", "subject": "SUBJECT", "role": "ROLE"}

app = typer.Typer(help="Who may do what in the console.", no_args_is_help=True)


@app.command()
def grant(
    subject: Subject,
    role: Role,
    application: Apps = None,
    lane: Lanes = None,
    directory: Directory = "default",
) -> None:
    """Give a role to a person or a department."""
    asked = {"subject": subject, "role": role, "directory": directory}
    some = {"apps": split(application), "lanes": split(lane)}
    _change(asked | {name: value for name, value in some.items() if value}, "give")
    console().print(tr("{subject} has the role {role}.", subject=subject, role=role))


@app.command()
def revoke(subject: Subject, role: Role, directory: Directory = "default") -> None:
    """Take a role away; their sessions in the console end."""
    _change({"subject": subject, "role": role, "directory": directory}, "take")
    console().print(
        tr("{subject} does not have the role {role} any more.", subject=subject, role=role)
    )


@app.command("list")
def list_() -> None:
    """List the roles that are given, the latest first."""
    found = asyncio.run(_ask(lambda roles: roles.list()))
    print_result(
        [each.model_dump(mode="json") for each in found],
        lambda: print_table(
            found,
            Column("role", lambda row: row.role),
            Column("given to", lambda row: row.subject),
            Column("name", lambda row: row.name, rank=1, cut=True),
            Column("apps", lambda row: " ".join(row.apps), rank=2),
            Column("lanes", lambda row: " ".join(row.lanes), rank=4),
            Column("given at", lambda row: local(row.given_at), rank=3),
        ),
    )


def _change(asked: dict[str, Any], verb: Literal["give", "take"]) -> None:
    from dingrelay_workers.roles.service import RoleRequest

    with errors_of_options(_OPTIONS, asked):
        request = RoleRequest.parse(asked)
        asyncio.run(_ask(lambda roles: getattr(roles, verb)(request)))


async def _ask(work: "Callable[[RoleService], Awaitable[Found]]") -> Found:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.database.schema import opened
    from dingrelay_workers.roles.service import RoleService

    async with opened(Settings.load().home) as database:
        return await work(RoleService(database))
