"""``dingrelay campaign``: broadcasts to any number of people."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.options import read_message, read_moment
from dingrelay_producers.cli.output import as_json, console, note, print_result
from dingrelay_producers.cli.shared import WAIT, served_app, takes, value_of
from dingrelay_producers.cli.verbs import VerbCommands, noun_app
from dingrelay_producers.cli.waiting import show_accepted, wait_for_all
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.exit_codes import OTHERWISE, USAGE
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store.states import State
from dingrelay_workers.campaigns import cli_input as given
from dingrelay_workers.campaigns import cli_pages as pages
from dingrelay_workers.campaigns.cli_pages import watch

if TYPE_CHECKING:
    from dingrelay_producers.client.campaign_documents import CampaignStatus, Plan
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_workers.campaigns.calls import FollowUpPlan
    from dingrelay_workers.campaigns.documents import JobsDocument
    from dingrelay_workers.campaigns.recipients import Rows
    from dingrelay_workers.campaigns.report import CampaignPeople, CampaignReport
    from dingrelay_workers.campaigns.service import CampaignService

MOST_LISTED = 1_000
"""People that `report --outcome` lists; all are in its files."""

FOLLOW_UP_SECONDS = 3600.0
"""How long recalls, and questions for who got it, are waited for by default."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The campaign's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Version = Annotated[
    int | None,
    typer.Option(min=1, help="Only this version, as `campaign show` names it; no later one."),
]


def _carry_out(noun: Any, verb: "Verb", *arguments: Any) -> None:
    from dingrelay_workers.cli_services import carry_out

    _print_state(carry_out(noun, verb, *arguments))


app = noun_app(
    VerbCommands(
        "dingrelay_workers.campaigns.service:CampaignService",
        ("campaign", Id),
        _carry_out,
        names={
            "submit": "review",
            "approve": "review",
            "reject": "review",
            "confirm": "report",
            "export": "report",
        },
    ),
    "Broadcast to any number of people.",
)


@app.command()
@takes("app", "at")
def create(
    name: Annotated[str, typer.Argument(help="A name for people; it need not be unique.")],
    text: given.Text = None,
    markdown: common.Markdown = None,
    message: common.Message = None,
    file: given.File = None,
    column: given.FileColumn = None,
    to: given.To = None,
    department: given.Department = None,
    everyone: given.Everyone = False,
    without: given.Without = None,
    without_department: given.WithoutDepartment = None,
    without_file: given.WithoutFile = None,
    encoding: given.Encoding = "",
    malformed: given.OnMalformed = "refuse",
    malformed_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write every malformed row's line and problem there."),
    ] = None,
    quiet: given.Quiet = "",
    rate: given.Rate = None,
    weight: Annotated[
        int, typer.Option(help="Share beside its sender's other campaigns that run.")
    ] = 1,
    error_share: Annotated[
        float, typer.Option(help="Share of failed recipients at which it pauses itself.")
    ] = 0.1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Store nothing; show what it takes: calls, time, quota."),
    ] = False,
) -> None:
    """Make a campaign that is ready: its recipients are read, checked and stored; nothing is sent.

    dingrelay campaign create "Spring party" --text "Dear {name}, ..." --file guests.csv
    """
    app = served_app()
    asked = {
        "name": name,
        "app": app,
        "message": read_message(text, markdown, message),
        "start_at": read_moment(value_of("at"), "--at"),
        "quiet": quiet,
        "rate": rate,
        "weight": weight,
        "error_share": error_share,
    }
    given.check_people(file, to, department, everyone, column, without_file)
    without_users, without_campaigns = given.left_out(without)
    plan: Plan = {
        **given.parse_stored(asked, dry_run=dry_run),
        "column": column or "",
        "users": common.userids(to, "--to", app),
        "departments": department or [],
        "everyone": everyone,
        "without_users": common.userids(without_users, "--except", app),
        "without_departments": without_department or [],
        "without_campaigns": without_campaigns,
        "malformed": malformed,
        "encoding": encoding,
    }
    page: Callable[[], Any]
    with (
        given.malformed_named(file, without_file),
        pages.creation_progress(malformed_file) as progress,
        ExitStack() as files,
    ):
        plan["recipients"] = given.open_input(files, file, "--file")
        plan["without"] = given.open_input(files, without_file, "--except-file")
        if dry_run:
            found = asyncio.run(_campaigns().preview(plan, progress))
            document, page = found.model_dump(mode="json"), partial(pages.cost_page, found)
        else:
            created = asyncio.run(_campaigns().create(plan, progress=progress))
            absent = created.preview.not_in_directory if created.preview else None
            document = {**created.model_dump(mode="json"), "not_in_directory": absent}
            page = partial(pages.print_created, created)
    print_result(document, page)


