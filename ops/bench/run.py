"""All measurements in one run: a table, and JSON with the machine and the versions.

``python ops/bench/run.py [--quick] [--only LETTER] [--json FILE] [--add]``. Exit code 1 if a bound
of ours is broken; ``--quick`` only shows that everything runs, on figures too short to judge. A
whole run is written to ``docs/bench.json``, from which ``document.py`` makes what the READMEs say;
with ``--add`` so is a part of one.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

from figures import Figure, show
from measurements import MEASUREMENTS
from report import PUBLISHED, added, begun, measured, written
from testbed import testbed


def main() -> int:
    """Measure, show, and check the bounds."""
    options = _options()
    chosen = [
        each
        for each in MEASUREMENTS
        if (each.letter in options.only if options.only else each.in_smoke or not options.quick)
    ]
    report, shown = begun(_command(options)), list[Figure]()
    complete = True
    with testbed() as here:
        for number, measurement in enumerate(chosen, 1):
            print(f"… {measurement} ({number} of {len(chosen)})", file=sys.stderr, flush=True)
            began = time.monotonic()
            try:
                figures = measurement.run(here, **(measurement.quick if options.quick else {}))
            except Exception:  # noqa: BLE001 - one that cannot be measured must not cost the others
                complete = False
                traceback.print_exc()
            else:
                shown += figures
                seconds = time.monotonic() - began
                report["measurements"].append(measured(measurement, figures, seconds))
    show(shown)
    whole = complete and not options.quick and not options.only
    path = options.json or (PUBLISHED if whole or options.add else None)
    if path:
        if options.add:
            report = added(json.loads(path.read_text("utf-8")), report)
        path.write_text(written(report), "utf-8")
        print(f"written to {path}", file=sys.stderr)
    broken = [figure for figure in shown if figure.holds is False]
    if options.quick:
        return 0 if complete else 1
    for figure in broken:
        print(f"broken: {figure.group}, {figure.name}", file=sys.stderr)
    return 1 if broken or not complete else 0


def _options() -> argparse.Namespace:
    names = ", ".join(map(str, MEASUREMENTS))
    letters = [measurement.letter for measurement in MEASUREMENTS]
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"LETTER: {names}")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--only", action="append", choices=letters, metavar="LETTER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--add", action="store_true", help="to what an earlier run has written")
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    """The command that repeats the run, wherever its report is written."""
    only = [f"--only {letter}" for letter in options.only or ()]
    return " ".join(["python ops/bench/run.py", *["--quick"] * options.quick, *only])


if __name__ == "__main__":
    sys.exit(main())
