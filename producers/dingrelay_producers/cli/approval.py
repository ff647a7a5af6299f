"""``dingrelay approval``: create approvals, see how they stand, and act on them."""

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.options import read_json, read_pair
from dingrelay_producers.cli.output import (
    Column,
    exit_code_of,
    page_of,
    print_job,
    print_result,
    print_table,
    styled,
)
from dingrelay_producers.cli.shared import JOB, WAIT, app_of_jobs, seconds_to_wait, takes, value_of
from dingrelay_producers.cli.verbs import VerbCommands, carry_out_in_redis, noun_app
from dingrelay_producers.cli.waiting import enqueue, show_accepted, wait_for
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.exit_codes import DONE, OTHERWISE
from dingrelay_producers.language import tr
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.client.approvals import ApprovalRef, ApprovalStatus, ApprovalTaskStatus
    from dingrelay_producers.client.verbs import Verb

A_DAY = 86_400.0
"""How long the end of an approval, which people decide, is waited for by default."""

Instance = Annotated[str, typer.Argument(help="DingTalk's id of the approval.")]

COLOURS = {"running": "blue", "approved": "green", "refused": "red"}


def _carry_out(noun: Any, verb: "Verb", instance: str, *said: Any) -> None:
    """Have the job of an action accepted, and print it; with ``--wait``, once it has ended."""
    from dingrelay_producers.client.client import Client

    status = carry_out_in_redis(noun, verb, instance, *said)
    with Client() as client:
        show_accepted(client.job(status.id), f"{tr(verb.name)} {instance}")


app = noun_app(
    VerbCommands(
        "dingrelay_producers.client.approval_verbs:ApprovalVerbs",
        ("instance", Instance),
        _carry_out,
        takes=("app", "lane", "sender", *WAIT),
    ),
    "Create approvals; show their state; decide, withdraw and comment on them.",
)


@app.command()
@takes(*JOB)
def create(
    process_code: Annotated[str, typer.Argument(metavar="PROC-…", help="The template.")],
    originator: Annotated[
        str, typer.Option(help="Userid or name of the person who asks for the approval.")
    ],
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="One field of the form; repeatable."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|@-", help="The form as an object or a list of fields."),
    ] = None,
    department: Annotated[
        int, typer.Option(help="The originator's department; -1 is the organisation.")
    ] = -1,
    approver: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION:USERS",
            help="One step, such as OR:u1,u2 or AND:u1,u2 or NONE:u1; repeatable.",
        ),
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY:USERS",
            help="People that the originator chooses for a step of the template, by its actionerKey.",
        ),
    ] = None,
    cc: Annotated[
        list[str] | None,
        typer.Option(help="People who get a copy, by userid or name, comma-separated."),
    ] = None,
    cc_position: Annotated[
        Literal["START", "FINISH", "START_FINISH"] | None,
        typer.Option(help="When the copies go out."),
    ] = None,
) -> None:
    """Start an approval; it is never created twice.

    dingrelay approval create PROC-1 --originator u1 --field 事由=出差 --field 天数=3 --wait
    """
    app = app_of_jobs()
    entries = [*_form(form), *map(_entry, field or [])]
    from dingrelay_tasks.approval_create import ApprovalCreate

    job = ApprovalCreate.parse(
        {
            **options.job_fields(),
            "process_code": process_code,
            "originator": options.userid(originator, "--originator", app, left=False),
            "department": department,
            "form": entries,
            "approvers": [_step(text, app) for text in approver or []],
            "target_actioners": [_chosen_approvers(text, app) for text in choose or []],
            "cc": options.userids(cc, "--cc", app),
            "cc_position": cc_position,
        }
    )
    enqueue(job)


def _entry(text: str) -> dict[str, str]:
    name, value = read_pair(text, "=", "NAME=VALUE", "--field")
    return {"name": name, "value": value}


