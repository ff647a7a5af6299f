"""``dingrelay send``: one message from options, or any number of jobs from a stream."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.documents import read_message, read_moment, split
from dingrelay_producers.language import tr


def send(
    context: typer.Context,
    to: Annotated[
        list[str] | None, typer.Option(help="Users, comma-separated; repeatable.")
    ] = None,
    mobile: Annotated[
        list[str] | None, typer.Option(help="People by mobile number, comma-separated; repeatable.")
    ] = None,
    email: Annotated[
        list[str] | None, typer.Option(help="People by e-mail address; as --mobile.")
    ] = None,
    job_number: Annotated[
        list[str] | None, typer.Option(help="People by job number; as --mobile.")
    ] = None,
    department: Annotated[list[int] | None, typer.Option(help="A department; repeatable.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="The whole organisation.")] = False,
    text: Annotated[str | None, typer.Option(help="A text message.")] = None,
    markdown: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TITLE TEXT", help="A Markdown message."),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE|@-",
            help='DingTalk\'s own msg object, of any type; a file in it as {"file": "menu.png"}.',
        ),
    ] = None,
    lane: options.Lane = "normal",
    app: options.App = "default",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
    sender: options.Sender = "",
    allow_duplicate: Annotated[
        bool,
        typer.Option("--allow-duplicate", help="Send even what DingTalk would silently drop."),
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Ask DingTalk what became of the delivery.")
    ] = False,
    on_unknown: Annotated[
        Literal["repeat", "stop"], typer.Option(help="If a call's answer is lost.")
    ] = "repeat",
    jobs: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            metavar="FILE|-",
            help='Jobs of any kind instead, one JSON object a line: {"kind": "message-send", …}. '
            "--app, --lane, --sender, --at, --expires, --allow-duplicate, --confirm and --on-unknown "
            "hold for lines that do not say otherwise.",
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option("--from", min=1, metavar="LINE", help="Of --jobs: begin with this line."),
    ] = 1,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Send a work notification.

    dingrelay send --to u1,u2 --text "你好" --wait
    """
    fields = {
        "app": app,
        "lane": lane,
        "sender": sender,
        "send_at": read_moment(at, "--at"),
        "expires_at": read_moment(expires, "--expires"),
        "allow_duplicate": allow_duplicate,
        "confirm": confirm,
        "on_unknown": on_unknown,
    }
    if jobs is not None:
        people = to or mobile or email or job_number or department or everyone
        if people or text or markdown or message:
            raise typer.BadParameter(tr("stands alone"), param_hint="--jobs")
        if key is not None:
            raise typer.BadParameter(
                tr("each line has its own: idempotency_key"), param_hint="--key"
            )
        from dingrelay_producers.cli.jobs_file import OPTIONS, send_jobs

        given = {
            name: fields[name] for name, option in OPTIONS.items() if _is_given(context, option)
        }
        send_jobs(jobs, first=first, defaults=given, wait=wait, timeout=timeout, as_json=as_json)
        return
    if first > 1:
        raise typer.BadParameter(tr("is for --jobs"), param_hint="--from")
    content = read_message(text, markdown, message)
    from dingrelay_producers.cli.enqueue import show_accepted
    from dingrelay_producers.cli.media_files import Uploads, parsed
    from dingrelay_producers.client.client import Client
    from dingrelay_tasks.message_send import MessageSend

    asked = {
        **fields,
        "to": {
            "users": split(to),
            "mobiles": split(mobile),
            "emails": split(email),
            "job_numbers": split(job_number),
            "departments": department or [],
            "everyone": everyone,
        },
        "message": content,
        "idempotency_key": key,
    }
    with Client() as client:
        job = parsed(asked, MessageSend.parse, Uploads(client).of(app))
        show_accepted(client.send(job), job.summary(), wait=wait, timeout=timeout, as_json=as_json)


def _is_given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option.removeprefix("--").replace("-", "_"))
    return source is not None and source.name != "DEFAULT"
