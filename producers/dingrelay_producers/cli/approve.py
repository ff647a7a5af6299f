"""``dingrelay approve``: start an approval."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.documents import read_json, read_moment, read_pair, split
from dingrelay_producers.language import tr


def approve(
    process_code: Annotated[str, typer.Argument(metavar="PROC-…", help="The template.")],
    originator: Annotated[str, typer.Option(help="The user who asks for the approval.")],
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
        list[str] | None, typer.Option(help="Users who get a copy, comma-separated.")
    ] = None,
    cc_position: Annotated[
        Literal["START", "FINISH", "START_FINISH"] | None,
        typer.Option(help="When the copies go out."),
    ] = None,
    lane: options.Lane = "normal",
    app: options.App = "default",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Start an approval; it is never created twice.

    dingrelay approve PROC-1 --originator u1 --field 事由=出差 --field 天数=3 --wait
    """
    entries = [*_form(form), *map(_entry, field or [])]
    from dingrelay_producers.cli.enqueue import enqueue
    from dingrelay_tasks.approval_create import ApprovalCreate

    job = ApprovalCreate.parse(
        {
            "app": app,
            "lane": lane,
            "process_code": process_code,
            "originator": originator,
            "department": department,
            "form": entries,
            "approvers": [_step(text) for text in approver or []],
            "target_actioners": [_chosen(text) for text in choose or []],
            "cc": split(cc),
            "cc_position": cc_position,
            "idempotency_key": key,
            "send_at": read_moment(at, "--at"),
            "expires_at": read_moment(expires, "--expires"),
        }
    )
    enqueue(job, wait=wait, timeout=timeout, as_json=as_json)


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


def _chosen(text: str) -> dict[str, Any]:
    key, users = read_pair(text, ":", "KEY:USERS", "--choose")
    return {"key": key, "users": split([users])}


def _step(text: str) -> dict[str, Any]:
    action, users = read_pair(text, ":", "ACTION:USERS", "--approver")
    return {"action": action, "users": split([users])}
