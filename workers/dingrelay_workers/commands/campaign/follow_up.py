"""``dingrelay campaign test|recall``, ``report --refresh``: jobs about a campaign, and what they cost."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.exits import OTHERWISE
from dingrelay_producers.cli.options import split
from dingrelay_producers.cli.output import as_json, console, note, print_result
from dingrelay_producers.cli.waiting import enqueue, wait_for_all
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
) -> None:
    """Send a campaign's message to testers, now.

    Who is a recipient as well has the content then, and is left out of the campaign that day.
    """
    job = asyncio.run(_test(campaign, split(to), _fields(field)))
    enqueue(job, wait=wait, timeout=timeout)


def recall(
    campaign: Id, yes: Yes = False, wait: common.Wait = False, timeout: common.Timeout = 3600
) -> None:
    """Take back what a campaign sent in the last 24 hours; one call for each of its calls."""
    plan = _Plan(campaign, lambda care: care.recall(campaign))
    plan.announce(yes=yes)
    failed = plan.enqueue(timeout if wait else None)
    print_result(plan.document, plan.accepted)
    if failed:
        raise typer.Exit(OTHERWISE)


def refresh(
    campaign: str, *, sample: int | None, yes: bool, timeout: float
) -> "tuple[dict[str, Any], bool]":
    """Ask DingTalk which people a campaign reached and who read it, and wait for the answers.

    Returns:
        What was asked, and whether all answers are there.

    Raises:
        BadParameter: there is no terminal for the question.
        Abort: the answer is no.
    """
    plan = _Plan(campaign, lambda care: care.confirm(campaign, sample=sample))
    plan.announce(yes=yes)
    failed = plan.enqueue(timeout)
    return plan.document, not failed


class _Plan:
    """Jobs about a campaign, with their cost.

    Args:
        campaign: its id.
        act: plans them.
    """

    def __init__(self, campaign: str, act: "Callable[[FollowUp], Awaitable[Plan]]") -> None:
        self._plan, month = asyncio.run(_plan(campaign, act))
        counts = ("chunks", "people", "calls", "too_old", "under_way", "repeated", "unknown")
        self.document: dict[str, Any] = {
            "id": campaign,
            **{name: getattr(self._plan, name) for name in counts},
            "quota": asdict(month),
            "jobs": [],
        }

    def announce(self, *, yes: bool) -> None:
        """Show the cost, and ask.

        Raises:
            BadParameter: there is no terminal for the question.
            Abort: the answer is no.
        """
        if not as_json.get():
            console().print(_words(self._plan, self.document), markup=False)
        if self._plan.jobs and not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter(
                    tr("needed for {calls:,} calls", calls=self._plan.calls), param_hint="--yes"
                )
            typer.confirm(tr("Go on?"), abort=True, err=True)

    def enqueue(self, timeout: float | None) -> int:
        """Enqueue them; unless `timeout` is None, wait for their end. How many are not done."""
        from dingrelay_producers.client.client import Client
        from dingrelay_producers.client.job_ref import JobRef

        refs: list[JobRef] = []
        if not self._plan.jobs:
            return 0
        with Client() as client:
            client.send_many(self._plan.jobs, on_sent=refs.append)
            self.document["jobs"] = [ref.id for ref in refs]
            if timeout is None:
                return 0
            failed = len(refs) - wait_for_all(refs, timeout)[State.DONE]
        if failed:
            problem = tr(
                "{failed:,} of {count:,} jobs are not done", failed=failed, count=len(refs)
            )
            note(problem, style="yellow")
        return failed

    def accepted(self) -> str | None:
        """How many were enqueued, in words."""
        jobs = self.document["jobs"]
        if not jobs:
            return None
        return tr("accepted {count:,} jobs, such as {id}", count=len(jobs), id=jobs[0])


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
