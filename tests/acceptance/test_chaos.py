"""A short chaos with a seed that is new each time, and in a thorough run with some that are the same."""

import os
import random
import re
import signal
import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from dingrelay_chaos import process
from dingrelay_chaos.__main__ import main
from dingrelay_chaos.mutations import MUTATIONS
from dingrelay_chaos.schedule import schedule
from dingrelay_simulation.mutations import ROOT
from support import processes
from support.examples import either

SECONDS = 8
FIXED = either((), (11, 12, 13))
UNSEEN = random.SystemRandom().randrange(1, 1_000_000)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets chaos run here, and have forks that end with this process."""
    monkeypatch.setattr(process, "subprocess", processes)
    monkeypatch.setattr(process, "_end_with", lambda parent: None)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with patch.dict(os.environ):
        yield
    signal.signal(signal.SIGTERM, on_sigterm)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [*FIXED, pytest.param(UNSEEN, id="unseen")])
@pytest.mark.usefixtures("in_this_process")
def test_the_invariants_hold_under_random_faults(
    seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seed", str(seed), "--seconds", str(SECONDS)]
    monkeypatch.setattr(sys, "argv", ["dingrelay_chaos", *options])
    assert main() == 0, capsys.readouterr().out


def test_a_schedule_depends_on_its_seed_and_its_length_only() -> None:
    assert schedule(17, 60).text() == schedule(17, 60).text()
    assert schedule(17, 60).text() != schedule(18, 60).text()


def test_a_step_that_is_left_out_changes_no_other() -> None:
    whole = schedule(17, 60).steps
    smaller = schedule(17, 60, without=[f"#{whole[3].number}"]).steps
    assert smaller == (*whole[:3], *whole[4:])


def test_the_table_of_mutations_names_the_seed_of_each() -> None:
    text = (ROOT / "ops/chaos/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| \d \| (\d+) \|", text, re.MULTILINE)
    assert rows == [(each.name, str(each.first)) for each in MUTATIONS]