def _campaigns() -> "CampaignService":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.service import CampaignService

    return CampaignService(Settings.load())


@app.command("list")
@takes("app")
@common.filtered_by(CampaignFilter)
def list_(list_filter: CampaignFilter, limit: common.Limit = 50) -> None:
    """List campaigns, latest first, from drafts to those that have ended."""
    found = asyncio.run(_campaigns().list(list_filter, limit=limit))
    print_result(found, lambda: pages.campaigns_table(found))


@app.command()
def show(
    campaign: Id,
    follow: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="How far and how fast it is until it ends; as JSON a line a second.",
        ),
    ] = False,
) -> None:
    """Show one campaign: what it sends, how, and how far it has come."""
    if follow:
        asyncio.run(watch(campaign))
        return
    found = asyncio.run(_campaigns().show(campaign))
    print_result(found, lambda: pages.campaign_page(found))


@app.command()
def start(
    campaign: Id,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it takes and would send.")
    ] = False,
    version: Version = None,
) -> None:
    """Let a campaign run that is ready."""
    if not dry_run:
        from dingrelay_producers.client.campaign_documents import StartRequest

        _print_state(asyncio.run(_campaigns().start(campaign, StartRequest(version=version))))
        return
    found = asyncio.run(_campaigns().preview(campaign))
    document = {"id": campaign, **found.model_dump(mode="json")}
    print_result(document, lambda: pages.cost_page(found))


