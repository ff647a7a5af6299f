"""What a campaign will take, before anything is sent."""

from datetime import datetime
from typing import Any

from rich.table import Table

from dingrelay_producers.cli.output import grid_of_fields, length, print_result
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local


def show_preview(found: dict[str, Any]) -> None:
    """Print the cost of a campaign."""
    print_result(found, lambda: cost_page(found))


def cost_page(found: dict[str, Any]) -> Table:
    """The cost of a campaign, for people."""
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
