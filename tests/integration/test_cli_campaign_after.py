"""``dingrelay campaign report`` and what may follow it, on a real database and Valkey."""

import asyncio
import csv
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import campaigns
from cli_runner import Cli, in_folder
from dingrelay_workers.campaigns import chunks
from dingrelay_workers.campaigns.chunks import Ending
from dingrelay_workers.campaigns.models import OutcomeKind, State
from dingrelay_workers.directory.database import Database
from dingrelay_workers.directory.schema import upgrade

NOW = datetime.now(UTC)


@pytest.fixture
def cli(sandbox_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    upgrade(sandbox_env["DINGRELAY_DATABASE_URL"])
    return in_folder(monkeypatch, tmp_path, sandbox_env)


def in_database(cli: Cli, act: Callable[[Database], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        database = Database(cli.variables["DINGRELAY_DATABASE_URL"])
        try:
            return await act(database)
        finally:
            await database.dispose()

    return asyncio.run(run())


def a_campaign(cli: Cli, **fields: Any) -> str:
    """Three chunks of two: u2 has had it, the second call was repeated, the third is pending."""

    async def put(database: Database) -> str:
        campaign = await campaigns.put(
            database, people=6, **{"state": State.PAUSED, "started_at": NOW, **fields}
        )
        left_out = {OutcomeKind.DUPLICATE: ["u2"]}
        endings = (
            Ending(0, task_id=7, called_at=NOW, accepted=1, left_out=left_out),
            Ending(1, task_id=8, called_at=NOW, accepted=2, ambiguous=True),
        )
        async with database.write("x") as connection:
            await chunks.release(connection, campaign, 2, NOW)
            await chunks.settle(connection, campaign, endings)
        return campaign

    campaign: str = in_database(cli, put)
    return campaign


def test_a_report_counts_and_names_everybody(cli: Cli, tmp_path: Path) -> None:
    campaign = a_campaign(cli)
    told = cli.json("campaign", "report", campaign, "--csv", "r.csv", "--json-file", "r.ndjson")
    assert (told["id"], told["recipients"], told["calls"]) == (campaign, 6, 2)
    assert {name: people for name, people in told["outcomes"].items() if people} == {
        "accepted": 3,
        "duplicate": 1,
        "pending": 2,
    }
    duplicate = {"outcome": "duplicate", "reason": "had this content already that day", "people": 1}
    assert told["reasons"] == [duplicate]
    assert told["ambiguous"] == {"calls": 1, "people": 2}
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["userid"] for row in rows] == [f"u{number}" for number in range(1, 7)]
    assert rows[0] == {"userid": "u1", "outcome": "accepted", "task_id": "7", "reason": ""}
    lines = [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert [{**line, "task_id": str(line["task_id"] or "")} for line in lines] == rows
    shown = cli("campaign", "report", campaign).stdout
    assert "1 calls for 2 people, settled by DingTalk's same-content rule" in shown
    assert "1 duplicate: had this content already that day" in shown


def test_a_report_that_can_not_be_told_or_written_is_refused(cli: Cli) -> None:
    refused = cli("campaign", "report", "none")
    assert (refused.exit_code, "no campaign none" in refused.stderr) == (2, True)
    refused = cli("campaign", "report", a_campaign(cli), "--csv", "nowhere/r.csv")
    assert (refused.exit_code, "nowhere/r.csv: No such file" in refused.stderr) == (2, True)
