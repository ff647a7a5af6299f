"""The command line before two cells, of which one is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runner import Cli
from two_cells import TwoCells, two_cells

FILE = """
env = "sandbox"
[apps.default]
app_key = "sandbox-key"
[apps.shop]
app_key = "shop-key"
[cells.one]
redis_url = "{one}"
database_url = "sqlite:///{folder}/one.db"
apps = ["default"]
default = true
[cells.two]
redis_url = "{two}"
database_url = "sqlite:///{folder}/two.db"
apps = ["shop"]
"""


@pytest.fixture
def cells(valkey_url: str, tmp_path: Path) -> Iterator[TwoCells]:
    with two_cells(valkey_url, tmp_path) as cells:
        cells.prepare()
        yield cells


@pytest.fixture
def cli(cells: TwoCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "cells.toml"
    config.write_text(FILE.format(**cells.urls, folder=tmp_path))
    # What `--cell` sets would stay for the tests after this one.
    monkeypatch.setenv("DINGRELAY_CELL", "")
    return Cli({"DINGRELAY_CONFIG": str(config)})


def test_all_cells_are_shown_and_one_can_be_chosen(cli: Cli, cells: TwoCells) -> None:
    made = {
        app: cli.json("send", "--app", app, "--to", "u1", "--text", app)["id"]
        for app in ("default", "shop")
    }
    assert {job["id"] for job in cli.json("job", "list")} == set(made.values())
    assert cli.json("job", "cancel", made["shop"][:9])["state"] == "cancelled"
    assert {each["app"] for each in cli.json("queue")["lanes"]} == {"default"}
    assert cli.json("limits")["rules"]["workers"] == 0
    listed = cli("--cell", "two", "job", "list", "--json")
    assert made["shop"] in listed.stdout
    assert made["default"] not in listed.stdout


def test_a_lost_cell_is_named_and_the_exit_code_tells(cli: Cli, cells: TwoCells) -> None:
    kept = cli.json("send", "--to", "u1", "--text", "kept")["id"]
    lost = cli.json("send", "--app", "shop", "--to", "u1", "--text", "lost")["id"]
    cells.lose()
    assert [job["id"] for job in cli.json("job", "list", code=3)] == [kept]
    assert [each["app"] for each in cli.json("queue", code=3)["lanes"]] == ["default"]
    for command in (["job", "list"], ["dead", "list"], ["queue"], ["limits"]):
        result = cli(*command)
        assert (result.exit_code, "cell two is away" in result.stderr) == (3, True), command
    assert cli.json("queue", "--app", "default")["lanes"]
    assert cli("job", "show", kept).exit_code == 0
    for refused in (["job", "show", lost], ["send", "--app", "shop", "--to", "u1", "--text", "x"]):
        result = cli(*refused)
        assert (result.exit_code, "cell two is away" in result.stderr) == (3, True), refused
    assert cli("send", "--to", "u1", "--text", "more").exit_code == 0
    checked = {each["check"]: each["verdict"] for each in cli.json("doctor", code=3)}
    assert checked["two redis"] == "unreachable"
    assert checked["one redis writes"] == "ok"


def test_a_command_for_one_cell_says_that_it_needs_to_know_which(cli: Cli) -> None:
    for command in (
        ["campaign", "list"],
        ["webhook", "list"],
        ["worker"],
        ["--cell", "x", "queue"],
    ):
        result = cli(*command)
        assert (result.exit_code, "DINGRELAY_CELL" in result.stderr) == (2, True), command
        assert "one, two" in result.stderr


def test_keys_are_where_all_cells_share_things_unless_a_cell_is_chosen(cli: Cli) -> None:
    made = cli.json("key", "create", "crm", "--scope", "*")["id"]
    assert [each["id"] for each in cli.json("key", "list")] == [made]
    assert cli("--cell", "two", "key", "list", "--json").stdout.strip() == "[]"
