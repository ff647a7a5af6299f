"""The simulated system: three workers, a producer, Valkey, SQLite and DingTalk on one loop."""

import json
import math
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dingrelay_producers import Client
from dingrelay_producers.errors import DingrelayError
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_sandbox.limits import Limits
from dingrelay_simulation import dingtalk
from dingrelay_simulation.application import Application
from dingrelay_simulation.blocking import Databases
from dingrelay_simulation.broker import Broker, Manners
from dingrelay_simulation.clock import CLOCK, Process
from dingrelay_simulation.dingtalk import SimulatedDingTalk
from dingrelay_simulation.draws import PORTS
from dingrelay_simulation.loop import VirtualLoop
from dingrelay_simulation.network import DINGTALK, VALKEY, Line, Network
from dingrelay_simulation.taking import TakingBroker
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_simulation.worker import SimulatedWorker, read_request

WORKERS = 3
CHUNK = "campaign-chunk"
"""Name of the kind of a campaign's calls."""


@dataclass(eq=False)
class Run:
    """A run of a job, also one that ends at once, since another one of it is under way.

    Attributes:
        at, until: when its worker began it, and when it ended.
    """

    at: float
    worker: str
    until: float = field(default=math.inf, kw_only=True)

    def made(self, worker: str, left: float) -> bool:
        """Whether it may have made a call of this worker that left then."""
        return self.worker == worker and self.at <= left <= self.until


@dataclass(eq=False)
class ChunkRun(Run):
    """A run of a campaign's chunk, and for which people it is."""

    campaign: str
    users: frozenset[str]


class FleetSettings(Settings):
    """Settings of a run, from neither the environment nor the files of the machine that it runs on."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Its own arguments alone, whatever the environment of this process has."""
        return (init_settings,)


class Fleet:
    """All processes of one run. Use as an async context.

    Attributes:
        runs: of each job, in order.
        chunk_runs: runs of campaigns' chunks, in order.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        valkey: VirtualValkey,
        settings: dict[str, Any],
        template: Path,
        *,
        seed: int,
        limits: Limits,
        manners: Manners | None,
        dingtalk_offset: float,
        offsets: tuple[float, ...],
        latency: tuple[float, float],
    ) -> None:
        self.loop = loop
        self.rng = random.Random(f"fleet {seed}")
        self.network = Network(loop, random.Random(f"network {seed}"))
        self.databases = Databases(random.Random(f"database {seed}"))
        self.valkey = valkey
        self.folder = Path(
            tempfile.mkdtemp(
                prefix="dingrelay-simulation-",
                dir="/dev/shm" if Path("/dev/shm").is_dir() else None,
            )
        )
        shutil.copy(template, self.folder / "dingrelay.db")
        self.settings = FleetSettings.load(
            env="sandbox",
            redis_url=f"redis://127.0.0.1:{VALKEY}/0",
            DINGTALK_OAPI_URL=f"http://127.0.0.1:{DINGTALK}",
            DINGTALK_API_URL=f"http://127.0.0.1:{DINGTALK}",
            database_url=f"sqlite:///{self.folder / 'dingrelay.db'}",
            **settings,
        )
        self.broker = (
            Broker(loop, valkey, random.Random(f"broker {seed}"), manners, read_request)
            if manners
            else TakingBroker(valkey, self.settings, read_request)
        )
        self.dingtalk = SimulatedDingTalk(limits, offset=dingtalk_offset, seed=1)
        self.network.lines[DINGTALK].latency = latency
        self.application = Application()
        self.network.lines[PORTS["application"]] = Line((0.004, 0.03))
        self.network.servers |= {
            VALKEY: valkey,
            DINGTALK: self.dingtalk,
            PORTS["application"]: self.application,
        }
        self.runs: dict[str, list[Run]] = {}
        self.chunk_runs: list[ChunkRun] = []
        self.workers = [self._worker(number, offset) for number, offset in enumerate(offsets)]
        self.producer = Process("producer")
        self.client: Client

    def _worker(self, number: int, offset: float) -> SimulatedWorker:
        publisher = Publisher(self.settings)
        process = Process(f"w{number}", offset)
        return SimulatedWorker(process, self.settings, publisher, self.broker, self._note_run)

    def _note_run(self, kind: str, job: str) -> Run:
        """Note that a run begins, and for which people if it is of a campaign's chunk."""
        assert CLOCK.process
        run = Run(CLOCK.now, CLOCK.process.name)
        payload = self.valkey.call("HGET", keys.job(job), "payload") if kind == CHUNK else None
        if payload:
            chunk = json.loads(payload)
            users = frozenset(chunk["users"])
            run = ChunkRun(run.at, run.worker, chunk["campaign"], users)
            self.chunk_runs.append(run)
        self.runs.setdefault(job, []).append(run)
        return run

    def _look_soon(self) -> None:
        self.loop.call_soon(self.broker.look)

    async def __aenter__(self) -> Self:
        dingtalk.CURRENT.append(self.dingtalk)
        self.valkey.on_published = self._look_soon
        await self.dingtalk.open()
        self.client = Client(self.settings)
        for worker in self.workers:
            worker.start(self.loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        dingtalk.CURRENT.remove(self.dingtalk)
        self.valkey.on_published = lambda: None
        self.databases.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self, number: int) -> None:
        """End a worker between two steps."""
        worker = self.workers[number]
        if worker.process.dead:
            return
        worker.process.dead = True
        worker.end_runs()
        self.network.reset(process=worker.process)
        self.databases.kill(worker.process.name)
        self.broker.lose(worker)

    def stop(self, number: int, back: float) -> None:
        """Let a worker stop as at SIGTERM, and start one in its place."""
        worker = self.workers[number]
        if worker.process.dead or worker.stopping:
            return
        worker.stop()

        def start() -> None:
            if self.workers[number] is worker:
                if not worker.main.done():
                    self.kill(number)
                worker.process.dead = True
                self.restart(number)

        self.loop.call_later(30 + back, start)

    def restart(self, number: int) -> None:
        """Start a worker in a killed one's place."""
        if self.workers[number].process.dead:
            self.workers[number] = self._worker(number, self.workers[number].process.offset)
            self.workers[number].start(self.loop)

    def status(self, job: str) -> JobStatus | None:
        """The state of a job, as its producer sees it; None without a record."""
        process, CLOCK.process = CLOCK.process, self.producer
        try:
            return self.client.status(job)
        except DingrelayError:
            return None
        finally:
            CLOCK.process = process

    def due(self, job: str) -> float:
        """When Redis has a job's next attempt, in seconds from the beginning."""
        due = self.valkey.call("HGET", keys.job(job), "due")
        return int(due or 0) / 1_000 - CLOCK.epoch - self.valkey.offset

    def have_ended(self, jobs: Sequence[str]) -> bool:
        """Whether these jobs have ended, or have no record, by what Redis holds."""
        states = self.valkey.call_all([("HGET", keys.job(job), "state") for job in jobs])
        return all(state is None or State(state.decode()).ended for state in states)
