"""``dingrelay campaign preview``: what a campaign will take, before anything is sent."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.output import console, grid_of_fields, length, print_json
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local
from dingrelay_workers.commands.campaign import options

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.audience import Audience, OnMalformed
    from dingrelay_workers.campaigns.spec import CampaignSpec


def preview(
    campaign: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A draft; without options.")
    ] = None,
    text: options.Text = None,
    markdown: options.Markdown = None,
    message: options.Message = None,
    file: options.File = None,
    column: options.FileColumn = None,
    to: options.To = None,
    department: options.Department = None,
    everyone: options.Everyone = False,
    without: options.Without = None,
    without_department: options.WithoutDepartment = None,
    without_file: options.WithoutFile = None,
    encoding: options.Encoding = "",
    malformed: options.Malformed = "refuse",
    at: common.At = None,
    quiet: options.Quiet = "",
    rate: options.Rate = None,
    app: common.App = "default",
    as_json: common.AsJson = False,
) -> None:
    """Tell how many people and calls, how long and how much of the month; nothing is stored.

    dingrelay campaign preview --text "Hello" --everyone --except-department 7
    """
    if campaign is not None:
        given = (text, markdown, message, file, to, department, without, without_department)
        if any((*given, column, without_file, encoding, everyone, at, quiet, rate)):
            raise typer.BadParameter(tr("stands alone"), param_hint="ID")
        found = asyncio.run(_of_draft(campaign))
    else:
        spec = options.spec(
            text,
            markdown,
            message,
            at=at,
            stored=False,
            name="preview",
            app=app,
            quiet=quiet,
            rate=rate,
        )
        with options.audience(
            file=file,
            to=to,
            department=department,
            everyone=everyone,
            without=without,
            without_department=without_department,
            without_file=without_file,
            column=column,
            encoding=encoding,
        ) as audience:
            found = asyncio.run(_of_options(spec, audience, malformed))
    _show(found, as_json=as_json)


async def _of_draft(campaign: str) -> dict[str, Any]:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents, estimate
    from dingrelay_workers.campaigns.opened import opened_store

    own = Settings.load()
    async with opened_store(own) as store:
        return documents.preview(await estimate.of_draft(own, store, campaign))


async def _of_options(
    spec: "CampaignSpec", audience: "Audience", malformed: "OnMalformed"
) -> dict[str, Any]:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents, estimate
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.commands.campaign.progress import showing

    own = Settings.load().of_app(spec.app)
    async with opened_store(own) as store:
        with showing() as progress:
            found = await estimate.of_audience(
                own, store.database, spec, audience, malformed=malformed, on_rows=progress.read
            )
    return documents.preview(found)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console().print(_page(found))


def _page(found: dict[str, Any]) -> Table:

    grid = grid_of_fields()
    grid.add_row(tr("people"), f"{found['recipients']:,}")
    for name in ("duplicates", "excluded", "malformed"):
        if found.get(name):
            grid.add_row(tr(name), f"{found[name]:,}")
    if found["not_in_directory"]:
        grid.add_row(
            tr("not in the directory"),
            tr(
                "{people:,}, who are looked up before their calls", people=found["not_in_directory"]
            ),
        )
    calls = f"{found['calls']:,}"
    if found["calls"] != found["plain_calls"]:
        calls += tr(
            ", for the fields: without them {plain_calls:,}", plain_calls=found["plain_calls"]
        )
    grid.add_row(tr("calls"), calls)
    limit = tr(", at {limit}", limit=translated(found["limit"])) if found["limit"] else ""
    grid.add_row(
        tr("time"),
        tr("{length} of sending{limit}", length=length(found["minutes"] * 60), limit=limit),
    )
    starts, ends = (datetime.fromisoformat(found[name]) for name in ("starts_at", "ends_at"))
    grid.add_row(
        "", tr("{start} to {end}, if nothing else is sent", start=local(starts), end=local(ends))
    )
    grid.add_row(tr("month"), month_text(found["quota"]))
    for row in found.get("skipped", []):
        grid.add_row(tr("line {line}", line=row["line"]), translated(row["problem"]))
    return grid


def month_text(quota: dict[str, Any]) -> str:
    """The share of the month that calls take, in one sentence."""
    if quota["limit"] is None:
        return tr("{used:,} calls are used, no limit is configured", used=quota["used"])
    line = tr(
        "{share:.1%} of {limit:,} calls; {used:,} are used",
        share=quota["share"],
        limit=quota["limit"],
        used=quota["used"],
    )
    return line if quota["fits"] else tr("{line}: it stops before it is through", line=line)
