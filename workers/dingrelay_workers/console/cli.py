"""``dingrelay console``: pages for people who do not program, and the links with which they sign in."""

from typing import Annotated

import typer

from dingrelay_producers.cli.output import print_result
from dingrelay_producers.language import tr
from dingrelay_workers.roles import cli as roles
from dingrelay_workers.sessions import cli as sessions

app = typer.Typer(
    help="Pages for people who do not program: who got what, what waits, what failed."
)

app.command()(roles.role)
app.add_typer(sessions.app, name="sessions")

URL = "http://127.0.0.1:8620"


@app.callback(invoke_without_command=True)
def console(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.", show_default="8620")
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(metavar="/PATH", help="Prefix of all its paths, as the proxy passes it on."),
    ] = "",
) -> None:
    """Serve the console."""
    if context.invoked_subcommand:
        return
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.console.server import PORT, run

    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise typer.BadParameter(tr("must begin with / and not end with it"), param_hint="--prefix")
    run(Settings.load(), host, PORT if port is None else port, prefix)


@app.command("login-link")
def login_link(
    user: Annotated[
        str,
        typer.Argument(
            help="Person who signs in with it: a userid, or the name of one person in the directory or of none."
        ),
    ],
    role: Annotated[
        str, typer.Option(help="Role: view, write, approve, operate or admin.")
    ] = "admin",
) -> None:
    """Print a link that signs a person in, once, within ten minutes."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.cli_services import ask
    from dingrelay_workers.sessions.sessions import LoginLinkRequest, LoginLinks

    request = LoginLinkRequest(user=user, role=role)
    token = ask(LoginLinks, lambda links: links.create(request))
    link = f"{(Settings.load().console_url or URL).rstrip('/')}/sign-in?link={token}"
    print_result({"link": link}, lambda: link)
