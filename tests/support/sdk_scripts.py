"""Scripts that use the SDKs of others, each with an interpreter of its own.

``make test`` installs those: the SDKs bring old packages, and two of them are called ``dingtalk``.
"""

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "sdks"


def run_script(
    url: str,
    script: str,
    environment: str = "sdks",
    *,
    key: str = "sandbox-key",
    secret: str = "sandbox-secret",
) -> None:
    """Run a script against what stands for DingTalk; it asserts what it gets."""
    python = Path(sys.prefix) / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{environment}: `make test` installs it")
    command = [str(python), "-W", "ignore", str(SCRIPTS / script), url, key, secret]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, env={"PATH": "/usr/bin"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


class Listener:
    """A script that runs until it is ended, and writes a line of JSON for each event it gets."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def event(self) -> dict[str, Any]:
        """The next event."""
        try:
            event = json.loads(self._lines.get(timeout=60))
        except queue.Empty:
            pytest.fail("no event came within 60 s")
        assert isinstance(event, dict)
        return event

    def close(self) -> None:
        """End the script."""
        self._process.terminate()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)


@contextmanager
def listening(
    command: list[str], source: Path | None = None, folder: Path | None = None
) -> Iterator[Listener]:
    """A script that listens to events; `source` is given to the interpreter's input."""
    program = None if source is None else source.open()
    try:
        with subprocess.Popen(
            command,
            stdin=program,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env={"PATH": "/usr/bin"},
        ) as process:
            listener = Listener(process)
            try:
                yield listener
            finally:
                listener.close()
    finally:
        if program is not None:
            program.close()


@contextmanager
def python_stream(url: str, first: int) -> Iterator[Listener]:
    """DingTalk's client for Python; `first` is the code with which it answers the first event."""
    python = Path(sys.prefix) / "sdks" / "bin" / "python"
    if not python.exists():
        pytest.skip("sdks: `make test` installs it")
    command = [str(python), "-W", "ignore", str(SCRIPTS / "stream.py")]
    with listening([*command, url, "sandbox-key", "sandbox-secret", str(first)]) as listener:
        yield listener


@contextmanager
def node_stream(url: str, first: str) -> Iterator[Listener]:
    """DingTalk's client for Node; `first` is the status with which it answers the first event."""
    node, packages = shutil.which("node"), Path(sys.prefix) / "node"
    if node is None or not (packages / "node_modules").exists():
        pytest.skip("node: `make test` installs its packages where npm is there")
    command = [node, "--input-type=module", "-", url, "sandbox-key", "sandbox-secret", first]
    # Packages are looked for from the folder on.
    with listening(command, SCRIPTS / "node" / "stream.mjs", packages) as listener:
        yield listener
