"""``dingrelay send``, ``sync``, ``call``: one job from options, or any number from a stream."""

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.options import read_json, read_message, split
from dingrelay_producers.cli.shared import JOB, WAIT, app_of_jobs, takes
from dingrelay_producers.cli.waiting import enqueue, show_accepted
from dingrelay_producers.language import tr
from dingrelay_producers.zone import local

PEOPLE = {"mobile": "mobiles", "email": "emails", "job_number": "job_numbers"}
"""How `--to` may name a person instead of by a userid → the field of the job."""
SYNC_SECONDS = 3600.0
"""A large organisation takes minutes to read."""
POSTED = {"group", "robot"}
"""Names in `--to` that are posted by robots; these are fields of the job, too."""


@takes(*JOB)
def send(
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER|KIND=…",
            help="People, comma-separated; repeatable: by userid or name, or like mobile=13800000000, "
            "email=a@b.cn or job_number=7. group=NAME posts to a group of the settings by its robots, "
            "robot=NAME by that robot, and with people to them one to one.",
        ),
    ] = None,
    department: Annotated[list[int] | None, typer.Option(help="A department; repeatable.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="The whole organisation.")] = False,
    text: options.Text = None,
    markdown: options.Markdown = None,
    message: options.Message = None,
    allow_duplicate: Annotated[
        bool,
        typer.Option("--allow-duplicate", help="Send even what DingTalk would silently drop."),
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Ask DingTalk what became of the delivery.")
    ] = False,
    on_unknown: Annotated[
        Literal["repeat", "stop"] | None,
        typer.Option(help="What follows if a call's answer is lost; `repeat` if not given."),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option(
            metavar="5m",
            help="Robots: merge messages that come sooner after the last one.",
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
        typer.Option("--from", min=1, metavar="LINE", help="First line of --jobs to send."),
    ] = 1,
) -> None:
    """Send a work notification, or post a message by a robot.

    dingrelay send --to u1,u2 --text "你好" --wait
    """
    message_options = {
        "allow_duplicate": allow_duplicate,
        "confirm": confirm,
        "on_unknown": on_unknown,
    }
    fields = options.job_fields() | {
        name: value for name, value in message_options.items() if value
    }
    if jobs is not None:
        if to or department or everyone or digest or text or markdown or message:
            raise typer.BadParameter(tr("stands alone"), param_hint="--jobs")
        if "idempotency_key" in fields:
            raise typer.BadParameter(
                tr("each line has its own: idempotency_key"), param_hint="--key"
            )
        from dingrelay_producers.cli.jobs_file import send_jobs

        send_jobs(jobs, first=first, defaults=fields)
        return
    if first > 1:
        raise typer.BadParameter(tr("is for --jobs"), param_hint="--from")
    app, fields["message"] = app_of_jobs(), read_message(text, markdown, message)
    people = {**_recipients(split(to), app), "departments": department or [], "everyone": everyone}
    if digest or not people.keys().isdisjoint(POSTED):
        from dingrelay_tasks.robot_message import RobotMessage

        target = {name: value for name, value in people.items() if value}
        enqueue(RobotMessage.parse({**fields, "to": target, "digest": digest}))
        return
    from dingrelay_producers.cli.media import Uploads, parsed
    from dingrelay_producers.client.client import Client
    from dingrelay_tasks.message_send import MessageSend

    with Client() as client:
        job = parsed({**fields, "to": people}, MessageSend.parse, Uploads(client).of(app))
        summary = job.summary()
        if job.send_at:
            summary += tr(", not before {moment}", moment=local(job.send_at))
        show_accepted(client.send(job), summary)


def _recipients(to: list[str], app: str) -> dict[str, Any]:
    """The people of `--to`, and the robot or group, by the fields of the job.

    Raises:
        BadParameter: several robots or groups are named.
    """
    recipients: dict[str, Any] = {"users": []}
    for text in to:
        kind, _, value = text.partition("=")
        if kind in POSTED:
            if not POSTED.isdisjoint(recipients):
                raise typer.BadParameter(tr("name one robot or group"), param_hint="--to")
            recipients[kind] = value
        elif kind in PEOPLE:
            recipients.setdefault(PEOPLE[kind], []).append(value)
        else:
            recipients["users"] += options.userids([text], "--to", app)
    return recipients


@takes("app", "lane", *WAIT)
def sync(
    scope: Annotated[
        Literal["everything", "department", "user"], typer.Argument(help="Scope of the sync.")
    ] = "everything",
    target: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The department or the user.")
    ] = None,
    confirm_removals: Annotated[
        bool,
        typer.Option("--confirm-removals", help="Mark people as left however many they are."),
    ] = False,
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
            **options.job_fields(),
            "scope": scope,
            "department": _department(target) if scope == "department" else None,
            "user": target if scope == "user" else None,
            "confirm_removals": confirm_removals,
        }
    )
    enqueue(job, seconds=SYNC_SECONDS)


def _department(target: str | None) -> int:
    try:
        return int(target or "")
    except ValueError:
        raise typer.BadParameter(tr("a department's id is a number"), param_hint="ID") from None


@takes(*JOB)
def call(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH, DELETE.")],
    path: Annotated[
        str,
        typer.Argument(
            metavar="/PATH",
            help="On one of DingTalk's hosts, with parameters such as ?size=5; never a URL.",
        ),
    ],
    body: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|@-", help="Body as JSON."),
    ] = None,
    effect: Annotated[
        Literal["none", "repeatable", "once"] | None,
        typer.Option(
            help="Effect of the call; `once` is not repeated if its answer is lost. "
            "Default: none where it reads, else once."
        ),
    ] = None,
) -> None:
    """Call any API of DingTalk's, under its limits and with the app's token.

    dingrelay call POST /topapi/v2/user/getbymobile --body '{"mobile": "13800000000"}' --wait
    """
    from dingrelay_tasks.api_call import ApiCall

    path, _, query = path.partition("?")
    job = ApiCall.parse(
        {
            **options.job_fields(),
            "method": method.upper(),
            "path": path,
            "query": dict(parse_qsl(query, keep_blank_values=True)),
            "body": None if body is None else read_json(body, "--body"),
            **({} if effect is None else {"effect": effect}),
        }
    )
    enqueue(job)
