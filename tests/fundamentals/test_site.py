"""The pages from which the site is built; MkDocs itself checks links and anchors (``make site``)."""

from pathlib import Path

import pytest
import yaml

import assemble
from anchors import anchor
from dingrelay_workers.dingtalk.classify import ROWS
from dingrelay_workers.gateway.server import ROUTES
from fundamentals.documents import TRANSLATED


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    assemble.Assembly(folder).write()
    return folder


def test_each_page_is_there_in_both_languages(pages: Path) -> None:
    places = {
        language: {path.relative_to(pages / language) for path in (pages / language).rglob("*.md")}
        for language in assemble.LANGUAGES
    }
    assert places["zh"] == places["en"]
    sources = {source for page in assemble.Assembly(pages)._pages for source in page[1:]}
    assert sources >= {page for pair in TRANSLATED for page in pair}


def test_a_link_to_another_page_stays_in_its_language(pages: Path) -> None:
    for language in assemble.LANGUAGES:
        for path in (pages / language).rglob("*.md"):
            if path.name == "http.md":  # it is HTML
                continue
            for _, _, target in assemble.LINK.findall(path.read_text("utf-8")):
                file = target.partition("#")[0]
                if "://" in target or not file:
                    continue
                there = (path.parent / file).resolve()
                assert there.is_relative_to(pages / language), (path, target)
                assert there.exists(), (path, target)


@pytest.mark.parametrize("language", assemble.LANGUAGES)
def test_each_code_and_each_operation_is_on_the_pages_made_of_the_code(
    pages: Path, language: str
) -> None:
    codes = (pages / language / assemble.CODES).read_text("utf-8")
    assert all(f"`{code}`" in codes for row in ROWS for code in row.codes.split())
    http = (pages / language / assemble.HTTP).read_text("utf-8")
    described = [route.operation for route in ROUTES if f'<details id="{route.operation}">' in http]
    assert len(described) > 50
    python = (pages / language / assemble.PYTHON).read_text("utf-8")
    assert "::: dingrelay_producers.client.client.Client\n" in python


def test_the_menu_leads_to_each_page(pages: Path) -> None:
    settings = yaml.safe_load(pages.with_name("mkdocs.yml").read_text("utf-8"))
    for language in settings["plugins"]["i18n"]["languages"]:
        menu = yaml.safe_dump(language["nav"])
        for path in (pages / language["locale"]).rglob("*.md"):
            assert path.relative_to(pages / language["locale"]).as_posix() in menu


def test_code_in_a_list_is_set_in_as_markdown_wants_it() -> None:
    text = "1. one\n   ```sh\n   a\n   ```\nA paragraph\n- item\n- item\n"
    assert "".join(assemble._by_kind(text, str)) == (
        "1. one\n    ```sh\n    a\n    ```\nA paragraph\n\n- item\n- item\n"
    )


def test_a_heading_has_the_anchor_that_links_use() -> None:
    assert anchor("Alertmanager、Grafana 等", "-") == "alertmanagergrafana-等"
