"""What the processes of a system hold over time, and what Redis and SQL hold for them."""

import csv
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

import psutil
from redis.exceptions import RedisError

from dingrelay_chaos.process import Process
from dingrelay_chaos.system import System
from dingrelay_workers.database.database import CONNECTIONS as DATABASE_CONNECTIONS
from dingrelay_workers.database.database import OVERFLOW as DATABASE_OVERFLOW
from dingrelay_workers.store.connections import CONNECTIONS as REDIS_CONNECTIONS

EVERY_SECONDS = 10.0
MEGA = 1_000_000
MORE_MEMORY = 1.1
"""What a process may hold at the end, as a share of what it held in the middle."""
MORE_MB = 5.0
"""MB that are no growth, whatever the share."""
MORE_OF_OTHERS = 8.0
"""Descriptors or threads that are no growth: connections of a moment."""
CELERY_CONNECTIONS = 16
"""To Redis, of a worker at most: ten publish (`broker_pool_limit`), the others consume."""
BOUNDS: Mapping[str, float] = {
    # A connection to SQLite has its file and its log open, all of them share a third file. A file that is
    # closed beside other connections stays open for the next one, so a busy moment leaves its number behind.
    "database files": 2 * (DATABASE_CONNECTIONS + DATABASE_OVERFLOW) + 1,
    "redis sockets": REDIS_CONNECTIONS + CELERY_CONNECTIONS,
}
"""What pools may open whenever that many things happen at once, which is no growth either."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one moment.

    Attributes:
        seconds: since the start.
        of: a process, ``redis`` or ``sql``.
        what: ``mb``, ``database files``, ``redis sockets``, ``descriptors`` (all others), ``threads``,
            ``keys`` or ``jobs``.
    """

    seconds: float
    of: str
    what: str
    value: float


class Sampler:
    """Takes samples in a thread while the block lasts.

    Args:
        system: whose processes.
        spared: names of workers that are killed on purpose, and so hold little.
    """

    def __init__(self, system: System, *, spared: Collection[str]) -> None:
        self.samples: list[Sample] = []
        self._system = system
        self._spared = spared
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def write(self, file: Path) -> None:
        """All samples as CSV."""
        with file.open("w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out)
            rows.writerow(["seconds", "of", "what", "value"])
            rows.writerows([each.seconds, each.of, each.what, each.value] for each in self.samples)

    def table(self) -> str:
        """For each figure: in the middle of the time, and at the end."""
        lines = [f"{'':24}{'in the middle':>16}{'at the end':>16}"]
        for (of, what), (early, late) in sorted(_stretches(self.samples).items()):
            lines.append(f"{of + ' ' + what:24}{median(early):16,.1f}{median(late):16,.1f}")
        return "\n".join(lines)

    def _sample(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            now = self._system.now()
            self.samples += [Sample(now, *each) for each in self._figures()]

    def _figures(self) -> Iterator[tuple[str, str, float]]:
        for process in self._processes():
            with suppress(psutil.Error):
                running = psutil.Process(process.pid)
                yield process.name, "mb", running.memory_info().rss / MEGA
                yield from self._descriptors(process.name, running)
                yield process.name, "threads", running.num_threads()
        with suppress(RedisError), self._system.valkey.connect() as redis:
            yield "redis", "mb", redis.info("memory")["used_memory"] / MEGA
            yield "redis", "keys", redis.dbsize()
        with suppress(sqlite3.OperationalError):
            rows = self._system.database.rows("select page_count * page_size as size from "
                                              "pragma_page_count(), pragma_page_size()")  # fmt: skip
            yield "sql", "mb", rows[0]["size"] / MEGA
            rows = self._system.database.rows("select count(*) as jobs from job_history")
            yield "sql", "jobs", rows[0]["jobs"]

    def _descriptors(self, name: str, running: psutil.Process) -> Iterator[tuple[str, str, float]]:
        """Those of pools by themselves, since each pool has its bound."""
        database, redis = str(self._system.database.path), self._system.valkey.port
        pools = {
            "database files": sum(f.path.startswith(database) for f in running.open_files()),
            "redis sockets": sum(
                each.raddr != () and each.raddr.port == redis
                for each in running.net_connections("tcp")
            ),
        }
        yield from ((name, what, count) for what, count in pools.items())
        yield name, "descriptors", running.num_fds() - sum(pools.values())

    def _processes(self) -> Iterator[Process]:
        for worker in self._system.workers:
            if worker.name not in self._spared and worker.process.alive:
                yield worker.process
        for service in (self._system.gateway, self._system.door):
            if service.process.alive:
                yield service.process


def grown(samples: Sequence[Sample]) -> list[str]:
    """What a process holds more of at the end than in the middle of the time.

    Redis and SQL are not among it: records are kept for days, and so grow with the jobs.
    """
    found: list[str] = []
    for (of, what), (early, late) in sorted(_stretches(samples).items()):
        if of in {"redis", "sql"}:
            continue
        before, after = median(early), median(late)
        most = max(before + MORE_OF_OTHERS, BOUNDS.get(what, 0.0))
        if what == "mb":
            most = before * MORE_MEMORY + MORE_MB
        if after > most:
            found.append(f"{of}: {what} from {before:.0f} to {after:.0f}")
    return found


def _stretches(
    samples: Sequence[Sample],
) -> dict[tuple[str, str], tuple[Sequence[float], Sequence[float]]]:
    """The figures of the third and of the last fifth of the time.

    Connections and what is remembered of people and limits come one by one in the first half.
    """
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in samples:
        series[each.of, each.what].append(each.value)
    fifths = {key: max(1, len(values) // 5) for key, values in series.items()}
    return {
        key: (values[2 * fifths[key] : 3 * fifths[key]] or values, values[-fifths[key] :])
        for key, values in series.items()
    }


def chart(samples: Sequence[Sample], file: Path) -> None:
    """The samples as an SVG, one axis a kind of figure."""
    import matplotlib as mpl  # noqa: PLC0415 - only here

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    series: dict[str, dict[str, tuple[list[float], list[float]]]] = defaultdict(dict)
    for each in samples:
        moments, values = series[each.what].setdefault(each.of, ([], []))
        moments.append(each.seconds / 60)
        values.append(each.value)
    figure, axes = plt.subplots(len(series), 1, figsize=(9, 2.4 * len(series)), squeeze=False)
    for axis, (what, lines) in zip(axes[:, 0], series.items(), strict=True):
        for of, (moments, values) in lines.items():
            axis.plot(moments, values, label=of)
        axis.set_ylabel(what)
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper left", fontsize=7, ncols=6)
    axes[-1, 0].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file)
