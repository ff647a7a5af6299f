"""Cost of jobs over HTTP in the gateway, beside a bare handler; no worker runs."""

import sys
from collections.abc import Sequence
from statistics import median

from figures import Figure
from http_load import Answers, Load, ask
from testbed import CLI, Server, Testbed, cpu_seconds

CONNECTIONS = 32
UPLOADS = 2
"""At a time: while Redis takes the jobs of one, the gateway reads those of the other."""
_BARE = [sys.executable, "-m", "peers.lpush"]
_GATEWAY = [*CLI, "gateway", "--port", "0"]
_UNLIMITED = {"DINGRELAY_GATEWAY_QUEUE_LIMIT": "1000000000"}
"""No worker takes the jobs, and none is to be refused for that."""


def single(testbed: Testbed, rounds: int = 9, *, seconds: float = 4) -> list[Figure]:
    """Requests a second of single messages, and their CPU time, ours ÷ a bare handler's.

    Args:
        testbed: where to measure.
        rounds: of both in turn; each ratio is of one round.
        seconds: of each, in each round.
    """
    group = "single messages over HTTP"
    rates: list[list[float]] = []
    costs: list[list[float]] = []
    testbed.clear()
    with testbed.servers(_GATEWAY, _BARE, env=_UNLIMITED) as servers:
        key = _key(testbed)
        for server in servers:
            _load(Load([server.url], key, "warm-up", CONNECTIONS, seconds / 4), server)
        for number in range(rounds):
            measured = [
                _load(Load([server.url], key, f"round {number}", CONNECTIONS, seconds), server)
                for server in servers
            ]
            rates.append([answers.accepted / answers.seconds for answers, _ in measured])
            costs.append([cpu / answers.accepted * 1e6 for answers, cpu in measured])
    note = f"median of {rounds} rounds, {CONNECTIONS} connections"
    ratio, name = median(ours / bare for ours, bare in rates), "requests ÷ a bare handler's"
    ours_rate, bare_rate = map(median, zip(*rates, strict=True))
    ours_cpu, bare_cpu = map(median, zip(*costs, strict=True))
    cpu_ratio = 1 / median(ours / bare for ours, bare in costs)
    return [
        Figure(group, name, ratio, "×", at_least=0.35, note=note),
        Figure(group, "bare handler's CPU ÷ ours", cpu_ratio, "×"),
        Figure(group, "dingrelay", ours_rate, "/s"),
        Figure(group, "bare handler", bare_rate, "/s"),
        Figure(group, "CPU of a request, dingrelay", ours_cpu, "µs"),
        Figure(group, "CPU of a request, bare handler", bare_cpu, "µs"),
    ]


def lines(
    testbed: Testbed, jobs: int = 100_000, *, gateways: Sequence[int] = (2, 1)
) -> list[Figure]:
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


def _key(testbed: Testbed) -> str:
    """A new API key that may send messages."""
    made = testbed.dingrelay("key", "create", "bench", "--scope", "messages:write")
    return str(made["key"])


def _load(load: Load, *servers: Server) -> tuple[Answers, float]:
    """The answers, and the CPU seconds that the servers took for them."""
    processes = [server.process for server in servers]
    before = cpu_seconds(processes)
    answers = ask(load)
    if answers.refused:
        raise RuntimeError(f"{answers.refused} requests were refused")
    return answers, cpu_seconds(processes) - before


def _uploaded(testbed: Testbed, jobs: int, gateways: int) -> tuple[float, float]:
    """Jobs a second, and µs of CPU a job."""
    testbed.clear()
    with testbed.servers(*[_GATEWAY] * gateways, env=_UNLIMITED) as servers:
        key, urls = _key(testbed), [server.url for server in servers]
        ask(Load(urls, key, "warm-up", UPLOADS, lines=500))
        answers, cpu = _load(Load(urls, key, "upload", UPLOADS, lines=jobs // UPLOADS), *servers)
    return answers.accepted / answers.seconds, cpu / answers.accepted * 1e6
