"""How the system of a run hears of DingTalk's events: by pushes to its gateway, or by a stream."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dingrelay_chaos.dingtalk import APP_KEY
from dingrelay_chaos.process import Process, Service
from dingrelay_sandbox.admin import SandboxAdmin

DoorKind = Literal["http", "stream"]

CLI = (sys.executable, "-W", "ignore", "-m", "dingrelay_producers.cli")
TOKEN = "tokenOfTheChaosCallback"
AES_KEY = "chaosChaosChaosChaosChaosChaosChaosChaosCha"
"""Of the callback; 43 characters."""
PATH = "/callbacks/dingtalk/default"
START_SECONDS = 30

DELIVERY = {"scale": 0.1, "redeliveries": 80}
"""DingTalk tries again after 1 s and 3 s more, and a stream after 1.6 s. A stream that is half dead is
given up after a minute, and its events are told anew until then, as they are at DingTalk."""


class Door(Service):
    """One of the two ways in, open from the start to the end of a run.

    Args:
        kind: which.
        environment: of the process that listens to the stream.
        folder: for its log.
    """

    def __init__(self, kind: DoorKind, environment: Mapping[str, str], folder: Path) -> None:
        self.kind = kind
        process = Process("stream", [*CLI, "events"], folder / "stream.log")
        super().__init__("listener", process, environment)

    def open(self, sandbox: SandboxAdmin, gateway_url: str) -> None:
        """Let DingTalk tell of events from now on.

        Raises:
            TimeoutError: nobody listens to the stream.
        """
        sandbox.set_delivery(**DELIVERY)
        if self.kind == "http":
            url = gateway_url + PATH
            sandbox.put_callback(url, token=TOKEN, aes_key=AES_KEY, app_key=APP_KEY)
            return
        self.start()
        deadline = time.monotonic() + START_SECONDS
        while not is_connected(sandbox):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no stream is open; see {self.process.log}")
            time.sleep(0.1)

    def start(self) -> None:
        """Start the process that listens, unless it runs or there is none."""
        if self.kind == "stream":
            super().start()


def is_connected(sandbox: SandboxAdmin) -> bool:
    """Whether DingTalk has a connection on which it tells of events."""
    return any(each["state"] == "open" and each["subscriptions"] for each in sandbox.streams())
