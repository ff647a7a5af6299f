"""``python -m dingrelay_chaos``: seeds one after the other, or several at once; or a soak of hours."""

import argparse
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from dingrelay_chaos import soak
from dingrelay_chaos.run import run
from dingrelay_chaos.schedule import Schedule, schedule

SECONDS = 60.0


def main() -> int:
    """Run what is asked for; 1 if an invariant does not hold."""
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    first = options.seed if options.seed is not None else random.randrange(1, 1_000_000)
    if options.soak:
        return soak.run(first, options.soak * 3_600)
    seeds = range(first, first + options.seeds)
    if options.plan:
        for seed in seeds:
            print(_schedule(seed, options).text())
        return 0
    if len(seeds) > 1:
        return _many(seeds, options)
    print(f"seed {first}", flush=True)
    verdict = run(_schedule(first, options), keep=options.keep)
    print(verdict.text, flush=True)
    return 1 if verdict.violations else 0


def _many(seeds: range, options: argparse.Namespace) -> int:
    """Each seed in a process of its own; what they print stays together."""
    failed: list[int] = []
    running: list[subprocess.Popen[str]] = []

    def one(seed: int) -> None:
        command = [sys.executable, "-m", "dingrelay_chaos", "--seed", str(seed)]
        command += ["--seconds", f"{options.seconds:g}", "--without", *options.without]
        command += ["--only", *options.only]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            running.append(process)
            output, _ = process.communicate()
            running.remove(process)
        if process.returncode:
            failed.append(seed)
        print(output, end="", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(one, seeds))
        except KeyboardInterrupt:
            # Here, since leaving the pool waits for them. They end what they have started.
            for process in tuple(running):
                process.terminate()
            raise
    print(f"{len(seeds) - len(failed)} of {len(seeds)} seeds hold; not: {sorted(failed) or 'none'}")
    return 1 if failed else 0


def _schedule(seed: int, options: argparse.Namespace) -> Schedule:
    return schedule(seed, options.seconds, without=options.without, only=options.only)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    names: dict[str, Any] = {"nargs": "*", "default": [], "metavar": "NAME"}
    parser.add_argument("--seed", type=int, help="the first; a random one if not given")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of operations and faults")
    parser.add_argument("--jobs", type=int, default=1, help="how many seeds at once")
    parser.add_argument("--without", **names, help="operations, faults, #steps to omit")
    parser.add_argument("--only", **names, help="draw these operations and faults only")
    parser.add_argument("--plan", action="store_true", help="print the schedule only")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    parser.add_argument(
        "--soak", type=float, metavar="HOURS", help="mixed traffic instead, and a kill a minute"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