def _form(text: str | None) -> Iterator[Any]:
    """The entries of ``--form``; the contract checks them."""
    if text is None:
        return
    form = read_json(text, "--form")
    if isinstance(form, dict):
        for name, value in cast("dict[str, Any]", form).items():
            yield {"name": name, "value": value}
    elif isinstance(form, list):
        yield from form
    else:
        raise typer.BadParameter(tr("must be an object or a list"), param_hint="--form")


def _chosen_approvers(text: str, app: str) -> dict[str, Any]:
    key, users = read_pair(text, ":", "KEY:USERS", "--choose")
    return {"key": key, "users": options.userids([users], "--choose", app)}


def _step(text: str, app: str) -> dict[str, Any]:
    action, users = read_pair(text, ":", "ACTION:USERS", "--approver")
    return {"action": action, "users": options.userids([users], "--approver", app)}


@app.command()
@takes("app", *WAIT)
def show(
    instance: Instance,
    look: Annotated[
        bool, typer.Option("--look", help="Ask DingTalk for the current state first.")
    ] = False,
) -> None:
    """Show the stored state of an approval; with --wait, each change until it has ended: 0 only if it is approved."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        ref = client.approval(instance, app=app_of_jobs())
        if look:
            looked = wait_for(ref.look())
            if looked.state != State.DONE:
                print_job(looked)
                raise typer.Exit(exit_code_of(looked.state))
        if value_of("wait"):
            _follow(ref, seconds_to_wait(A_DAY))
        status = ref.status()
    print_result(status, lambda: _page(status))


def _follow(ref: "ApprovalRef", timeout: float) -> None:
    """Print each change until the approval has ended.

    Raises:
        Exit: it has; the code shows whether it is approved.
    """
    from dingrelay_producers.client.approvals import POLL_SECONDS, ApprovalDeadline

    deadline, printed = ApprovalDeadline(ref.id, timeout), None
    while True:
        status = ref.known()
        if status and status != printed:
            printed = status
            print_result(status, partial(_line, status))
        if status and status.ended:
            raise typer.Exit(DONE if status.state == "approved" else OTHERWISE)
        deadline.check(status)
        time.sleep(POLL_SECONDS)


@app.command("list")
@takes("app")
@options.filtered_by(ApprovalFilter)
def list_(list_filter: ApprovalFilter, limit: options.Limit = 50) -> None:
    """List approvals, the newest first."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        statuses = client.approvals(limit=limit, **list_filter.conditions)
    print_result(statuses, lambda: _print(statuses))


def _print(statuses: "Sequence[ApprovalStatus]") -> None:
    print_table(
        statuses,
        Column("state", _state),
        Column("id", lambda status: status.instance),
        Column("app", lambda status: status.app, rank=4),
        Column("originator", lambda status: status.originator, rank=3),
        Column("known since", lambda status: local(status.known_since), rank=5),
        Column("waits for", _waits_for, rank=1),
        Column("title", lambda status: status.title, rank=2, cut=True),
    )


def _state(status: "ApprovalStatus") -> "Text":
    return styled(status.state, COLOURS.get(status.state, "dim"))


def _waits_for(status: "ApprovalStatus") -> str:
    return ", ".join(task.user for task in status.tasks if task.state == "running")


def _line(status: "ApprovalStatus") -> str:
    waiting = _waits_for(status)
    state = f"{local(status.changed_at)}  {status.state}"
    return tr("{state}, waits for {waiting}", state=state, waiting=waiting) if waiting else state


def _page(status: "ApprovalStatus") -> "Table":
    return page_of(
        (tr("state"), _state(status)),
        (tr("updated by"), f"{tr(status.source)}, {local(status.changed_at)}"),
        (tr("title"), status.title),
        (tr("id"), status.instance),
        (tr("template"), status.template),
        (tr("originator"), status.originator),
        (tr("job"), status.job),
        (tr("created"), status.created_at),
        (tr("finished"), status.finished_at),
        *((tr("task"), _task(task)) for task in status.tasks),
        (tr("link"), status.link),
    )


def _task(task: "ApprovalTaskStatus") -> str:
    shown = f"{task.user} {task.state}"
    if task.since and task.state == "running":
        shown += tr(" since {moment}", moment=local(task.since))
    return shown
