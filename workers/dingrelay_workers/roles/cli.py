"""``dingrelay console role``: who may do what in the console."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.options import split
from dingrelay_producers.cli.output import Column, console, print_result, print_table
from dingrelay_producers.language import tr
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_workers.roles.service import GivenRole


def role(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUBJECT]", help="A userid, or department:ID for all in it and in those below."
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Argument(metavar="[ROLE]", help="One of view, write, approve, operate and admin."),
    ] = None,
    apps: Annotated[
        list[str] | None,
        typer.Option("--app", help="For this DingTalk application only; repeatable, or a,b."),
    ] = None,
    lanes: Annotated[
        list[str] | None, typer.Option("--lane", help="In these lanes only; repeatable, or a,b.")
    ] = None,
    directory: Annotated[
        str, typer.Option(help="The application in whose directory they are.")
    ] = "default",
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take the role away; their sessions end.")
    ] = False,
) -> None:
    """Give a role to a person or a department, or take it away; alone: list the roles that are given.

    dingrelay console role department:17 write --app hr
    """
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.roles.service import RoleRequest, RoleService

    if subject is None:
        given_roles = ask(RoleService, lambda roles: roles.list())
        print_result(given_roles, lambda: _print(given_roles))
        return
    if role is None:
        raise typer.BadParameter(tr("name a role"), param_hint="ROLE")
    limits = {"apps": split(apps), "lanes": split(lanes)}
    fields: dict[str, Any] = {"subject": subject, "role": role, "directory": directory}
    fields |= {field: values for field, values in limits.items() if values}
    request = RoleRequest.parse(fields)
    ask(RoleService, lambda roles: roles.revoke(request) if revoke else roles.grant(request))
    console().print(
        tr("{subject} does not have the role {role} any more.", subject=subject, role=role)
        if revoke
        else tr("{subject} has the role {role}.", subject=subject, role=role)
    )


def _print(given_roles: "Sequence[GivenRole]") -> None:
    print_table(
        given_roles,
        Column("role", lambda row: row.role),
        Column("given to", lambda row: row.subject),
        Column("name", lambda row: row.name, rank=1, cut=True),
        Column("apps", lambda row: " ".join(row.apps), rank=2),
        Column("lanes", lambda row: " ".join(row.lanes), rank=4),
        Column("given at", lambda row: local(row.given_at), rank=3),
    )
