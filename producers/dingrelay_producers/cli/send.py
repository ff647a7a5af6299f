"""``dingrelay send``, ``sync``, ``call``: one job from options, or any number from a stream."""

from typing import Annotated, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.options import (
    read_json,
    read_message,
    read_moment,
    read_pair,
    split,
)
from dingrelay_producers.cli.waiting import enqueue, show_accepted
from dingrelay_producers.language import tr
from dingrelay_producers.zone import local

PEOPLE = {"mobile": "mobiles", "email": "emails", "job_number": "job_numbers"}
"""How `--to` may name a person instead of by a userid → the field of the job."""
OPTIONS = {
    "app": "--app",
    "lane": "--lane",
    "sender": "--sender",
    "send_at": "--at",
    "expires_at": "--expires",
    "allow_duplicate": "--allow-duplicate",
    "confirm": "--confirm",
    "on_unknown": "--on-unknown",
}
"""A field that several kinds of jobs have → the option of `send` that gives it."""


def send(
    context: typer.Context,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER|KIND=…",
            help="People, comma-separated; repeatable: by userid or name, or like mobile=13800000000, "
            "email=a@b.cn or job_number=7.",
        ),
    ] = None,
    department: Annotated[list[int] | None, typer.Option(help="A department; repeatable.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="The whole organisation.")] = False,
    group: Annotated[
        str | None, typer.Option(help="A group of the settings: its robots post the message.")
    ] = None,
    robot: Annotated[
        str | None,
        typer.Option(help="A robot of the settings posts the message; with --to one to one."),
    ] = None,
    text: options.Text = None,
    markdown: options.Markdown = None,
    message: options.Message = None,
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
    digest: Annotated[
        str | None,
        typer.Option(
            metavar="5m",
            help="Of robots: merge what would come sooner after the last message.",
        ),
    ] = None,
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
) -> None:
    """Send a work notification, or post a message by a robot.

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
    given = {name: fields[name] for name, option in OPTIONS.items() if _is_given(context, option)}
    if jobs is not None:
        place = to or department or everyone or group or robot or digest
        if place or text or markdown or message:
            raise typer.BadParameter(tr("stands alone"), param_hint="--jobs")
        if key is not None:
            raise typer.BadParameter(
                tr("each line has its own: idempotency_key"), param_hint="--key"
            )
        from dingrelay_producers.cli.jobs_file import send_jobs

        send_jobs(jobs, first=first, defaults=given, wait=wait, timeout=timeout)
        return
    if first > 1:
        raise typer.BadParameter(tr("is for --jobs"), param_hint="--from")
    content = {"message": read_message(text, markdown, message), "idempotency_key": key}
    people = {**_people(split(to), app), "departments": department or [], "everyone": everyone}
    if group or robot or digest:
        from dingrelay_tasks.robot_message import RobotMessage

        named = {**people, "group": group, "robot": robot}
        target = {name: value for name, value in named.items() if value}
        post = RobotMessage.parse({**given, **content, "to": target, "digest": digest})
        enqueue(post, wait=wait, timeout=timeout)
        return
    from dingrelay_producers.cli.media import Uploads, parsed
    from dingrelay_producers.client.client import Client
    from dingrelay_tasks.message_send import MessageSend

    with Client() as client:
        job = parsed(
            {**fields, **content, "to": people}, MessageSend.parse, Uploads(client).of(app)
        )
        what = job.summary()
        if job.send_at:
            what += tr(", not before {moment}", moment=local(job.send_at))
        show_accepted(client.send(job), what, wait=wait, timeout=timeout)


def _people(named: list[str], app: str) -> dict[str, list[str]]:
    """The people of `--to` by the fields of the job."""
    found: dict[str, list[str]] = {"users": []}
    for text in named:
        kind, _, value = text.partition("=")
        if kind in PEOPLE:
            found.setdefault(PEOPLE[kind], []).append(value)
        else:
            found["users"] += options.userids([text], "--to", app)
    return found


def _is_given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option.removeprefix("--").replace("-", "_"))
    return source is not None and source.name != "DEFAULT"


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
    enqueue(job, wait=wait, timeout=timeout)


def _department(target: str | None) -> int:
    try:
        return int(target or "")
    except ValueError:
        raise typer.BadParameter(tr("a department's id is a number"), param_hint="ID") from None


def call(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH, DELETE.")],
    path: Annotated[
        str, typer.Argument(metavar="/PATH", help="On one of DingTalk's hosts; never a URL.")
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the URL; repeatable."),
    ] = None,
    body: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|@-", help="What is sent as JSON."),
    ] = None,
    effect: Annotated[
        Literal["none", "repeatable", "once"] | None,
        typer.Option(
            help="What the call does; `once` is not repeated if its answer is lost. "
            "Default: none where it reads, else once."
        ),
    ] = None,
    lane: options.Lane = "normal",
    app: options.App = "default",
    key: options.Key = None,
    at: options.At = None,
    expires: options.Expires = None,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
) -> None:
    """Call any API of DingTalk's, under its limits and with the app's token.

    dingrelay call POST /topapi/v2/user/getbymobile --body '{"mobile": "13800000000"}' --wait
    """
    from dingrelay_tasks.api_call import ApiCall

    job = ApiCall.parse(
        {
            "app": app,
            "lane": lane,
            "method": method.upper(),
            "path": path,
            "query": dict(read_pair(text, "=", "NAME=VALUE", "--query") for text in query or []),
            "body": None if body is None else read_json(body, "--body"),
            **({} if effect is None else {"effect": effect}),
            "idempotency_key": key,
            "send_at": read_moment(at, "--at"),
            "expires_at": read_moment(expires, "--expires"),
        }
    )
    enqueue(job, wait=wait, timeout=timeout)
