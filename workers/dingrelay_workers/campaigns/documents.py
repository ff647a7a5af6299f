"""Campaigns as JSON values, for the command line and other programs."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.preview import Month, Pace, Size
from dingrelay_workers.campaigns.report import Summary


def campaign(row: CampaignRow) -> dict[str, Any]:
    """A campaign: every column of its row, moments as ISO 8601."""
    return _json(
        {column.name: getattr(row, column.name) for column in CampaignRow.__table__.columns}
    )


def preview(size: Size, pace: Pace, month: Month) -> dict[str, Any]:
    """What a campaign will take."""
    return _json({**asdict(size), **asdict(pace), "quota": asdict(month)})


def report(summary: Summary) -> dict[str, Any]:
    """What became of a campaign's people."""
    fields = {**asdict(summary), "reasons": [reason._asdict() for reason in summary.reasons]}
    return _json(fields)


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
    }
