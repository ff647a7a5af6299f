"""Redis' clock in a process: precise, right after a failover, and the only one."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dingrelay_producers.store import clock
from dingrelay_producers.store.clock import RedisClock

ROOT = Path(__file__).parents[2]
OWN_CLOCK = {
    "producers/dingrelay_producers/store/clock.py": "until Redis has answered",
    "producers/dingrelay_producers/envelopes.py": "Celery's field `time`, as Celery itself writes it",
    "producers/dingrelay_producers/outbox/rows.py": "when a row was written, for people: its writer calls no Redis",
    "producers/dingrelay_producers/testing/recording.py": "a client without any Redis",
    "workers/dingrelay_workers/celery_worker/task_events.py": "Celery's field `timestamp`, as above",
    "workers/dingrelay_workers/dingtalk/classify.py": "the end of a ban, which DingTalk writes as a text",
    "workers/dingrelay_workers/doctor/redis_server.py": "compares both clocks",
}
"""Modules that read the machine's clock, and why."""


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, which a test moves."""
    moment = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: moment[0])
    return moment


def seconds(ours: RedisClock) -> float:
    return ours.now().timestamp()


def test_it_is_the_machines_own_until_redis_has_answered() -> None:
    ours = RedisClock()
    before = datetime.now(UTC)
    assert before <= ours.now() <= datetime.now(UTC)
    assert not ours.is_read


def test_a_reading_is_carried_on_whatever_the_machines_clock_says(moment: list[float]) -> None:
    ours = RedisClock()
    ours.note(5_000.0, 999.9, 1000.1)
    assert ours.is_read
    assert seconds(ours) == pytest.approx(5_000)
    moment[0] += 3_600
    assert seconds(ours) == pytest.approx(8_600)


def test_a_slow_answer_makes_it_no_worse(moment: list[float]) -> None:
    ours = RedisClock()
    ours.note(5_000.0, 1000.0, 1000.002)
    # Redis read its clock at once, and its answer was under way for two seconds.
    ours.note(5_001.0, 1001.0, 1003.0)
    moment[0] = 1003.0
    assert seconds(ours) == pytest.approx(5_003, abs=0.01)
    # In a day a monotonic clock may be seconds off.
    moment[0] += 86_400
    ours.note(91_400.0, moment[0] - 0.5, moment[0] + 0.5)
    assert seconds(ours) == pytest.approx(91_400)


def test_another_clock_after_a_failover_is_taken_at_once(moment: list[float]) -> None:
    ours = RedisClock()
    ours.note(5_000.0, 1000.0, 1000.002)
    moment[0] = 1010.0
    ours.note(5_070.0, 1010.0, 1010.5)
    assert seconds(ours) == pytest.approx(5_070, abs=0.5)


def test_no_other_module_reads_the_machines_clock() -> None:
    """A moment of the machine's own would be compared with another process's somewhere."""
    reading = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time")}
    found: set[str] = set()
    for package in ("tasks", "producers", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and (node.value.id, node.attr) in reading
                ):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == OWN_CLOCK.keys()
