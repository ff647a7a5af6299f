"""Campaigns on the stand, created and started by the commands that an operator uses."""

import json
import sqlite3
import subprocess
import sys
from datetime import datetime
from typing import Any

from testbed import Testbed


def create(testbed: Testbed, people: int) -> str:
    """The id of a draft to so many users, from a CSV file."""
    source = testbed.directory / "people.csv"
    with source.open("w") as file:
        file.write("userid,name\n")
        file.writelines(f"u{1 + number},name {number}\n" for number in range(people))
    options = ["--text", "broadcast for all", "--file", str(source)]
    return str(json.loads(_command(testbed, "create", "broadcast", *options))["id"])


def start(testbed: Testbed, campaign: str) -> None:
    """Start it."""
    _command(testbed, "start", campaign)


def row(testbed: Testbed, campaign: str) -> dict[str, Any]:
    """How far it has come, by the database."""
    with sqlite3.connect(testbed.database) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM campaigns WHERE id = ?", [campaign])
        found_row = dict(found.fetchone())
    connection.close()
    return found_row


def lasted(campaign: dict[str, Any]) -> float:
    """Seconds from the start of a campaign to its end."""
    began, ended = (datetime.fromisoformat(campaign[name]) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


def wrong(testbed: Testbed, people: int) -> int:
    """People who do not have the one campaign once: without it, or with a second copy."""
    inboxes = testbed.sandbox.inboxes(limit=1)
    repeated = sum(content["repeated"] for content in inboxes["contents"])
    return people - inboxes["reached"] + repeated


def _command(testbed: Testbed, action: str, *arguments: str) -> bytes:
    cli = [sys.executable, "-m", "dingrelay_producers.cli", "campaign", action, *arguments]
    return subprocess.run(
        [*cli, "--json"], env=testbed.environment(), check=True, capture_output=True
    ).stdout
