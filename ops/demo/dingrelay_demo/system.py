"""The system that the demo plays on."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
from rich.console import Console

from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.embedded.supervisor import Screen, Supervisor
from dingrelay_workers.embedded.system import plan, sandbox_key
from dingrelay_workers.http import paging

ALL_LANES = "urgent,normal,events,bulk,directory,webhooks"
CONCURRENCY = 32
RECIPIENTS = "60000/60s"
"""DingTalk takes 5,000 a minute (API §2.1); twelve times as many fit a campaign into a demo."""

GROUP, ROBOTS = "oncall", ("alerts1", "alerts2")
"""A group, and the robots in it."""


class System:
    """Valkey, a DingTalk of 2,000 people in 60 departments, two workers, a gateway and Flower.

    Attributes:
        client: a producer's client.
        sandbox: the DingTalk, from behind: its audit, its inboxes, its faults.
        flower: where Flower is.
        database: URL of the SQL directory.
        gateway: URL of the HTTP gateway.
        key: to the gateway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._supervisor: Supervisor | None = None

    @staticmethod
    def log_of(folder: Path) -> Path:
        """The file that takes what all programs write."""
        return folder / "log"

    async def start(self) -> None:
        """Start everything; returns once it is ready.

        Raises:
            StartFailed: a program did not become ready.
        """
        planned = plan(
            Settings.load(),
            self._folder,
            sandbox=True,
            concurrency=CONCURRENCY,
            workers=(ALL_LANES, ALL_LANES),
        )
        log = Console(file=self.log_of(self._folder).open("w", encoding="utf-8"), width=200)
        rules = json.dumps({"message.send": {"recipients": RECIPIENTS}})
        webhook = f"{planned.variables['DINGTALK_OAPI_URL']}/robot/send?access_token="
        os.environ.update(planned.variables | {"DINGRELAY_RULES": rules})
        os.environ.update(
            {f"DINGTALK_ROBOT_{name.upper()}_WEBHOOK": webhook + name for name in ROBOTS}
        )
        os.environ["DINGRELAY_GROUPS"] = json.dumps({GROUP: {"robots": ROBOTS}})
        self._supervisor = Supervisor(planned.stages, os.environ, Screen(log, planned.names))
        await self._supervisor.start()
        self.client = Client()
        self.sandbox = SandboxAdmin(planned.variables["DINGTALK_OAPI_URL"])
        self.sandbox.set_limits(recipients=RECIPIENTS)
        for name in ROBOTS:
            self.sandbox.add_robot(name, group=GROUP)
        self.flower = planned.facts["Flower"]
        self.database = planned.variables["DINGRELAY_DATABASE_URL"]
        self.gateway = planned.facts["gateway"].removesuffix("/docs")
        self.key = await sandbox_key(self.database, self._folder)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The gateway's answer to a request with the key, as JSON values."""
        request = Request(
            f"{self.gateway}{path}",
            None if body is None else json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
            method=method,
        )
        with urlopen(request) as answer:
            return json.load(answer)

    def knows(self, userid: str) -> bool:
        """Whether a person is in the directory, by the people whose ids come next to theirs."""
        before = paging.encode(userid[:-1])
        page = self.ask("GET", f"/v1/directory/users?limit=10&cursor={before}")
        return any(person["userid"] == userid for person in page["users"])

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        children = psutil.Process().children(recursive=True)
        return [child.pid for child in children if "worker" in child.cmdline()]

    async def stop(self) -> None:
        """End everything that was started."""
        if self._supervisor:
            await asyncio.shield(self._supervisor.stop())

    def kill(self) -> None:
        """End everything at once."""
        if self._supervisor:
            self._supervisor.kill()
