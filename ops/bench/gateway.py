"""What jobs over HTTP cost in the gateway, beside a bare handler; no worker runs."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import psutil
from figures import Figure, percentile
from http_load import Answers, Load, ask
from testbed import Testbed, cpu_seconds, wait_until

CONNECTIONS = 32
UPLOADS = 2
"""At a time: while Redis takes the jobs of one, the gateway reads those of the other."""
PATIENCE = 30
_URL = re.compile(r"listening on (http://\S+)")
_BARE = [sys.executable, "-m", "peers.lpush"]
_GATEWAY = [sys.executable, "-m", "dingrelay_producers.cli", "gateway", "--port", "0"]
_UNLIMITED = {"DINGRELAY_GATEWAY_QUEUE_LIMIT": "1000000000"}
"""Nobody takes the jobs, and none is to be refused for that."""


class Server(NamedTuple):
    """A server under load."""

    process: psutil.Process
    url: str


def single(testbed: Testbed, rounds: int, seconds: float) -> list[Figure]:
    """Requests a second of single messages, and their CPU time, ours ÷ a bare handler's.

    Args:
        testbed: where to measure.
        rounds: of both in turn; each ratio is of one round.
        seconds: of each, in each round.
    """
    group = "single messages over HTTP"
    rates: list[tuple[float, float]] = []
    costs: list[tuple[float, float]] = []
    with _serving(testbed, _GATEWAY, _BARE) as (gateway, bare):
        key = _key(testbed)
        for server in (gateway, bare):
            _load(Load([server.url], key, "warm-up", CONNECTIONS, seconds=seconds / 4), server)
        for number in range(rounds):
            measured = [
                _load(Load([server.url], key, f"round {number}", CONNECTIONS, seconds), server)
                for server in (gateway, bare)
            ]
            rates.append(_pair(answers.accepted / answers.seconds for answers, _ in measured))
            costs.append(_pair(cpu / answers.accepted * 1e6 for answers, cpu in measured))
    return [
        Figure(
            group,
            "requests ÷ a bare handler's",
            _ratio(rates),
            "×",
            at_least=0.35,
            note=f"median of {rounds} rounds, {CONNECTIONS} connections",
        ),
        Figure(group, "bare handler's CPU ÷ ours", 1 / _ratio(costs), "×"),
        Figure(group, "dingrelay", median(ours for ours, _ in rates), "/s"),
        Figure(group, "bare handler", median(bare for _, bare in rates), "/s"),
        Figure(group, "CPU of a request, dingrelay", median(ours for ours, _ in costs), "µs"),
        Figure(group, "CPU of a request, bare handler", median(bare for _, bare in costs), "µs"),
    ]


def lines(testbed: Testbed, jobs: int, *, gateways: Sequence[int] = (2, 1)) -> list[Figure]:
    """Jobs a second of uploads as JSON lines with distinct texts, and their CPU time.

    A gateway is one process and takes one core; the bound is what two of them take on two cores.

    Args:
        testbed: where to measure.
        jobs: of each measurement.
        gateways: how many share them, in each measurement.
    """
    group = "jobs as JSON lines over HTTP"
    note = f"distinct texts, {UPLOADS} uploads at a time"
    figures: list[Figure] = []
    for number in gateways:
        rate, cpu = _uploaded(testbed, jobs, number)
        if number > 1:
            name = f"jobs a second, {number} gateways"
            figures.append(Figure(group, name, rate, "/s", at_least=10_000, note=note))
        else:
            figures.append(Figure(group, "jobs a second, one gateway", rate, "/s"))
            figures.append(Figure(group, "CPU of a job, one gateway", cpu, "µs"))
    return figures


def latency(testbed: Testbed, rounds: int, seconds: float, *, rate: float = 200) -> list[Figure]:
    """How long a single message waits for its answer while `rate` come a second.

    Args:
        testbed: where to measure.
        rounds: of ours and the bare handler in turn.
        seconds: of each, in each round.
        rate: requests a second, whether or not there were answers.
    """
    group = "a message over HTTP at 200/s"
    waits: list[list[float]] = [[], []]
    with _serving(testbed, _GATEWAY, _BARE) as servers:
        key = _key(testbed)
        for server in servers:
            ask(Load([server.url], key, "warm-up", 8, seconds=1, rate=rate))
        for number in range(rounds):
            for server, found in zip(servers, waits, strict=True):
                answers = ask(Load([server.url], key, f"round {number}", 64, seconds, rate))
                _all_accepted(answers)
                found.extend(wait * 1000 for wait in answers.waits)
    ours, bare = waits
    note = f"{len(ours):,} requests"
    return [
        Figure(group, "p99", percentile(ours, 99), "ms", at_most=15, note=note),
        Figure(group, "dingrelay, p50", percentile(ours, 50), "ms"),
        Figure(group, "bare handler, p99", percentile(bare, 99), "ms"),
        Figure(group, "bare handler, p50", percentile(bare, 50), "ms"),
    ]


def key_rate(testbed: Testbed, seconds: int, *, rate: int = 50) -> list[Figure]:
    """Requests that two gateways let through of a key's rate, in each second after the first.

    Args:
        testbed: where to measure.
        seconds: how many are looked at.
        rate: requests a second of the key; three times as many come.
    """
    group = "a key of 50/s on two gateways"
    with _serving(testbed, _GATEWAY, _GATEWAY) as servers:
        key = _key(testbed, "--rate", f"{rate}/1s")
        urls = [server.url for server in servers]
        answers = ask(Load(urls, key, "rate", 128, seconds + 1.5, 3 * rate))
    passed = [
        sum(second <= end < second + 1 for end in answers.ends) for second in range(1, seconds + 1)
    ]
    note = f"{answers.refused:,} refused"
    bounds = {"at_least": rate - 2, "at_most": rate + 2}
    return [
        Figure(group, "fewest a second", min(passed), "/s", **bounds, note=note),
        Figure(group, "most a second", max(passed), "/s", **bounds),
        Figure(group, "mean", sum(passed) / seconds, "/s"),
    ]


@contextmanager
def _serving(testbed: Testbed, *commands: Sequence[str]) -> Iterator[list[Server]]:
    """These servers on an empty Redis, and ready."""
    testbed.clear()
    with testbed.processes(commands, env=_UNLIMITED) as started:
        logs = [testbed.directory / f"process{number}.log" for number in range(len(commands))]
        wait_until(lambda: all(_URL.search(log.read_text()) for log in logs), PATIENCE)
        yield [
            Server(process, _URL.search(log.read_text())[1])
            for process, log in zip(started, logs, strict=True)
        ]


def _key(testbed: Testbed, *options: str) -> str:
    """A new API key that may send messages."""
    command = [sys.executable, "-m", "dingrelay_producers.cli", "key", "create", "bench"]
    made = subprocess.run(
        [*command, "--scope", "messages:write", "--json", *options],
        env=testbed.environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(made.stdout)["key"]


def _load(load: Load, *servers: Server) -> tuple[Answers, float]:
    """The answers, and the CPU seconds that the servers took for them."""
    processes = [server.process for server in servers]
    before = cpu_seconds(processes)
    answers = ask(load)
    _all_accepted(answers)
    return answers, cpu_seconds(processes) - before


def _uploaded(testbed: Testbed, jobs: int, gateways: int) -> tuple[float, float]:
    """Jobs a second, and µs of CPU a job."""
    with _serving(testbed, *[_GATEWAY] * gateways) as servers:
        key, urls = _key(testbed), [server.url for server in servers]
        ask(Load(urls, key, "warm-up", UPLOADS, lines=500))
        answers, cpu = _load(Load(urls, key, "upload", UPLOADS, lines=jobs // UPLOADS), *servers)
    return answers.accepted / answers.seconds, cpu / answers.accepted * 1e6


def _all_accepted(answers: Answers) -> None:
    if answers.refused:
        raise RuntimeError(f"{answers.refused} requests were refused")


def _pair(values: Iterator[float]) -> tuple[float, float]:
    ours, bare = values
    return ours, bare


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return median(ours / bare for ours, bare in pairs)
