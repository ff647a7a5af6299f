"""The real system of a run: processes, ports and a folder of its own, ended whatever happens."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery

from dingrelay_chaos.celery_events import CeleryEvents
from dingrelay_chaos.database import Database
from dingrelay_chaos.dingtalk import AGENT_ID, APP_KEY, APP_SECRET, ROBOTS, DingTalk
from dingrelay_chaos.door import AES_KEY, TOKEN, Door
from dingrelay_chaos.gateway import Gateway
from dingrelay_chaos.people import DEPARTMENTS, JOINING, KINDS, PEOPLE, addresses_of_joining
from dingrelay_chaos.receiver import TIMEOUT_SECONDS, Receiver
from dingrelay_chaos.requests import Absence, Requests
from dingrelay_chaos.subscribers import FIRST, KEY, NETWORKS, Subscribers
from dingrelay_chaos.valkey import Valkey
from dingrelay_chaos.worker import Worker
from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync

if TYPE_CHECKING:
    from dingrelay_chaos.schedule import Setting

PATIENCE_SECONDS = 60
"""Within which a fleet on a busy machine is up."""

PACE = {
    "DINGRELAY_LEASE": "3",
    "DINGRELAY_WAKE_GRACE": "3",
    "DINGRELAY_MAX_WAIT": "2",
    "DINGRELAY_CALL_TIMEOUT": "3",
    "DINGRELAY_JOB_TIMEOUT": "30",
    "DINGRELAY_SETTLE_DELAY": "6",
    "DINGRELAY_TOKEN_CIRCUIT": "3",
    "DINGRELAY_SOFT_SHUTDOWN": "3",
}
"""The system's own times, so much shorter than by default that a minute shows what an hour would.

