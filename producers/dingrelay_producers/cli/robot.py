"""``dingrelay robot``: messages by robots, and which robots and groups there are."""

from typing import Annotated, Any

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.options import read_message, read_moment
from dingrelay_producers.cli.output import Column, print_result, print_table
from dingrelay_producers.cli.waiting import show_accepted

app = typer.Typer(help="Post to groups through their robots.", no_args_is_help=True)


@app.callback()
def robot() -> None:
    """Post to groups through their robots."""


@app.command()
def send(
    group: Annotated[str | None, typer.Option(help="A group of the settings.")] = None,
    name: Annotated[
        str | None, typer.Option("--robot", help="A robot of the settings; with --to, the writer.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="USER", help="One to one: users, comma-separated; repeatable."),
    ] = None,
    text: options.Text = None,
    markdown: options.Markdown = None,
    message: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|@-", help="A message as DingTalk's webhooks take it."),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option(metavar="5m", help="Merge what would come sooner after the last message."),
    ] = None,
    lane: options.Lane = "normal",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
    sender: options.Sender = "",
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
) -> None:
    """Post a message.

    dingrelay robot send --group oncall --text "磁盘 93 %" --wait
    """
    from dingrelay_producers.client.client import Client
    from dingrelay_tasks.robot_message import RobotMessage

    job = RobotMessage.parse(
        {
            "to": {"group": group, "robot": name, "users": options.userids(to, "--to") or None},
            "message": read_message(text, markdown, message),
            "digest": digest,
            "lane": lane,
            "sender": sender,
            "idempotency_key": key,
            "send_at": read_moment(at, "--at"),
            "expires_at": read_moment(expires, "--expires"),
        }
    )
    with Client() as client:
        show_accepted(client.send(job), job.summary(), wait=wait, timeout=timeout)


@app.command("list")
def list_robots() -> None:
    """Show the robots and groups of the settings.

    dingrelay robot list
    """
    from dingrelay_producers import running

    settings = running.settings()
    robots: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": robot.kind,
            "signs": bool(robot.secret.get_secret_value()),
            "app": robot.app,
            "groups": [group for group, own in settings.groups.items() if name in own.robots],
        }
        for name, robot in sorted(settings.robots.items())
    ]
    print_result({"robots": robots}, lambda: _print(robots))


def _print(robots: list[dict[str, Any]]) -> None:
    print_table(
        robots,
        Column("name", lambda robot: robot["name"]),
        Column("kind", lambda robot: robot["kind"]),
        Column("groups", lambda robot: ", ".join(robot["groups"])),
    )
