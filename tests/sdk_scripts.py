"""Scripts that use the SDKs of others, each with an interpreter of its own.

``make test`` installs those: the SDKs bring old packages, and two of them are called ``dingtalk``.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "sdks"


def run_script(
    url: str,
    script: str,
    environment: str = "sdks",
    *,
    key: str = "sandbox-key",
    secret: str = "sandbox-secret",
) -> None:
    """Run a script against what stands for DingTalk; it asserts what it is told."""
    python = Path(sys.prefix) / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{environment}: `make test` installs it")
    command = [str(python), "-W", "ignore", str(SCRIPTS / script), url, key, secret]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, env={"PATH": "/usr/bin"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
