"""A soak: hours of mixed traffic, a kill a minute, and whether anything grows.

One worker is killed once a minute; all other programs live from the start to the end, and what they hold is
sampled. It is verified by the same invariants as a seed of chaos.
"""

import csv
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median
from typing import NamedTuple

import psutil
from redis.exceptions import RedisError

from dingrelay_chaos import run as running
from dingrelay_chaos.schedule import KILLED, soak
from dingrelay_chaos.system import System
from dingrelay_workers.database.database import CONNECTIONS as DATABASE_CONNECTIONS
from dingrelay_workers.database.database import OVERFLOW as DATABASE_OVERFLOW
from dingrelay_workers.store.connections import CONNECTIONS as REDIS_CONNECTIONS

EVERY_SECONDS = 10.0
MEGA = 1_000_000
MORE_MEMORY = 1.1
"""Most memory of a process at the end, as a share of that in the middle."""
MORE_MB = 5.0
"""MB that are no growth, whatever the share."""
MORE_OF_OTHERS = 8.0
"""Descriptors or threads that are no growth: connections of a moment."""
CELERY_CONNECTIONS = 16
"""Connections of a worker's Celery to Redis at most: ten publish (`broker_pool_limit`), the others consume."""
BOUNDS: Mapping[str, float] = {
    # A connection to SQLite has its file and its log open, all of them share a third file. A file that is
    # closed beside other connections stays open for the next one, so a busy moment leaves its number behind.
    "database files": 2 * (DATABASE_CONNECTIONS + DATABASE_OVERFLOW) + 1,
    "redis sockets": REDIS_CONNECTIONS + CELERY_CONNECTIONS,
}
"""Bounds of pools, up to which more may be opened without being growth."""


def run(seed: int, seconds: float) -> int:
    """Run it; 1 if an invariant does not hold, or something has grown."""
    schedule = soak(seed, seconds)
    print(f"seed {seed}, {seconds / 3_600:g} h, {len(schedule.steps)} steps", flush=True)
    samples: list[Sample] = []
    verdict = running.run(schedule, keep=True, watch=partial(_sampling, samples))
    with (verdict.folder / "samples.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([Sample._fields, *samples])
    growing = grown(samples)
    print("\n".join([verdict.text, table(samples), *(f"  {line}" for line in growing)]))
    print(f"samples: {verdict.folder}; {'something' if growing else 'nothing'} has grown")
    return 1 if verdict.violations or growing else 0


class Sample(NamedTuple):
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


@contextmanager
def _sampling(samples: list[Sample], system: System) -> Generator[None]:
    """Take samples in a thread while the block lasts."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(EVERY_SECONDS):
            now = system.now()
            samples.extend(Sample(now, *each) for each in _figures(system))

    thread = threading.Thread(target=sample, name="sampler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _figures(system: System) -> Iterator[tuple[str, str, float]]:
    """Figures of every program but the one that is killed, of Redis and of SQL."""
    for number, service in enumerate(system.services):
        with suppress(psutil.Error):
            if number != KILLED and service.alive:
                yield from ((service.name, *each) for each in _of(service.pid, system))
    with suppress(RedisError), system.valkey.connect() as redis:
        yield "redis", "mb", redis.info("memory")["used_memory"] / MEGA
        yield "redis", "keys", redis.dbsize()
    with suppress(sqlite3.OperationalError):
        size = "select page_count * page_size from pragma_page_count(), pragma_page_size()"
        yield "sql", "mb", system.database.value(size) / MEGA
        yield "sql", "jobs", system.database.value("select count(*) from job_history")


def _of(pid: int, system: System) -> Iterator[tuple[str, float]]:
    """Resources of a process. Descriptors of pools come by themselves, since each pool has its bound."""
    process = psutil.Process(pid)
    files, sockets = process.open_files(), process.net_connections("tcp")
    pools = {
        "database files": sum(each.path.startswith(str(system.database.path)) for each in files),
        "redis sockets": sum(
            each.raddr != () and each.raddr.port == system.valkey.port for each in sockets
        ),
    }
    yield "mb", process.memory_info().rss / MEGA
    yield from pools.items()
    yield "descriptors", process.num_fds() - sum(pools.values())
    yield "threads", process.num_threads()


def grown(samples: Sequence[Sample]) -> list[str]:
    """Resources of which a process holds more at the end than in the middle of the time.

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


def table(samples: Sequence[Sample]) -> str:
    """Each figure in the middle of the time and at the end."""
    lines = [f"{'':24}{'in the middle':>16}{'at the end':>16}"]
    for (of, what), (early, late) in sorted(_stretches(samples).items()):
        lines.append(f"{of + ' ' + what:24}{median(early):16,.1f}{median(late):16,.1f}")
    return "\n".join(lines)