An answer is late by 5 s at most, so the settle delay of approvals is longer than that.
"""

LOOKS = (10, 30, 600)
"""Seconds until approvals of which nothing is heard are looked at: twice while faults go on. The rest
is asked for at the end of a run."""


class System:
    """Valkey, SQL, a DingTalk, workers and a gateway, and a client of each."""

    def __init__(self, setting: "Setting", folder: Path) -> None:
        self.folder = folder
        self.setting = setting
        self.requests = Requests()
        self.valkey = Valkey(folder)
        self.database = Database(folder)
        self.dingtalk = DingTalk(
            folder,
            users=PEOPLE,
            departments=DEPARTMENTS,
            skew=setting.sandbox_skew,
            latency=setting.latency,
            calls=setting.calls,
            window=setting.window,
            recipients=setting.recipients,
        )
        self._environment = self._variables()
        self.workers = [
            Worker(f"w{number}", self._environment, setting.concurrency, folder)
            for number in range(len(setting.worker_skews))
        ]
        self.gateway = Gateway(self._environment, folder)
        self.door = Door(setting.door, self._environment, folder)
        self.receiver = Receiver()
        self.subscribers = Subscribers(self.receiver, self.database)
        self.celery_events = CeleryEvents(self.valkey, folder / "celery_events.log")
        self.marked_as_left: set[str] = set()
        """People who were marked as left at some time."""
        self.deleted: set[str] = set()
        """Approvals that somebody deleted, or tried to."""
        self.addresses = addresses_of_joining()
        """Person → kind of address → the address, whether or not they are there."""
        self.organising = threading.Lock()
        """Changes of the organisation come one after the other."""
        self.walked = 0
        """The last change that the directory knew before the run."""
        self.client: Client
        self._celery: Celery
        self.began = time.monotonic()
        self.began_at = time.time()

    @property
    def sandbox(self) -> SandboxAdmin:
        """DingTalk from behind."""
        return self.dingtalk.admin

    def start(self) -> None:
        """Start everything; returns once the workers are ready."""
        self.valkey.start()
        self.dingtalk.start()
        for robot in ROBOTS:
            self.sandbox.add_robot(robot)
        self.database.create()
        os.environ.update(self._environment)
        self.client = Client(Settings.load())
        self._celery = Celery("somebody", broker=self.valkey.url, set_as_current=False)
        for worker, skew in zip(self.workers, self.setting.worker_skews, strict=True):
            worker.start(skew)
        self.gateway.start()
        self.receiver.start()
        self.celery_events.start()
        self.wait_ready()
        self.gateway.open()
        self._subscribe()
        self.began = time.monotonic()
        self.began_at = time.time()

    def _subscribe(self) -> None:
        """Know everybody who is there, and hear of what happens from then on.

        Raises:
            WaitTimeout: the organisation could not be walked.
        """
        self.requests.absences += [Absence(user, float("-inf")) for user in JOINING]
        for person in self.sandbox.organisation()["users"]:
            known = {kind: str(person[kind]) for kind in KINDS if person.get(kind)}
            self.addresses[person["userid"]] = known
        self.client.send(UserSync()).wait(PATIENCE_SECONDS)
        (row,) = self.database.rows("select coalesce(max(number), 0) as last from changes")
        self.walked = int(row["last"])
        self.door.open(self.sandbox, self.gateway.url)
        for name in self.setting.endpoints:
            self.subscribers.add(name, FIRST[name])

    def wait_ready(self) -> None:
        """Return once every worker is ready.

        Raises:
            TimeoutError: one is not.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting := [worker for worker in self.workers if not worker.ready]:
            self.supervise()
            if time.monotonic() > deadline:
                log = waiting[0].process.log.read_text("utf-8", "replace")[-2_000:]
                raise TimeoutError(f"{waiting[0].name} is not ready:\n{log}")
            time.sleep(0.1)

    def supervise(self) -> None:
        """Start workers and the gateway again where they have ended by themselves."""
        for worker in self.workers:
            worker.supervise()
        self.gateway.supervise()
        self.door.supervise()
        # A later walk brings back who was wrongly marked, so it is looked at all the time.
        with suppress(sqlite3.OperationalError):
            rows = self.database.rows("select userid from users where left_at is not null")
            self.marked_as_left |= {row["userid"] for row in rows}

    def now(self) -> float:
        """Seconds since the start of the schedule."""
        return round(time.monotonic() - self.began, 3)

    def put_app(self, secret: str = APP_SECRET) -> None:
        """Set the secret that DingTalk wants."""
        self.sandbox.add_app(app_key=APP_KEY, app_secret=secret, agent_id=AGENT_ID)

    def send_bare(self, task: str, job: dict[str, Any]) -> str:
        """Enqueue a job by its task's name; the Celery task id."""
        queue = f"dingrelay.{job.get('lane', 'normal')}"
        return str(self._celery.send_task(task, kwargs={"job": job}, queue=queue, retry=False).id)

    def resolve(self, job: str) -> str:
        """Settle an unknown approval, as a person would who looks into DingTalk."""
        from dingrelay_chaos import resolving  # noqa: PLC0415

        return resolving.resolve(self, job)

    def mend(self) -> None:
        """End all faults, and let every worker run."""
        self.valkey.mend()
        self.database.mend()
        self.sandbox.accept_connections()
        self.sandbox.clear_faults()
        self.sandbox.clear_event_faults()
        self.sandbox.set_clock(self.setting.sandbox_skew)
        self.put_app()
        for worker in self.workers:
            worker.resume()
            worker.start(worker.skews[-1][1])
        self.gateway.process.resume()
        self.gateway.start()
        self.door.start()
        self.receiver.mend()

    def end(self) -> None:
        """End all processes, by their ids."""
        self.celery_events.end()
        for worker in self.workers:
            worker.resume()
            worker.kill()
        self.gateway.kill()
        self.door.kill()
        self.receiver.end()
        self.dingtalk.end()
        self.valkey.close()
        self.database.mend()

    def _variables(self) -> dict[str, str]:
        rules = {"*": {"calls": self.setting.calls}}
        rules["message.send"] = {"recipients": self.setting.recipients}
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DINGRELAY_", "DINGTALK_"))
        }
        if self.setting.door == "http":
            kept |= {"DINGTALK_CALLBACK_TOKEN": TOKEN, "DINGTALK_CALLBACK_AES_KEY": AES_KEY}
        return {
            **kept,
            **PACE,
            "PYTHONFAULTHANDLER": "1",
            "DINGRELAY_ENV": "sandbox",
            "DINGRELAY_LOG_FORMAT": "json",
            "DINGRELAY_REDIS_URL": self.valkey.url,
            "DINGRELAY_DATABASE_URL": self.database.url,
            "DINGRELAY_RULES": json.dumps(rules),
            "DINGRELAY_APPROVALS": json.dumps({"follow": self.setting.follow, "looks": LOOKS}),
            "DINGRELAY_WEBHOOK_KEY": KEY,
            "DINGRELAY_WEBHOOK_NETWORKS": NETWORKS,
            "DINGRELAY_WEBHOOK_TIMEOUT": str(TIMEOUT_SECONDS),
            "DINGTALK_OAPI_URL": self.dingtalk.url,
            "DINGTALK_API_URL": self.dingtalk.url,
            "DINGTALK_APP_KEY": APP_KEY,
            "DINGTALK_APP_SECRET": APP_SECRET,
            "DINGTALK_AGENT_ID": AGENT_ID,
            "DINGTALK_APPROVAL_API": self.setting.approval_api,
            "DINGTALK_CONTACTS_API": self.setting.contacts_api,
            "DINGTALK_TOKEN_API": self.setting.token_api,
        }


@contextmanager
def running(setting: "Setting", folder: Path) -> Generator[System]:
    """A system that runs; it is ended whatever happens."""
    system = System(setting, folder)
    try:
        system.start()
        yield system
    finally:
        system.end()
