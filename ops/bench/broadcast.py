"""Campaigns on the stand, made and moved by the commands that an operator uses."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from testbed import Testbed, wait_until

A_CALL = 100
"""Recipients of one call."""
LOOK = 0.02
"""Seconds between looks at a command's memory."""


@dataclass(frozen=True, slots=True)
class Created:
    """A draft, and what making it took.

    Attributes:
        text: what its message says, like no other's.
        seconds: from the start of the command to its end.
        peak: bytes that the command held at most.
    """

    id: str
    text: str
    seconds: float
    peak: int


def create(testbed: Testbed, name: str, people: int, *, first: int = 1, weight: int = 1) -> Created:
    """Make a draft to so many users from a CSV file, from the one with that number on."""
    source = testbed.directory / f"{name}.csv"
    with source.open("w") as file:
        file.write("userid,name\n")
        file.writelines(f"u{first + number},name {number}\n" for number in range(people))
    text = f"{name} for all"
    command = _command("create", name, "--text", text, "--file", str(source))
    began = time.monotonic()
    with subprocess.Popen(
        [*command, "--weight", str(weight)],
        env=testbed.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(LOOK)
        seconds = time.monotonic() - began
        assert process.stdout
        document = json.loads(process.stdout.read())
    source.unlink()
    return Created(document["id"], text, seconds, peak)


def move(testbed: Testbed, action: str, campaign: Created) -> float:
    """Start, pause, resume or cancel; seconds of `time.monotonic` from before the command."""
    began = time.monotonic()
    subprocess.run(
        _command(action, campaign.id), env=testbed.environment(), check=True, capture_output=True
    )
    return began


def row(testbed: Testbed, campaign: Created) -> dict[str, Any]:
    """How far it has come, as the database tells."""
    with sqlite3.connect(testbed.database) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM campaigns WHERE id = ?", [campaign.id])
        found_row = dict(found.fetchone())
    connection.close()
    return found_row


def wait_done(testbed: Testbed, campaign: Created, seconds: float) -> dict[str, Any]:
    """Its row, once it has ended.

    Raises:
        TimeoutError: not within so many seconds.
    """
    wait_until(lambda: row(testbed, campaign)["state"] == "done", seconds, pause=0.1)
    return row(testbed, campaign)


def lasted(campaign: dict[str, Any]) -> float:
    """Seconds from the start of a campaign to its end."""
    began, ended = (datetime.fromisoformat(campaign[name]) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


def wrong(testbed: Testbed, people: int) -> int:
    """People who do not have the one campaign once: without it, or with a second copy."""
    inboxes = testbed.sandbox.inboxes(limit=1)
    repeated = sum(content["repeated"] for content in inboxes["contents"])
    return people - inboxes["reached"] + repeated


def _command(action: str, *arguments: str) -> Sequence[str]:
    cli = [sys.executable, "-m", "dingrelay_producers.cli"]
    return [*cli, "campaign", action, *arguments, "--json"]


def _peak(pid: int) -> int:
    """The high-water mark that Linux keeps of a process, in bytes; 0 once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024 if marks else 0
