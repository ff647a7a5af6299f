"""``dingrelay worker`` is Celery's worker with our defaults."""

import os
from pathlib import Path

import pytest

from dingrelay_workers import commands as worker
from support.command_line import Cli, in_folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    return in_folder(monkeypatch, tmp_path, {"DINGRELAY_ENV": "sandbox"})


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def execute(options: list[str]) -> None:
        commands.append([*options, os.environ.get("DINGRELAY_METRICS_PORT", "")])

    monkeypatch.setattr(worker, "run_celery", execute)
    monkeypatch.setenv("DINGRELAY_METRICS_PORT", "")
    monkeypatch.delenv("DINGRELAY_METRICS_PORT")
    return commands


def test_a_worker_serves_its_lanes_and_no_others(cli: Cli, executed: list[list[str]]) -> None:
    ran = cli("worker", "--lanes", "normal, urgent", "-c", "7", "--", "--loglevel=INFO")
    assert ran.exit_code == 0, ran.output
    (command,) = executed
    assert command[command.index("-Q") + 1] == "dingrelay.urgent,dingrelay.normal"
    assert command[command.index("-c") + 1] == "7"
    assert "-P" not in command, "the pool is the app's own"
    assert {"--without-gossip", "--without-mingle"} <= set(command)
    assert command[-2] == "--loglevel=INFO"


def test_metrics_get_their_port(cli: Cli, executed: list[list[str]]) -> None:
    assert cli("worker", "--metrics-port", "9301").exit_code == 0
    assert executed[0][-1] == "9301"


@pytest.mark.parametrize(
    ("toml", "error"),
    [('[rules."*"]\ncalls = "20 a second"', 'rules."*".calls'), ('[codes]\n88 = "odd"', "odd")],
)
def test_settings_of_the_limits_and_errors_are_checked_before_it_starts(
    cli: Cli, executed: list[list[str]], tmp_path: Path, toml: str, error: str
) -> None:
    (tmp_path / "dingrelay.toml").write_text(toml)
    refused = cli("worker", DINGRELAY_CONFIG="dingrelay.toml")
    assert refused.exit_code == 2
    assert error in refused.stderr
    assert not executed


def test_no_two_workers_have_one_name() -> None:
    names = set()
    for _ in range(50):
        options = worker.celery_options(worker.LANES, 1)
        names.add(options[options.index("-n") + 1])
    assert len(names) == 50
