"""``dingrelay approval``: the state of approvals, and actions on them."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli import options
from dingrelay_producers.cli.exits import DONE, OTHERWISE, of_state
from dingrelay_producers.cli.output import console, grid_of_fields, print_job, print_json
from dingrelay_producers.cli.table import Column, print_table
from dingrelay_producers.cli.waiting import wait_for
from dingrelay_producers.json_values import json_values
from dingrelay_producers.language import tr
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from collections.abc import Generator

    from dingrelay_producers.client.approval_backend import ApprovalStatus
    from dingrelay_producers.client.approvals import ApprovalRef
    from dingrelay_producers.client.job_ref import JobRef

StateName = Literal["running", "approved", "refused", "terminated", "deleted"]

Instance = Annotated[str, typer.Argument(help="DingTalk's id of the approval.")]
User = Annotated[str, typer.Option(help="The approver in whose name it is done.")]
Remark = Annotated[str, typer.Option(help="The approver's remark.")]

COLOURS = {"running": "blue", "approved": "green", "refused": "red"}

app = typer.Typer(
    help="Show the state of approvals; decide, withdraw and comment on them.", no_args_is_help=True
)


@app.command()
def show(
    instance: Instance,
    look: Annotated[
        bool, typer.Option("--look", help="Ask DingTalk for the current state first.")
    ] = False,
    timeout: options.Timeout = 60,
    app: options.App = "default",
    as_json: options.AsJson = False,
) -> None:
    """Show the stored state of an approval."""
    with _approval(instance, app) as ref:
        if look:
            looked = wait_for(ref.look(), timeout)
            if looked.state != State.DONE:
                print_job(looked, as_json=as_json)
                raise typer.Exit(of_state(looked.state))
        status = ref.status()
    if as_json:
        print_json(json_values(status))
    else:
        console().print(_page(status))


@app.command("list")
def list_(
    state: Annotated[StateName | None, typer.Option(help="Only approvals in this state.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Only approvals of this process code.")
    ] = None,
    originator: Annotated[
        str | None, typer.Option(help="Only approvals that this user requested.")
    ] = None,
    waits_for: Annotated[
        str | None, typer.Option(help="Only approvals that this user has to decide.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="Only approvals of this application.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """List approvals, the newest first."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        found = client.approvals(
            state=state,
            template=template,
            originator=originator,
            waits_for=waits_for,
            app=app,
            limit=limit,
        )
    if as_json:
        print_json([json_values(status) for status in found])
        return
    print_table(
        found,
        Column("state", _state),
        Column("id", lambda status: status.instance),
        Column("app", lambda status: status.app, rank=4),
        Column("originator", lambda status: status.originator, rank=3),
        Column("known since", lambda status: local(status.known_since), rank=5),
        Column("waits for", _waits_for, rank=1),
        Column("title", lambda status: status.title, rank=2, cut=True),
    )


@app.command()
def watch(
    instance: Instance,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to watch at most.")] = 86_400,
    app: options.App = "default",
    as_json: options.AsJson = False,
) -> None:
    """Print each change of an approval until it has ended. Exit code 0 only if it is approved.

    With --json each line is the whole approval.
    """
    import time

    from dingrelay_producers.client.approvals import POLL_SECONDS, Patience

    patience, printed = Patience(instance, timeout), None
    with _approval(instance, app) as ref:
        while True:
            status = ref.known()
            if status and status != printed:
                printed = status
                if as_json:
                    print_json(json_values(status))
                else:
                    console().print(_line(status))
            if status and status.ended:
                raise typer.Exit(DONE if status.state == "approved" else OTHERWISE)
            patience.spend(status)
            time.sleep(POLL_SECONDS)


@app.command()
def terminate(
    instance: Instance,
    reason: Annotated[str, typer.Option(help="Reason, shown to the approvers.")] = "",
    user: Annotated[
        str | None, typer.Option(help="The originator, to withdraw it in their name.")
    ] = None,
    app: options.App = "default",
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Withdraw a running approval. DingTalk refuses it in the first 15 seconds; the job waits."""
    with _approval(instance, app) as approval:
        job = approval.terminate(reason, user=user)
        what = tr("terminate {instance}", instance=instance)
        _show_accepted(job, what, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def agree(
    instance: Instance,
    user: User,
    remark: Remark = "",
    app: options.App = "default",
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Agree to an approval in the name of an approver."""
    with _approval(instance, app) as approval:
        job, what = approval.agree(user, remark), tr("agree {instance}", instance=instance)
        _show_accepted(job, what, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def refuse(
    instance: Instance,
    user: User,
    remark: Remark = "",
    app: options.App = "default",
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Refuse an approval in the name of an approver."""
    with _approval(instance, app) as approval:
        job, what = approval.refuse(user, remark), tr("refuse {instance}", instance=instance)
        _show_accepted(job, what, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def comment(
    instance: Instance,
    text: Annotated[str, typer.Argument(help="The comment.")],
    user: Annotated[str, typer.Option(help="The user in whose name the comment is made.")],
    app: options.App = "default",
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Add a comment to an approval."""
    with _approval(instance, app) as approval:
        job, what = approval.comment(text, user), tr("comment {instance}", instance=instance)
        _show_accepted(job, what, wait=wait, timeout=timeout, as_json=as_json)


@contextmanager
def _approval(instance: str, app: str) -> "Generator[ApprovalRef]":
    """The reference of an approval, by a client of its own."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        yield client.approval(instance, app=app)


def _show_accepted(job: "JobRef", what: str, *, wait: bool, timeout: float, as_json: bool) -> None:
    """Print the job of the action; with `wait`, once it has ended."""
    from dingrelay_producers.cli.enqueue import show_accepted

    show_accepted(job, what, wait=wait, timeout=timeout, as_json=as_json)


def _state(status: "ApprovalStatus") -> Text:
    return Text(status.state, style=COLOURS.get(status.state, "dim"))


def _waits_for(status: "ApprovalStatus") -> str:
    return ", ".join(task.user for task in status.tasks if task.state == "running")


def _line(status: "ApprovalStatus") -> str:
    waiting = _waits_for(status)
    state = f"{local(status.changed_at)}  {status.state}"
    return tr("{state}, waits for {waiting}", state=state, waiting=waiting) if waiting else state


def _page(status: "ApprovalStatus") -> Table:
    grid = grid_of_fields()
    grid.add_row(tr("state"), _state(status))
    grid.add_row(tr("updated by"), f"{tr(status.source)}, {local(status.changed_at)}")
    grid.add_row(tr("title"), Text(status.title))
    grid.add_row("id", status.instance)
    grid.add_row(tr("template"), status.template)
    grid.add_row(tr("originator"), status.originator)
    if status.job:
        grid.add_row(tr("job"), status.job)
    if status.created_at:
        grid.add_row(tr("created"), local(status.created_at))
    if status.finished_at:
        grid.add_row(tr("finished"), local(status.finished_at))
    for task in status.tasks:
        since = (
            tr(" since {moment}", moment=local(task.since))
            if task.since and task.state == "running"
            else ""
        )
        grid.add_row(tr("task"), f"{task.user} {task.state}{since}")
    if status.link:
        grid.add_row(tr("link"), Text(status.link))
    return grid
