"""``python -m dingrelay_simulation``: runs seeds, and makes those that fail small."""

import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":
    # The order of a set of texts would be another one in each process.
    os.execve(
        sys.executable,
        [sys.executable, "-m", "dingrelay_simulation", *sys.argv[1:]],
        {**os.environ, "PYTHONHASHSEED": "0"},
    )

import time as _time

_cpu, _real = _time.process_time, _time.monotonic
from dingrelay_simulation import clock

clock.install()

from dingrelay_simulation.command import main

if __name__ == "__main__":
    sys.exit(main(_cpu, _real))
