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

    from dingrelay_workers.audit.service import AuditEntry

app = typer.Typer(help="Audit of changes: campaigns, jobs, keys, webhooks, personal data.")


@app.callback()
def audit() -> None:
    """One command so far."""


@app.command("list")
@options.filtered_by(AuditFilter)
def list_(
    list_filter: AuditFilter,
    limit: options.Limit = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
) -> None:
    """List changes, the latest first: through the console, HTTP and the command line, for 400 days."""
    entries = asyncio.run(_read_entries(list_filter, limit))
    if as_csv:
        from dingrelay_workers.audit.service import csv_lines

        for line in csv_lines(entries):
            sys.stdout.write(line)
        return
    print_result(entries, lambda: _print(entries))


async def _read_entries(audit_filter: AuditFilter, limit: int) -> "list[AuditEntry]":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.audit.service import AuditService

    return [entry async for entry in AuditService(Settings.load()).every(audit_filter, most=limit)]


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
