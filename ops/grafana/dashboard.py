"""A dashboard of Grafana and its panels, and the JSON that Grafana reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 41
"""Of Grafana 12; an older Grafana refuses nothing of it that is used here."""
SOURCE = {"type": "prometheus", "uid": "prometheus"}
TAG = "dingrelay"
WIDTH, HEIGHT = 12, 8
"""Of a panel, in units of Grafana's grid, which is 24 wide."""


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title: what it shows.
        text: what one has to know to read it.
        unit: as Grafana names it.
        queries: expressions; with a legend where that is another than the labels which the outermost
            ``by`` keeps.
        stacked: whether the series are parts of a whole.
        most: the end of the scale; None where there is none.
    """

    title: str
    text: str
    unit: str
    queries: Sequence[str | tuple[str, str]]
    stacked: bool = False
    most: float | None = None

    def json(self, number: int) -> dict[str, Any]:
        """The panel at its place, by its number from 0 on."""
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "custom": {
                "fillOpacity": 20 if self.stacked else 0,
                "stacking": {"mode": "normal" if self.stacked else "none"},
            },
        }
        if self.most is not None:
            defaults["max"] = self.most
        row, column = divmod(number, 2)
        return {
            "id": number + 1,
            "type": "timeseries",
            "title": self.title,
            "description": self.text,
            "datasource": SOURCE,
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
            "targets": [
                {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "refId": letter}
                for (expr, legend), letter in zip(
                    map(_with_legend, self.queries), "ABCDEF", strict=False
                )
            ],
        }


def _with_legend(query: str | tuple[str, str]) -> tuple[str, str]:
    """An expression and its legend."""
    if isinstance(query, tuple):
        return query
    [labels] = re.findall(r"by \(([^)]*)\)", query)[:1]
    return query, " ".join(f"{{{{{label}}}}}" for label in labels.split(", ") if label != "le")


@dataclass(frozen=True)
class Dashboard:
    """A page of graphs; its file is named like it.

    Attributes:
        name: of the file, and in the URL.
        title: what Grafana lists.
        panels: from the left to the right, two in a row.
        by_app: whether one may choose apps.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    by_app: bool = True

    def json(self) -> dict[str, Any]:
        """The page as Grafana reads it."""
        return {
            "uid": self.name,
            "title": self.title,
            "tags": [TAG],
            "timezone": "browser",
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "graphTooltip": 1,
            "links": [
                {
                    "type": "dashboards",
                    "title": "dingrelay",
                    "tags": [TAG],
                    "asDropdown": False,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                }
            ],
            "annotations": {"list": []},
            "templating": {"list": [_apps()] if self.by_app else []},
            "panels": [panel.json(number) for number, panel in enumerate(self.panels)],
        }


def _apps() -> dict[str, Any]:
    """The variable `$app`."""
    query = "label_values(dingrelay_worker_app, app)"
    return {
        "name": "app",
        "label": "app",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "app"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
    }
