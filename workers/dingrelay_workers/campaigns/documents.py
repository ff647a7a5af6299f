"""Campaigns as JSON values, for the command line and other programs."""

from dataclasses import asdict
from typing import Any

from dingrelay_producers.json_values import json_values
from dingrelay_workers.campaigns.estimate import Preview
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.report import Summary

_INTERNAL = {"recent_people", "recent_failed", "rate_credit", "rate_at", "index_bits", "trace"}
"""Columns of a campaign's row that only the workers use."""


def campaign(row: CampaignRow) -> dict[str, Any]:
    """A campaign: the columns of its row that mean something to people, moments as ISO 8601."""
    names = (column.name for column in CampaignRow.__table__.columns)
    return _object({name: getattr(row, name) for name in names if name not in _INTERNAL})


def preview(found: Preview) -> dict[str, Any]:
    """The cost of a campaign."""
    counts: dict[str, Any] = {"duplicates": found.duplicates, "malformed": found.malformed}
    if found.gathered:
        skipped = [row._asdict() for row in found.gathered.first_malformed]
        counts |= {"excluded": found.gathered.excluded, "skipped": skipped}
    return _object(
        {**asdict(found.size), **asdict(found.pace), "quota": asdict(found.month), **counts}
    )


def report(summary: Summary) -> dict[str, Any]:
    """The outcomes of a campaign's people."""
    return _object({**asdict(summary), "reasons": [each._asdict() for each in summary.reasons]})


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: json_values(value) for name, value in fields.items()}
