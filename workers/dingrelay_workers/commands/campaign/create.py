"""``dingrelay campaign create``: make a draft with its recipients."""

import asyncio
import csv
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.output import console, print_result, spreadsheet_encoding
from dingrelay_producers.language import tr, translated
from dingrelay_workers.commands.campaign import options
from dingrelay_workers.commands.campaign.preview import show_preview

if TYPE_CHECKING:
    from dingrelay_producers.client.malformed_rows import Malformed
    from dingrelay_workers.campaigns.audience import Audience, OnMalformed
    from dingrelay_workers.campaigns.spec import CampaignSpec
    from dingrelay_workers.campaigns.store import Created


def create(
    name: Annotated[str, typer.Argument(help="A name for people; it need not be unique.")],
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
    malformed_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write every malformed row's line and problem there."),
    ] = None,
    at: common.At = None,
    quiet: options.Quiet = "",
    rate: options.Rate = None,
    weight: Annotated[int, typer.Option(help="Share beside other campaigns that run.")] = 1,
    error_share: Annotated[
        float, typer.Option(help="Share of failed recipients at which it pauses itself.")
    ] = 0.1,
    app: common.App = "default",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Store nothing; show what it takes: calls, time, quota."),
    ] = False,
) -> None:
    """Make a draft: its recipients are read, checked and stored; nothing is sent.

    dingrelay campaign create "Spring party" --text "Dear {name}, ..." --file guests.csv
    """
    spec = options.spec(
        text,
        markdown,
        message,
        at=at,
        stored=not dry_run,
        name=name,
        app=app,
        quiet=quiet,
        rate=rate,
        weight=weight,
        error_share=error_share,
    )
    with (
        options.audience(
            file=file,
            to=to,
            department=department,
            everyone=everyone,
            without=without,
            without_department=without_department,
            without_file=without_file,
            column=column,
            encoding=encoding,
        ) as audience,
        _malformed_writer(malformed_file) as on_malformed,
    ):
        if dry_run:
            show_preview(asyncio.run(_preview(spec, audience, malformed, on_malformed)))
            return
        created, absent = asyncio.run(_create(spec, audience, malformed, on_malformed))
    _show(created, absent)


async def _create(
    spec: "CampaignSpec",
    audience: "Audience",
    malformed: "OnMalformed",
    on_malformed: "Callable[[Malformed], None] | None",
) -> "tuple[Created, int | None]":
    """The draft, and how many of its people are not in the directory."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.estimate import count_look_ups
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.commands.campaign.progress import showing

    own = Settings.load().of_app(spec.app)
    async with opened_store(own) as store:
        with showing() as progress:
            created = await store.create(
                spec,
                audience,
                malformed=malformed,
                on_malformed=on_malformed,
                on_rows=progress.read,
                on_written=progress.written,
            )
        people = store.people(created.campaign.id)
        return created, await count_look_ups(own, store.database, spec.app, people)


@contextmanager
def _malformed_writer(name: str | None) -> "Generator[Callable[[Malformed], None] | None]":
    """Writes malformed rows into a file, if one is named.

    Raises:
        BadParameter: it can't be written.
    """
    if name is None:
        yield None
        return
    with ExitStack() as files:
        try:
            file = files.enter_context(
                Path(name).open("w", encoding=spreadsheet_encoding(), newline="")
            )
        except OSError as error:
            reason = f"{name}: {error.strerror}"
            raise typer.BadParameter(reason, param_hint="--malformed-file") from None
        table = csv.writer(file)
        table.writerow((tr("line"), tr("problem")))

        def write(row: "Malformed") -> None:
            table.writerow((row.line, translated(row.problem)))

        yield write


async def _preview(
    spec: "CampaignSpec",
    audience: "Audience",
    malformed: "OnMalformed",
    on_malformed: "Callable[[Malformed], None] | None",
) -> dict[str, Any]:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents, estimate
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.commands.campaign.progress import showing

    own = Settings.load().of_app(spec.app)
    async with opened_store(own) as store:
        with showing() as progress:
            found = await estimate.of_audience(
                own,
                store.database,
                spec,
                audience,
                malformed=malformed,
                on_malformed=on_malformed,
                on_rows=progress.read,
            )
    return documents.preview(found)


def _show(created: "Created", absent: int | None) -> None:
    from dingrelay_workers.campaigns import documents

    found: dict[str, Any] = documents.campaign(created.campaign)
    skipped = [row._asdict() for row in created.malformed]
    more = {"excluded": created.excluded, "not_in_directory": absent, "skipped": skipped}
    print_result(found | more, lambda: _words(created, absent, found))


def _words(created: "Created", absent: int | None, found: dict[str, Any]) -> None:
    console().print(
        tr(
            "draft {id}  people: {recipients:,}, calls: {chunks:,}, duplicates: {duplicates:,}, "
            "excluded: {excluded:,}, malformed: {malformed:,}",
            id=found["id"],
            recipients=found["recipients"],
            chunks=found["chunks"],
            duplicates=found["duplicates"],
            excluded=created.excluded,
            malformed=found["malformed"],
        ),
        markup=False,
    )
    if absent:
        words = tr(
            "{people:,} people are not in the directory: they are looked up before their calls",
            people=absent,
        )
        console(stderr=True).print(words, style="yellow")
    for row in created.malformed:
        console(stderr=True).print(translated(str(row)), style="yellow", markup=False)
    if found["malformed"] > len(created.malformed):
        console(stderr=True).print(tr("and more: --malformed-file has them all"), style="yellow")
