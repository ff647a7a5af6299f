"""``dingrelay audit``: who changed what."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import Column, print_result, print_table
from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingrelay_workers.audit.service import AuditEntry, AuditService

USUAL = 50
"""Changes that are listed, if no number is given."""

app = typer.Typer(help="Audit of changes: campaigns, jobs, keys, webhooks, personal data.")


@app.callback()
def audit() -> None:
    """One command so far."""


@app.command("list")
@options.filtered_by(AuditFilter)
def list_(
    list_filter: AuditFilter,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            max=10_000,
            help="How many of the newest.",
            show_default="50; with --csv all",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
) -> None:
    """List changes, the latest first: through the console, HTTP and the command line, for 400 days."""
    if as_csv:
        asyncio.run(_write_csv(list_filter, limit))
        return
    entries = asyncio.run(_read_entries(list_filter, limit or USUAL))
    print_result(entries, lambda: _print(entries))


async def _write_csv(audit_filter: AuditFilter, limit: int | None) -> None:
    from dingrelay_workers.audit.service import csv_line_of, csv_lines

    sys.stdout.writelines(csv_lines(()))
    rows = 0
    async for entry in _audit().export(audit_filter):
        sys.stdout.write(csv_line_of(entry))
        rows += 1
        if rows == limit:
            return


async def _read_entries(audit_filter: AuditFilter, limit: int) -> "list[AuditEntry]":
    return [entry async for entry in _audit().every(audit_filter, most=limit)]


def _audit() -> "AuditService":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.audit.service import AuditService

    return AuditService(Settings.load())


def _print(entries: "Sequence[AuditEntry]") -> None:
    print_table(
        entries,
        Column("at", lambda row: local(row.at), rank=1),
        Column("by", lambda row: row.name or row.actor, rank=1),
        Column("door", lambda row: row.door, rank=5),
        Column("action", lambda row: f"{row.kind} {row.action}"),
        Column("object", lambda row: row.object),
        Column("app", lambda row: row.app, rank=4),
        Column("change", lambda row: row.change(), rank=2, cut=True),
        Column("reason", lambda row: row.reason, rank=3, cut=True),
    )
