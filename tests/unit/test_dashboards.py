"""The dashboards, as Grafana and a person can read them."""

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

import dashboards

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops/grafana"
DOCUMENTS = {
    f"{language}/{name}": document
    for language in dashboards.LANGUAGES
    for name, document in dashboards.documents(language).items()
}
UNITS = {"s", "ops", "reqps", "short", "percentunit", "bytes"}
LEGEND = re.compile(r"\{\{(\w+)\}\}")
each_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())


def test_each_has_an_address_of_its_own() -> None:
    assert len({each["uid"] for each in DOCUMENTS.values()}) == len(DOCUMENTS)
    assert len({each["title"] for each in DOCUMENTS.values()}) == len(DOCUMENTS)


def test_they_differ_between_languages_by_their_texts_only() -> None:
    english, chinese = (dashboards.documents(language) for language in dashboards.LANGUAGES)
    assert english.keys() == chinese.keys()
    for name, document in english.items():
        for one, other in zip(document["panels"], chinese[name]["panels"], strict=True):
            for text in (other["title"], other["description"]):
                assert re.search(r"[\u4e00-\u9fff]", text) or text == "worker"
            assert {**one, "title": "", "description": ""} == {
                **other,
                "title": "",
                "description": "",
            }


def test_the_compose_file_writes_them_where_grafana_reads_them(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    writer, grafana = compose["services"]["dashboards"], compose["services"]["grafana"]
    _, script, target = writer["entrypoint"]
    here = script.replace("/grafana", str(FOLDER))
    (tmp_path / "dingrelay-of-an-older-version.json").touch()
    # As in the image: without our packages.
    subprocess.run([sys.executable, "-I", "-S", here, str(tmp_path)], check=True)
    written = {
        str(path.relative_to(tmp_path)): json.loads(path.read_text("utf-8"))
        for path in tmp_path.rglob("*.json")
    }
    assert written == DOCUMENTS

    provisioning = FOLDER / "provisioning/dashboards/dingrelay.yml"
    (provider,) = yaml.safe_load(provisioning.read_text("utf-8"))["providers"]
    folder = provider["options"]["path"]
    assert f"dashboards:{target}" in writer["volumes"]
    assert f"dashboards:{folder}:ro" in grafana["volumes"]
    assert grafana["depends_on"]["dashboards"]["condition"] == "service_completed_successfully"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    for language in dashboards.LANGUAGES:
        chosen = home.replace("${DINGRELAY_LANGUAGE:-en}", language)
        assert chosen in {f"{folder}/{name}" for name in DOCUMENTS}


@each_document
def test_a_dashboard_can_be_read(document: dict[str, Any]) -> None:
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning/datasources/prometheus.yml").read_text("utf-8")
    )["datasources"]
    assert source["jsonData"]["timeInterval"] == "10s", "as in prometheus.yml"
    panels = document["panels"]
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


@each_document
def test_no_panel_hides_another(document: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in document["panels"]]
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


@each_document
def test_a_dashboard_asks_for_no_variable_that_it_has_not(document: dict[str, Any]) -> None:
    known = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(document["panels"])))
    assert used == known
