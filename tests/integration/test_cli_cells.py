"""The command line before two cells, of which one is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runner import Cli
from dingrelay_producers import Client
from dingrelay_tasks import MessageSend
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


def test_a_lost_cell_is_named_and_has_an_exit_code(cli: Cli, cells: TwoCells) -> None:
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
        ["flower"],
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


def test_campaigns_and_webhooks_are_where_their_apps_are_and_found_by_their_ids(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        app: cli.json("campaign", "create", app, "--app", app, "--text", "你好", "--to", "u1")["id"]
        for app in ("default", "shop")
    }
    listed = [each["id"] for each in cli.json("campaign", "list")]
    assert listed == [made["shop"], made["default"]]
    assert [each["id"] for each in cli.json("campaign", "list", "--app", "shop")] == [made["shop"]]
    assert [each["id"] for each in cli.json("--cell", "one", "campaign", "list")] == [
        made["default"]
    ]
    monkeypatch.setenv("DINGRELAY_CELL", "")
    for app, campaign in made.items():
        assert cli.json("campaign", "show", campaign)["app"] == app
        assert cli.json("campaign", "preview", campaign)["recipients"] == 1
        assert cli.json("campaign", "start", "--dry-run", campaign)["calls"] == 1
        assert cli.json("campaign", "start", campaign)["state"] == "running"
        assert cli.json("campaign", "cancel", campaign)["state"] == "cancelled"
        assert cli.json("campaign", "report", campaign)["recipients"] == 1
    assert cli("campaign", "show", "0" * 32).exit_code == 2

    add = ("webhook", "add", "https://example.com/hook", "--type", "*")
    both = cli(*add)
    assert (both.exit_code, "must be of one cell" in both.stderr) == (2, True)
    assert cli(*add, "--app", "default,shop").exit_code == 2
    endpoint = cli.json(*add, "--app", "shop")["id"]
    assert [each["id"] for each in cli.json("webhook", "list")] == [endpoint]
    assert cli.json("webhook", "pause", endpoint)["state"] == "paused"
    assert cli.json("webhook", "show", endpoint)["apps"] == ["shop"]

    assert cli.json("campaign", "delete", "--yes", made["default"])["state"] == "deleted"
    (tmp_path / "two.db").write_bytes(b"no database" * 1_000)
    assert cli.json("campaign", "list", code=3) == []
    for command in (
        ["campaign", "list"],
        ["campaign", "show", made["shop"]],
        ["webhook", "list"],
        ["webhook", "remove", endpoint],
        ["person", "find", "u1"],
    ):
        result = cli(*command)
        assert (result.exit_code, "cell two is away" in result.stderr) == (3, True), command
    # Nobody need ask it.
    assert cli("campaign", "list", "--app", "default").exit_code == 0


def test_a_person_is_erased_in_all_cells_and_those_that_are_away_are_named(
    cli: Cli, cells: TwoCells
) -> None:
    sent = {
        app: cli.json("send", "--app", app, "--to", "u1", "--text", app)["id"]
        for app in ("default", "shop")
    }
    exported = cli.json("person", "export", "u1")
    assert {each["job"] for each in exported["jobs"]} == set(sent.values())
    assert "cells_away" not in exported

    erasure = cli.json("person", "erase", "u1", "--yes")
    assert {each["id"] for each in erasure["remaining"]} == set(sent.values())
    assert len(erasure["jobs"]) == 2
    for cell, job in zip(("one", "two"), erasure["jobs"], strict=True):
        with cells.redis(cell) as redis:
            record = redis.hgetall(f"dingrelay:job:{job}")
        assert erasure["tombstone"].encode() in record[b"payload"]
    (only,) = cli.json("person", "erase", "u1", "--app", "shop", "--yes")["jobs"]
    assert cli.json("job", "show", only)["app"] == "shop"

    cells.lose()
    exported = cli.json("person", "export", "u1", code=3)
    assert exported["cells_away"] == ["two"]
    assert sent["default"] in {each["job"] for each in exported["jobs"]}
    erasure = cli.json("person", "erase", "u1", "--yes", code=3)
    assert (erasure["cells_away"], len(erasure["jobs"])) == (["two"], 1)
    result = cli("person", "erase", "nobody", "--yes")
    assert result.exit_code == 3
    assert "NOT erased in two" in result.stdout
    assert "cell two is away" in result.stderr
    refused = cli("person", "erase", "u1", "--app", "shop", "--yes")
    assert (refused.exit_code, "cell two is away" in refused.stderr) == (3, True)


def test_a_person_is_erased_also_in_a_cell_of_which_no_app_is_known(cells: TwoCells) -> None:
    cells.prepare()
    one = {name: value for name, value in cells.cells["one"].items() if name != "apps"}
    two = {**cells.cells["two"], "apps": ["shop", "default", "one0"]}
    settings = cells.settings(cells={"one": one, "two": two})
    with Client(settings) as client:
        message = {"msgtype": "text", "text": {"content": "x"}}
        job = {"app": "unknown", "to": {"users": ["u1"]}, "message": message}
        sent = client.send(MessageSend.parse(job)).id
        erasure = client.erase_person("u1")
        assert [each.id for each in erasure.remaining] == [sent]
        assert client.job(erasure.job).status().kind == "person-erase"
    with cells.redis("one") as redis:
        assert redis.hget(f"dingrelay:job:{erasure.job}", "app") == b"one1"
