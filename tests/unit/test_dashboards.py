"""The dashboards: as `make dashboards` writes them, and as Grafana and a person can read them."""

import json
import re
import runpy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops/grafana"
FILES = sorted((FOLDER / "dashboards").iterdir())
UNITS = {"s", "ops", "reqps", "short", "percentunit", "bytes"}
LEGEND = re.compile(r"\{\{(\w+)\}\}")


def content(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_they_are_what_the_script_writes() -> None:
    wanted = dict(runpy.run_path(str(FOLDER / "make.py"))["texts"]())
    assert {path: path.read_text("utf-8") for path in FILES} == wanted, "make dashboards"


def test_each_has_an_address_of_its_own() -> None:
    assert len({content(path)["uid"] for path in FILES}) == len(FILES)
    assert len({content(path)["title"] for path in FILES}) == len(FILES)


def test_grafana_is_given_all_of_them() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    grafana = compose["services"]["grafana"]
    (provider,) = yaml.safe_load(
        (FOLDER / "provisioning/dashboards/dingrelay.yml").read_text("utf-8")
    )["providers"]
    folder = provider["options"]["path"]
    assert f"./ops/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {f"{folder}/{path.name}" for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_can_be_read(path: Path) -> None:
    dashboard = content(path)
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning/datasources/prometheus.yml").read_text("utf-8")
    )["datasources"]
    assert source["jsonData"]["timeInterval"] == "10s", "as in prometheus.yml"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"]["uid"] == source["uid"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
        for target in panel["targets"]:
            # What a legend names, the expression has kept.
            for label in LEGEND.findall(target["legendFormat"]):
                assert label == "instance" or re.search(
                    rf"by \([^)]*\b{label}\b", target["expr"]
                ), target


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_panel_hides_another(path: Path) -> None:
    places = [panel["gridPos"] for panel in content(path)["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_no_variable_that_it_has_not(path: Path) -> None:
    dashboard = content(path)
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(dashboard["panels"])))
    assert used == known
