"""``python -m dingrelay_simulation.mutations``: behaviours taken out one by one; plain seeds must notice each of them."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LISTS = (
    Path(__file__).with_name("mutations.toml"),
    ROOT / "ops/chaos/dingrelay_chaos/mutations.toml",
)
PACKAGES = (
    "tasks/dingrelay_tasks",
    "producers/dingrelay_producers",
    "workers/dingrelay_workers",
    "ops/sandbox/dingrelay_sandbox",
    "ops/simulation/dingrelay_simulation",
)


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=200)
    options = parser.parse_args()
    every = {
        one["name"]: one
        for path in LISTS
        for one in tomllib.loads(path.read_text("utf-8"))["mutation"]
    }
    missed = 0
    for name in options.names or every:
        mutation = every[name]
        with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as folder:
            tree = Path(folder)
            for package in PACKAGES:
                shutil.copytree(
                    ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
                )
            path = tree / mutation["file"]
            text = path.read_text("utf-8")
            if text.count(mutation["old"]) != 1:
                print(f"{name}: its text is not in {mutation['file']} exactly once", flush=True)
                missed += 1
                continue
            path.write_text(text.replace(mutation["old"], mutation["new"]), "utf-8")
            folders = [tree / Path(package).parent for package in PACKAGES]
            ran = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "dingrelay_simulation",
                    f"--seed={options.seed}",
                    f"--seeds={options.seeds}",
                    "--most=1",
                ],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
                cwd=tree,
                capture_output=True,
                text=True,
                check=False,
            )
            found = re.search(r"^seed (\d+): (.*)$", ran.stdout, re.MULTILINE)
            if found:
                print(
                    f"{name}: seed {found[1]} ({int(found[1]) - options.seed + 1}): {found[2][:160]}",
                    flush=True,
                )
            else:
                missed += 1
                print(
                    f"{name}: NOT NOTICED in {options.seeds} seeds; {(ran.stdout + ran.stderr)[-200:]!r}",
                    flush=True,
                )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