@app.command()
def freeze(campaign: Id) -> None:
    """Make a draft ready: its people are read, checked and stored, and it stays as it is; nothing is sent."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.documents import DraftVersion
    from dingrelay_workers.campaigns.drafts import Drafts

    async def freeze() -> "CampaignStatus":
        drafts = Drafts(Settings.load())
        version = (await drafts.get(campaign)).version
        return await drafts.freeze(campaign, DraftVersion(version=version))

    made = asyncio.run(freeze())
    print_result(made, partial(pages.print_created, made))


@app.command()
def copy(
    campaign: Id,
    without_people: Annotated[
        bool, typer.Option("--without-people", help="Leave out which people get it.")
    ] = False,
) -> None:
    """Make a draft with the text, the rules and the people of a campaign, which the console shows; without its time."""
    from dingrelay_producers.client.campaign_documents import CopyRequest
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.drafts import Drafts

    request = CopyRequest(people=not without_people)
    made = asyncio.run(Drafts(Settings.load()).copy(campaign, request))
    print_result(
        made,
        lambda: tr("draft {id} of {campaign}", id=made.id, campaign=campaign),
    )


@app.command()
def review(
    campaign: Id,
    approve: Annotated[
        bool, typer.Option("--approve", help="Approve what others submitted: it may start.")
    ] = False,
    reason: Annotated[
        str | None,
        typer.Option(
            "--reject", metavar="REASON", help="Reject it: it does not start. The writers read why."
        ),
    ] = None,
    version: Version = None,
) -> None:
    """Submit a campaign that is ready for the approval of a second person, or approve or reject it as that person.

    Reviewers of the settings get a link to what is submitted. --approve needs the --version that `campaign show` names.
    """
    if approve and reason is not None:
        raise typer.BadParameter(tr("give exactly one of them"), param_hint="--approve, --reject")
    if approve and version is None:
        problem = tr("name the version that you have read; `campaign show` has it")
        raise typer.BadParameter(problem, param_hint="--version")
    if version is not None and not approve and reason is None:
        raise typer.BadParameter(tr("goes with --approve or --reject"), param_hint="--version")
    from dingrelay_producers.client.campaign_documents import ApproveRequest, RejectRequest
    from dingrelay_workers.campaigns.review import WORDS

    campaigns = _campaigns()
    if approve:
        decided = campaigns.approve(campaign, ApproveRequest(version=version))
    elif reason is not None:
        decided = campaigns.reject(campaign, RejectRequest(version=version, reason=reason))
    else:
        decided = campaigns.submit(campaign)
    found = asyncio.run(decided)
    print_result(
        {"id": campaign, **found.model_dump(mode="json")},
        lambda: f"{campaign}: {translated(WORDS[found.state])}",
    )


def _print_state(moved: "CampaignStatus") -> None:
    state = str(moved.state)
    print_result(
        {"id": moved.id, "state": state},
        lambda: tr("{campaign} is {state}", campaign=moved.id, state=state),
    )


@app.command()
@takes("timeout")
def report(
    campaign: Id,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write every recipient as CSV; as Excel file if it ends in .xlsx.",
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json-file", metavar="FILE", help="Write every recipient, one JSON object a line."
        ),
    ] = None,
    named_in: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="With --csv: the rows and columns of this file, which named the people, with what became "
            "of each.",
        ),
    ] = None,
    column: given.FileColumn = None,
    encoding: given.Encoding = "",
    outcome: Annotated[
        CampaignSought | None,
        typer.Option(help="List the people with this outcome; with a file, write only them."),
    ] = None,
    refreshed: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="First ask DingTalk who got it and who read it, of the last 24 hours; two "
            "calls for each of its calls, made by workers that run.",
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="With --refresh: only so many of its calls, spread over all."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Show what became of a campaign's people, in figures and one by one.

    dingrelay campaign report ID --csv results.csv
    """
    if sample is not None and not refreshed:
        raise typer.BadParameter(tr("goes with --refresh"), param_hint="--sample")
    if named_in is not None and csv_file is None:
        raise typer.BadParameter(tr("goes with --csv"), param_hint="--input")
    asked: dict[str, Any] = {}
    failed = 0
    if refreshed:
        from dingrelay_producers.client.campaign_documents import ConfirmRequest

        asked["refreshed"], failed = _follow_up(
            campaign,
            lambda campaigns: campaigns.plan_confirm(campaign, sample=sample),
            lambda campaigns: campaigns.confirm(campaign, ConfirmRequest(sample=sample)),
            yes=yes,
            wait=True,
        )
    if outcome is not None and not (csv_file or json_file):
        people = asyncio.run(_people(campaign, outcome))
        print_result(people, lambda: pages.people_table(people.people))
        return
    with ExitStack() as files:
        source = given.open_input(files, named_in, "--input")
        found = asyncio.run(
            _report(
                campaign,
                csv_file,
                json_file,
                outcome,
                None if source is None else partial(given.rows_of, source, column, encoding),
            )
        )
    print_result({**found.model_dump(mode="json"), **asked}, lambda: pages.report_page(found))
    if failed:
        raise typer.Exit(OTHERWISE)


async def _people(campaign: str, outcome: CampaignSought) -> "CampaignPeople":
    from dingrelay_workers.campaigns.report import CampaignPeople

    campaigns = _campaigns()
    await campaigns.status(campaign)  # a mistyped id is an error
    found, _ = await campaigns.people(campaign, outcome, limit=MOST_LISTED)
    return CampaignPeople(people=list(found))


async def _report(
    campaign: str,
    csv_file: str | None,
    json_file: str | None,
    outcome: CampaignSought | None,
    rows: "Callable[[], Rows] | None",
) -> "CampaignReport":
    from dingrelay_workers.campaigns import cli_results, result_table

    campaigns = _campaigns()
    found = await campaigns.report(campaign)
    with ExitStack() as opened:  # only now: a mistyped id empties no file
        writers: list[cli_results.Write] = []
        if csv_file is not None and rows is not None:
            async with campaigns.exporting(campaign) as database:
                add = opened.enter_context(cli_results.table(csv_file))
                async for some in result_table.beside(database, campaign, rows()):
                    add(some)
        elif csv_file is not None:
            writers.append(opened.enter_context(cli_results.people_table(csv_file)))
        if json_file is not None:
            writers.append(opened.enter_context(cli_results.people_lines(json_file)))
        if writers:
            async for page in campaigns.export(campaign, outcome):
                for write in writers:
                    write(page)
    return found


