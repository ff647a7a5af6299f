"""The command line inside the test's process, away from this folder's own settings."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer import Typer, testing
from typer.testing import CliRunner, Result

from dingrelay_producers.cli import app, group
from dingrelay_producers.store import keys
from dingrelay_workers.database.database import Database
from dingrelay_workers.doctor import broker
from support.databases import in_database

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
        """JSON output of one command."""
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def shown(self, *arguments: str) -> str:
        """Output of one command that succeeds."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *arguments: str, code: int = 2, stdin: str | None = None) -> str:
        """Why one command is refused."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        return result.stderr

    def in_database(self, act: Callable[[Database], Awaitable[Any]]) -> Any:
        """Do something in the database of the commands."""
        return in_database(self.variables["DINGRELAY_DATABASE_URL"], act)


ERROR = {"class": "permission", "code": "60011", "message": "[no] permission", "hint": "Ask."}


def end(redis: Redis, job_id: str, state: str, error: Mapping[str, str] = ERROR) -> None:
    """Settle a job as a worker does, with this error if it failed."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    redis.hset(keys.job(job_id), mapping={"state": state, "settled": now, "attempts": 1})
    redis.zrem(keys.SCHEDULE, job_id)
    if state in {"dead", "unknown"}:
        redis.hset(keys.job(job_id), "error", json.dumps(error))
        redis.zadd(keys.DEAD, {job_id: now})
        redis.pexpire(keys.DEAD, 60_000)


def in_folder(monkeypatch: pytest.MonkeyPatch, folder: Path, variables: Mapping[str, str]) -> Cli:
    """The command line in an empty folder; `doctor` does not wait long for workers, as none run."""
    monkeypatch.setattr(broker, "ANSWER_SECONDS", (0.05,))
    monkeypatch.chdir(folder)
    return Cli(variables)
