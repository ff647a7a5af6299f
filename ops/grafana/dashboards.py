"""Writes Grafana's dashboards as JSON, from dashboards.toml: ``dashboards.py [FOLDER]``.

Needs nothing but Python's standard library: docker-compose.yml runs it before Grafana starts.
"""

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 12, 8
"""Size of a panel, in units of Grafana's grid, which is 24 wide."""
APPS = "label_values(dingrelay_worker_app, app)"
LANGUAGES = ("en", "zh")
"""A folder each; the order of titles and texts in dashboards.toml."""
PAGE: Mapping[str, Any] = {
    "timezone": "browser",
    # Of Grafana 12; an older Grafana refuses nothing of it that is used here.
    "schemaVersion": 41,
    "refresh": "10s",
    "time": {"from": "now-1h", "to": "now"},
    "graphTooltip": 1,
    "templating": {
        "list": [
            {
                "name": "app",
                "label": "app",
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": APPS, "refId": "app"},
                "definition": APPS,
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        ]
    },
}


def documents(language: str) -> dict[str, Any]:
    """File name → the dashboard as Grafana reads it."""
    content = tomllib.loads((HERE / "dashboards.toml").read_text("utf-8"))
    place = LANGUAGES.index(language)
    tag = "dingrelay" if place == 0 else f"dingrelay-{language}"
    link = {"type": "dashboards", "title": "dingrelay", "includeVars": True, "keepTime": True}
    return {
        f"{each['name']}.json": {
            "uid": each["name"] if place == 0 else f"{each['name']}-{language}",
            "title": each["title"][place],
            "tags": [tag],
            "links": [{**link, "tags": [tag]}],
            **PAGE,
            "panels": [panel(number, given, place) for number, given in enumerate(each["panels"])],
        }
        for each in content["dashboards"]
    }


def panel(number: int, given: Mapping[str, Any], language: int) -> dict[str, Any]:
    """A graph at its place, by its number from 0 on; its language by its place in `LANGUAGES`."""
    row, column = divmod(number, 2)
    stacked = given.get("stacked", False)
    custom = {
        "fillOpacity": 20 if stacked else 0,
        "stacking": {"mode": "normal" if stacked else "none"},
    }
    defaults = {"unit": given["unit"], "min": 0, "max": given.get("most"), "custom": custom}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": given["title"][language],
        "description": given["text"][language],
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            target(query, letter) for query, letter in zip(given["queries"], "ABCDEF", strict=False)
        ],
    }


def target(query: str | list[str], letter: str) -> dict[str, Any]:
    """An expression with its legend."""
    if isinstance(query, str):
        [labels] = re.findall(r"by \(([^)]*)\)", query)[:1]
        shown = (label for label in labels.split(", ") if label != "le")
        query = [query, " ".join(f"{{{{{label}}}}}" for label in shown)]
    expression, legend = query
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "refId": letter}


def write(folder: Path) -> None:
    """Write them all, and remove those of other versions."""
    folder.mkdir(exist_ok=True)
    for path in folder.rglob("dingrelay*.json"):
        path.unlink()
    for language in LANGUAGES:
        (folder / language).mkdir(exist_ok=True)
        for name, document in documents(language).items():
            content = json.dumps(document, ensure_ascii=False)
            (folder / language / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards")
