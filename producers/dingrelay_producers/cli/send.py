"""``dingrelay send``: one message from options, or any number of jobs from a stream."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.documents import read_message, read_moment, split


def send(
    to: Annotated[
        list[str] | None, typer.Option(help="Users, comma-separated; repeatable.")
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
        typer.Option(metavar="JSON|@FILE|@-", help="DingTalk's own msg object, of any type."),
    ] = None,
    lane: options.Lane = "normal",
    app: options.App = "default",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
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
        typer.FileText | None,
        typer.Option(
            encoding="utf-8-sig",
            metavar="FILE|-",
            help='Jobs of any kind instead, one JSON object a line: {"kind": "message-send", …}.',
        ),
    ] = None,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Send a work notification.

    dingrelay send --to u1,u2 --text "你好" --wait
    """
    if jobs is not None:
        if to or department or everyone or text or markdown or message:
            raise typer.BadParameter("stands alone", param_hint="--jobs")
        from dingrelay_producers.cli.jobs_file import send_jobs

        send_jobs(jobs, wait=wait, timeout=timeout, as_json=as_json)
        return
    content = read_message(text, markdown, message)
    from dingrelay_producers.cli.enqueue import enqueue
    from dingrelay_tasks.message_send import MessageSend

    job = MessageSend.parse(
        {
            "app": app,
            "lane": lane,
            "to": {"users": split(to), "departments": department or [], "everyone": everyone},
            "message": content,
            "idempotency_key": key,
            "send_at": read_moment(at, "--at"),
            "expires_at": read_moment(expires, "--expires"),
            "allow_duplicate": allow_duplicate,
            "confirm": confirm,
            "on_unknown": on_unknown,
        }
    )
    enqueue(job, wait=wait, timeout=timeout, as_json=as_json)
