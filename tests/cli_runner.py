"""The command line inside the test's process, away from this folder's own settings."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import Typer, testing
from typer.testing import CliRunner, Result

from dingrelay_producers.cli import app, group
from dingrelay_workers.doctor import broker

_make = testing._get_command


@cache
def made(app: Typer, entry_points: object) -> object:
    """The group of all commands, with the parts that these entry points find."""
    return _make(app)


# To make all commands takes longer than to run most of them.
testing._get_command = lambda app: made(app, group.entry_points)


class Cli:
    """Runs commands with these variables, in a folder of its own."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self._runner = CliRunner()

    def __call__(self, *arguments: str, stdin: str | None = None, **variables: str) -> Result:
        """Run one command; what it raises that is no exit is raised."""
        return self._runner.invoke(
            app,
            list(arguments),
            input=stdin,
            env={**self.variables, **variables},
            catch_exceptions=False,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What one command prints as JSON."""
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


def in_folder(monkeypatch: pytest.MonkeyPatch, folder: Path, variables: Mapping[str, str]) -> Cli:
    """The command line in an empty folder; `doctor` does not wait long for workers, as none run."""
    monkeypatch.setattr(broker, "ANSWER_SECONDS", (0.05,))
    monkeypatch.chdir(folder)
    return Cli(variables)
