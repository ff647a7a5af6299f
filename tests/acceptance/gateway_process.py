"""Gateways as processes, one after another on one port, which tests kill and replace."""

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acceptance.fleet import PYTHON, Fleet
from conftest import wait_until
from support import processes
from support.gateways import Reply, ask
from support.servers import free_port


class GatewayProcess:
    """One gateway after another on one port."""

    def __init__(self, fleet: Fleet, folder: Path, *, stderr: Path | None = None) -> None:
        self._fleet = fleet
        self.port = free_port()
        self.metrics_port = free_port()
        self.log = folder / f"gateway-{self.port}.log"
        self._stderr = stderr or self.log
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self) -> subprocess.Popen[bytes]:
        with self._stderr.open("ab") as lines:
            return processes.Popen(
                [*PYTHON, "dingrelay_producers.cli", "gateway", "--port", str(self.port)],
                env=self._fleet.environment(DINGRELAY_METRICS_PORT=str(self.metrics_port)),
                stdout=subprocess.DEVNULL,
                stderr=lines,
            )

    def ready(self) -> bool:
        return self.answers("/readyz")

    def answers(self, path: str = "/healthz") -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", path, timeout=5).status == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: object = None, **options: Any) -> Reply:
        """Make one request, as `gateways.ask` does."""
        return ask(self.port, method, path, body, **options)

    def replace(self) -> None:
        """kill -9, and another one in its place."""
        self.process.kill()
        self.process.wait(10)
        self.process = self._start()
        # Redis may be away just then.
        wait_until(self.answers, timeout=60, what="the next gateway answers")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        """Stop it if it runs."""
        if self.process.poll() is None:
            self.stop()


def made_key(fleet: Fleet, name: str, *options: str, scopes: Sequence[str] = ("*",)) -> str:
    """The text of a new key."""
    made = fleet.run("key", "create", name, "--json", *options, "--scope", ",".join(scopes))
    assert made.returncode == 0, made.stderr
    text: str = json.loads(made.stdout)["key"]
    return text
