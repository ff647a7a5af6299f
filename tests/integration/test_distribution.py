"""Tests that several processes share."""

import os
import subprocess
import sys
from pathlib import Path

from support import processes

TESTS = Path(__file__).parents[1]


def test_a_module_that_can_not_be_imported_fails_the_run(tmp_path: Path) -> None:
    """The processes are forks of one that has tried to import it before."""
    (tmp_path / "test_broken.py").write_text("from sys import nothing_of_this_name\n")
    (tmp_path / "test_sound.py").write_text("def test_it():\n    assert True\n")
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "conftest", str(tmp_path)]
    variables = {**os.environ, **processes.address(), "PYTHONPATH": str(TESTS)}
    options = ["-c", str(TESTS.parent / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 error" in done.stdout