@app.command("test")
@takes(*WAIT)
def send_test(
    campaign: Id,
    users: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            help="Writers or reviewers of it, comma-separated; repeatable. Without it: yourself.",
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=VALUE",
            help="A field of the message; repeatable. Without them: as for the first recipient.",
        ),
    ] = None,
) -> None:
    """Send a campaign's message to testers, now, with 【测试】 before its title and text.

    So a tester who is a recipient as well gets the real one, too. A picture, a file or a voice message can't be
    marked: it goes to yourself only, who are left out of the campaign that day.
    """
    from dingrelay_producers.client.campaign_documents import TestRequest
    from dingrelay_producers.client.client import Client

    testers = common.userids(users, "--to")
    request = TestRequest.parse({"users": testers, "fields": _fields(fields)})
    job = asyncio.run(_campaigns().test(campaign, request))
    with Client() as client:
        show_accepted(client.job(job.id), f"{job.kind} app={job.app} lane={job.lane}")


@app.command()
@takes(*WAIT)
def recall(campaign: Id, yes: Yes = False) -> None:
    """Take back what a campaign sent in the last 24 hours; one call for each of its calls."""
    made, failed = _follow_up(
        campaign,
        lambda campaigns: campaigns.plan_recall(campaign),
        lambda campaigns: campaigns.recall(campaign),
        yes=yes,
        wait=bool(value_of("wait")),
    )
    jobs = made["jobs"]
    accepted = (
        tr("accepted {count:,} jobs, such as {id}", count=len(jobs), id=jobs[0]) if jobs else None
    )
    print_result(made, lambda: accepted)
    if failed:
        raise typer.Exit(OTHERWISE)


def _follow_up(
    campaign: str,
    plan_jobs: "Callable[[CampaignService], Coroutine[Any, Any, FollowUpPlan]]",
    carry_out: "Callable[[CampaignService], Coroutine[Any, Any, JobsDocument]]",
    *,
    yes: bool,
    wait: bool,
) -> tuple[dict[str, Any], int]:
    """Carry out a verb that makes jobs, once their cost is shown and agreed to; with `wait`, wait for their end.

    Returns:
        What was made, and how many jobs are not done.

    Raises:
        Exit: there is no terminal for the question.
        Abort: the answer is no.
    """
    plan = asyncio.run(plan_jobs(_campaigns()))
    month = asyncio.run(_campaigns().month_of(plan))
    made = {"id": campaign, **plan.model_dump(), "quota": asdict(month), "jobs": list[str]()}
    if not as_json.get():
        from dingrelay_workers.campaigns.plan_text import plan_text

        console().print(plan_text(plan, month), markup=False)
    if not plan.jobs:
        return made, 0
    if not yes:
        _confirm(tr("this makes {calls:,} calls", calls=plan.calls), tr("Go on?"))
    from dingrelay_producers.client.client import Client

    made["jobs"] = asyncio.run(carry_out(_campaigns())).ids
    with Client() as client:
        refs = [client.job(job) for job in made["jobs"]]
        failed = len(refs) - wait_for_all(refs, FOLLOW_UP_SECONDS)[State.DONE] if wait else 0
    if failed:
        problem = tr("{failed:,} of {count:,} jobs are not done", failed=failed, count=len(refs))
        note(problem, style="yellow")
    return made, failed


def _confirm(what: str, question: str) -> None:
    """Ask on a terminal.

    Raises:
        Exit: there is none.
        Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        note(tr("{what}; give --yes to do it", what=what), style="red")
        raise typer.Exit(USAGE)
    typer.confirm(question, abort=True, err=True)


def _fields(pairs: list[str] | None) -> dict[str, str]:
    fields: dict[str, str] = {}
    for text in pairs or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(tr("must be like name=value"), param_hint="--field")
        fields[name.strip()] = value
    return fields


@app.command()
def delete(campaign: Id, yes: Yes = False) -> None:
    """Delete a draft, or a campaign that has ended, with its people and its report. It can't be undone.

    What DingTalk's limits of the day need stays. If it is broken off, the workers finish it.
    """
    if not yes:
        found = asyncio.run(_campaigns().check_deletable(campaign))
        question = tr(
            "Delete {name} to {people:,} people, and its report? What it sent can't be recalled then",
            name=found.name,
            people=found.recipients,
        )
        _confirm(
            tr("this deletes a campaign to {people:,} people", people=found.recipients), question
        )
    with pages.counting(tr("rows deleted")) as count:
        asyncio.run(_campaigns().delete(campaign, wait=True, on_rows=count))
    print_result(
        {"id": campaign, "state": "deleted"}, lambda: tr("{campaign} is deleted", campaign=campaign)
    )
