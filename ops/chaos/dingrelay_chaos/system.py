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

from dingrelay_chaos.database import Database
from dingrelay_chaos.dingtalk import AGENT_ID, APP_KEY, APP_SECRET, JOINING, POOL, POOLED, DingTalk
from dingrelay_chaos.fleet import AES_KEY, TOKEN, Gateway, Listener, Worker
from dingrelay_chaos.process import Service, wait_until
from dingrelay_chaos.requests import Absence, Requests
from dingrelay_chaos.subscribers import FIRST, KEY, NETWORKS, Receiver, Subscribers
from dingrelay_chaos.valkey import CeleryEvents, Valkey
from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync

if TYPE_CHECKING:
    from dingrelay_chaos.schedule import Setting

TIMEOUT_SECONDS = 60
"""Within which a fleet on a busy machine is up."""

PACE = {
    "DINGRELAY_LEASE": "3",
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
"""Seconds until approvals without an event are looked at: twice while faults go on. The rest
is asked for at the end of a run."""


class System:
    """Valkey, SQL, a DingTalk, workers and a gateway, and a client of each.

    Attributes:
        marked_as_left: people who were marked as left at some time.
        cancelled_lanes: lanes that workers were to take nothing of at some time.
        deleted: approvals that were deleted at DingTalk, or may be.
        addresses: person → kind of address → the address, whether or not they are there.
        organising: held by what changes the organisation.
        walked: the last change that the directory knew before the run.
        began: when the schedule started, by the monotonic clock.
        began_at: the same in Unix seconds.
    """

    def __init__(self, setting: "Setting", folder: Path) -> None:
        self.folder = folder
        self.setting = setting
        self.requests = Requests()
        self.valkey = Valkey(folder)
        self.database = Database(folder)
        self.dingtalk = DingTalk(folder, setting)
        self._environment = self._variables()
        self.workers = [
            Worker(f"w{number}", self._environment, setting.concurrency, folder)
            for number in range(len(setting.worker_skews))
        ]
        self.gateway = Gateway(self._environment, folder)
        self.listener = Listener(setting.door, self._environment, folder)
        self.receiver = Receiver()
        self.subscribers = Subscribers(self.receiver, self.database)
        self.celery_events = CeleryEvents(self.valkey, folder / "celery_events.log")
        self.marked_as_left: set[str] = set()
        self.deleted: set[str] = set()
        self.cancelled_lanes: set[str] = set()
        self.organising = threading.Lock()
        self.began = time.monotonic()
        self.began_at = time.time()

    @property
    def sandbox(self) -> SandboxAdmin:
        """DingTalk from behind."""
        return self.dingtalk.admin

    @property
    def services(self) -> list[Service]:
        """All programs of ours that run for long."""
        return [*self.workers, self.gateway, self.listener]

    def start(self) -> None:
        """Start everything; returns once the workers are ready."""
        self.valkey.start()
        self.dingtalk.start()
        self.database.create()
        os.environ.update(self._environment)
        self.client = Client(Settings.load())
        self._celery = Celery("bare", broker=self.valkey.url, set_as_current=False)
        for worker, skew in zip(self.workers, self.setting.worker_skews, strict=True):
            worker.start(skew)
        self.gateway.start()
        self.receiver.come_back()
        self.celery_events.start()
        wait_until(
            lambda: all(worker.ready for worker in self.workers),
            TIMEOUT_SECONDS,
            f"a worker is not ready; see {self.folder}",
            tick=self.supervise,
        )
        self.gateway.open()
        self._subscribe()
        self.began = time.monotonic()
        self.began_at = time.time()

    def _subscribe(self) -> None:
        """Walk the organisation once, and get events and webhooks from then on.

        Raises:
            WaitTimeout: the organisation could not be walked.
        """
        self.requests.absences += [Absence(user, float("-inf")) for user in JOINING]
        self.addresses = self.dingtalk.addresses()
        self.client.send(UserSync()).wait(TIMEOUT_SECONDS)
        self.walked = self.database.value("select coalesce(max(number), 0) from changes")
        self.listener.open(self.sandbox, self.gateway.url)
        for name in self.setting.endpoints:
            self.subscribers.add(name, FIRST[name])

    def supervise(self) -> None:
        """Start programs again that have ended by themselves."""
        for service in self.services:
            service.supervise()
        # A later walk brings back who was wrongly marked, so it is looked at all the time.
        with suppress(sqlite3.OperationalError):
            rows = self.database.rows("select userid from users where left_at is not null")
            self.marked_as_left |= {row["userid"] for row in rows}

    def now(self) -> float:
        """Seconds since the start of the schedule."""
        return round(time.monotonic() - self.began, 3)

    def send_bare(self, task: str, job: dict[str, Any], countdown: float | None = None) -> str:
        """Enqueue a job by its task's name; the Celery task id."""
        queue = f"dingrelay.{job.get('lane', 'normal')}"
        sent = self._celery.send_task(
            task, kwargs={"job": job}, queue=queue, countdown=countdown, retry=False
        )
        return str(sent.id)

    def command_queue(self, verb: str, lane: str) -> None:
        """Have all workers take messages of a lane (``add_consumer``), or no longer (``cancel_consumer``)."""
        if verb == "cancel_consumer":
            self.cancelled_lanes.add(lane)
        getattr(self._celery.control, verb)(f"dingrelay.{lane}")

    def mend(self) -> None:
        """End all faults, and let every program run."""
        self.valkey.mend()
        self.database.mend()
        self.sandbox.accept_connections()
        self.sandbox.clear_faults()
        self.sandbox.clear_event_faults()
        self.sandbox.set_clock(self.setting.sandbox_skew)
        self.sandbox.add_app(app_key=APP_KEY, app_secret=APP_SECRET, agent_id=AGENT_ID)
        for service in self.services:
            service.resume()
            service.start()
        self.receiver.mend()

    def end(self) -> None:
        """End all processes, by their ids."""
        self.celery_events.end()
        for service in self.services:
            service.kill()
        self.receiver.go_away()
        self.dingtalk.end()
        self.valkey.close()
        self.database.mend()

    def _variables(self) -> dict[str, str]:
        setting = self.setting
        rules = {"*": {"calls": setting.calls}, "message.send": {"recipients": setting.recipients}}
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DINGRELAY_", "DINGTALK_"))
        }
        if setting.door == "http":
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
            "DINGRELAY_APPROVALS": json.dumps({"follow": setting.follow, "looks": LOOKS}),
            "DINGRELAY_WEBHOOK_KEY": KEY,
            "DINGRELAY_WEBHOOK_NETWORKS": NETWORKS,
            "DINGTALK_OAPI_URL": self.dingtalk.url,
            "DINGTALK_API_URL": self.dingtalk.url,
            "DINGTALK_APP_KEY": APP_KEY,
            "DINGTALK_APP_SECRET": APP_SECRET,
            "DINGTALK_AGENT_ID": AGENT_ID,
            "DINGTALK_APPROVAL_API": setting.approval_api,
            "DINGTALK_CONTACTS_API": setting.contacts_api,
            "DINGTALK_TOKEN_API": setting.token_api,
            **{
                f"DINGTALK_ROBOT_P{number}_WEBHOOK": f"{self.dingtalk.url}/robot/send?access_token={token}"
                for number, token in enumerate(POOLED)
            },
            "DINGRELAY_GROUPS": json.dumps(
                {POOL: {"robots": [f"p{number}" for number in range(len(POOLED))]}}
            ),
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
