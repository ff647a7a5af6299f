"""``dingrelay campaign test|recall|confirm``: jobs about a campaign, and what they cost."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.documents import split
from dingrelay_producers.cli.output import console, print_json
from dingrelay_producers.cli.waiting import wait_for_all
from dingrelay_producers.language import tr
from dingrelay_producers.store.states import State
from dingrelay_workers.commands.campaign.run import Id

if TYPE_CHECKING:
    from dingrelay_tasks.message_send import MessageSend
    from dingrelay_workers.campaigns.estimate import Month
    from dingrelay_workers.campaigns.follow_up import FollowUp, Plan

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("test")(send_test)
    app.command("recall")(recall)
    app.command("confirm")(confirm)


def send_test(
    campaign: Id,
    to: Annotated[list[str], typer.Option(help="The testers, comma-separated; repeatable.")],
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A field of the message; repeatable. Without them: as for the first recipient.",
        ),
    ] = None,
    wait: common.Wait = False,
    timeout: common.Timeout = 60,
    as_json: common.AsJson = False,
) -> None:
    """Send a campaign's message to testers, now.

    Who is a recipient as well has the content then, and is left out of the campaign that day.
    """
    from dingrelay_producers.cli.enqueue import enqueue

    job = asyncio.run(_test(campaign, split(to), _fields(field)))
    enqueue(job, wait=wait, timeout=timeout, as_json=as_json)


def recall(
    campaign: Id,
    yes: Yes = False,
    wait: common.Wait = False,
    timeout: common.Timeout = 3600,
    as_json: common.AsJson = False,
) -> None:
    """Take back what a campaign sent in the last 24 hours; one call for each of its calls."""
    _announce_and_enqueue(
        lambda care: care.recall(campaign),
        campaign,
        yes=yes,
        wait=wait,
        timeout=timeout,
        as_json=as_json,
    )


def confirm(
    campaign: Id,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Ask about so many calls, spread over all.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Ask about every call.")] = False,
    yes: Yes = False,
    wait: common.Wait = False,
    timeout: common.Timeout = 3600,
    as_json: common.AsJson = False,
) -> None:
    """Ask DingTalk which people a campaign reached and who read it; two calls for each.

    The report tells it then. DingTalk knows of the last 24 hours.
    """
    if every == (sample is not None):
        raise typer.BadParameter(tr("give exactly one of them"), param_hint="--sample, --all")
    _announce_and_enqueue(
        lambda care: care.confirm(campaign, sample=sample),
        campaign,
        yes=yes,
        wait=wait,
        timeout=timeout,
        as_json=as_json,
    )


def _announce_and_enqueue(
    act: "Callable[[FollowUp], Awaitable[Plan]]",
    campaign: str,
    *,
    yes: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Show the cost, ask, and enqueue.

    Raises:
        BadParameter: there is no terminal for the question.
        Exit: the answer is no, or with `wait` a job has not ended well.
    """
    from dingrelay_producers.client.client import Client
    from dingrelay_producers.client.job_ref import JobRef

    plan, month = asyncio.run(_plan(campaign, act))
    document: dict[str, Any] = {
        "id": campaign,
        **{
            name: getattr(plan, name)
            for name in (
                "chunks",
                "people",
                "calls",
                "too_old",
                "under_way",
                "repeated",
                "unknown",
            )
        },
        "quota": asdict(month),
    }
    err = console(stderr=True)
    if not as_json:
        console().print(_words(plan, document), markup=False)
    refs: list[JobRef] = []
    if plan.jobs:
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter(
                    tr("needed for {calls:,} calls", calls=plan.calls), param_hint="--yes"
                )
            typer.confirm(tr("Go on?"), abort=True, err=True)
        with Client() as client:
            client.send_many(plan.jobs, on_sent=refs.append)
            failed = _wait(refs, timeout) if wait else 0
    else:
        failed = 0
    if as_json:
        print_json({**document, "jobs": [ref.id for ref in refs]})
    elif refs:
        console().print(
            tr("accepted {count:,} jobs, such as {id}", count=len(refs), id=refs[0].id),
            markup=False,
        )
    if failed:
        err.print(
            tr("{failed:,} of {count:,} jobs are not done", failed=failed, count=len(refs)),
            style="yellow",
        )
        raise typer.Exit(1)


def _wait(refs: "list[Any]", timeout: float) -> int:
    """Wait for the end of the jobs; how many are not done."""
    states = wait_for_all(refs, timeout)
    return len(refs) - states[State.DONE]


def _words(plan: "Plan", document: dict[str, Any]) -> str:
    from dingrelay_workers.commands.campaign.preview import month_text

    lines = [
        tr(
            "calls of the campaign: {chunks:,}, to {people:,} people",
            chunks=plan.chunks,
            people=plan.people,
        ),
        tr(
            "costs: {calls:,} calls: {month}", calls=plan.calls, month=month_text(document["quota"])
        ),
    ]
    if plan.under_way:
        lines.append(
            tr(
                "of these, {under_way:,} are under way, and are waited for",
                under_way=plan.under_way,
            )
        )
    if plan.repeated:
        lines.append(
            tr(
                "{repeated:,} people are in calls that repeat a lost one: those whom it reached keep the "
                "message, and the report names them",
                repeated=plan.repeated,
            )
        )
    if plan.unknown:
        lines.append(
            tr(
                "{unknown:,} people are in calls whose outcome is unknown, which can't be recalled",
                unknown=plan.unknown,
            )
        )
    if plan.too_old:
        lines.append(
            tr("left alone: {too_old:,} calls that are older than 24 hours", too_old=plan.too_old)
        )
    return "\n".join(lines)


async def _plan(
    campaign: str, act: "Callable[[FollowUp], Awaitable[Plan]]"
) -> "tuple[Plan, Month]":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.estimate import Size, month_of
    from dingrelay_workers.campaigns.follow_up import FollowUp
    from dingrelay_workers.campaigns.opened import opened_store

    own = Settings.load()
    async with opened_store(own) as store:
        plan = await act(FollowUp(store))
    size = Size(recipients=plan.people, calls=plan.calls, plain_calls=plan.calls)
    return plan, await month_of(own, plan.app, size)


async def _test(campaign: str, users: list[str], fields: dict[str, str]) -> "MessageSend":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.follow_up import FollowUp
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(Settings.load()) as store:
        return await FollowUp(store).test(campaign, users, fields)


def _fields(given: list[str] | None) -> dict[str, str]:
    fields: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(tr("must be like name=value"), param_hint="--field")
        fields[name.strip()] = value
    return fields
