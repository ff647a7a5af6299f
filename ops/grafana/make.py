"""Writes the dashboards of Grafana: `make dashboards`. Nobody edits the JSON by hand."""

import json
from collections.abc import Iterator
from pathlib import Path

from pages.campaigns import CAMPAIGNS
from pages.events import EVENTS
from pages.gateway import GATEWAY
from pages.limits import LIMITS
from pages.outages import OUTAGES
from pages.overview import OVERVIEW
from pages.queues import QUEUES
from pages.webhooks import WEBHOOKS

FOLDER = Path(__file__).parent / "dashboards"
ALL = (OVERVIEW, QUEUES, CAMPAIGNS, OUTAGES, LIMITS, EVENTS, WEBHOOKS, GATEWAY)


def texts() -> Iterator[tuple[Path, str]]:
    """Each file, and what belongs into it."""
    for dashboard in ALL:
        text = json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"
        yield FOLDER / f"{dashboard.name}.json", text


if __name__ == "__main__":
    for path, text in texts():
        path.write_text(text, "utf-8")
