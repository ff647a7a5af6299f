"""The guide's recurring job: due on Friday at 17:00 in Beijing, and one message though two beats run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from acceptance.fleet import Fleet
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from fundamentals.documents import GUIDE, snippets

OFTEN = """
from celery.schedules import schedule
from recurring import app

app.conf.broker_url = {broker!r}
app.conf.beat_schedule["weekly-report"]["schedule"] = schedule(0.5)
"""
"""The same each half a second, within one period."""
FIRED = "Sending due task weekly-report"
RAN = "Task recurring.weekly_report"
TIMES = 3
"""Times that each beat fires at least."""


@pytest.fixture
def recurring() -> str:
    """The code of the page."""
    (snippet,) = snippets(GUIDE["recurring.md"][0])
    return snippet.code


@pytest.fixture
def module(recurring: str) -> dict[str, Any]:
    """Names that the code defines."""
    names: dict[str, Any] = {}
    exec(compile(recurring, "recurring.py", "exec"), names)
    return names


def beijing(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai"))


@pytest.mark.parametrize(
    ("now", "friday"),
    [
        ("2026-12-04 16:59:59", date(2026, 11, 27)),
        ("2026-12-04 17:00:00", date(2026, 12, 4)),
        ("2026-12-05 03:00:00", date(2026, 12, 4)),
        ("2026-12-07 09:00:00", date(2026, 12, 4)),
        ("2026-12-11 16:59:59", date(2026, 12, 4)),
        ("2027-01-01 17:00:00", date(2027, 1, 1)),
    ],
)
def test_a_moment_belongs_to_the_friday_before(
    module: dict[str, Any], now: str, friday: date
) -> None:
    last_friday: Callable[[datetime], date] = module["last_friday"]
    assert last_friday(beijing(now)) == friday


@pytest.mark.parametrize(
    ("now", "due"), [("2026-12-04 16:59:59", False), ("2026-12-04 17:00:00", True)]
)
def test_it_is_due_on_friday_at_five_in_beijing(
    module: dict[str, Any], now: str, due: bool
) -> None:
    app = module["app"]
    schedule = app.conf.beat_schedule["weekly-report"]["schedule"]
    schedule.app, schedule.nowfun = app, lambda: beijing(now)
    assert schedule.is_due(beijing("2026-11-27 17:00:00")).is_due == due


def test_two_beats_make_one_message(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    recurring: str,
    valkey_url: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "recurring.py").write_text(recurring, "utf-8")
    code = OFTEN.format(broker=f"{valkey_url.removesuffix('/0')}/1")
    (tmp_path / "often.py").write_text(code, "utf-8")
    fleet.spawn()
    logs = [tmp_path / f"beat{number}.log" for number in range(2)]
    with ExitStack() as stack:
        for log in logs:
            command = [sys.executable, "-m", "celery", "-A", "often", "worker", "--beat"]
            command += ["--schedule", str(log.with_suffix(".db")), "--hostname", f"{log.stem}@here"]
            command += ["--pool", "solo", "--loglevel", "info", "--without-gossip"]
            output = stack.enter_context(log.open("wb"))
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env={**fleet.env, "PYTHONPATH": str(tmp_path)},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            # Beat is a process of its own below it.
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        texts = lambda: [log.read_text("utf-8") for log in logs]  # noqa: E731
        wait_until(lambda: all(text.count(FIRED) >= TIMES for text in texts()), what="both fired")
        wait_until(
            lambda: sum(text.count(RAN) for text in texts()) >= 4 * TIMES,
            what="the task was received and ended so often",
        )
        assert "raised" not in "".join(texts())
    (job,) = client.recent()
    assert job.id
    client.job(job.id).wait(30)
    assert len(sandbox.inbox("u20")["delivered"]) == 1
