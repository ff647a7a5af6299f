"""A real Prometheus with our rules, which looks at processes of a test every second."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

import dashboards
from support.servers import free_port, program, running

OPS = Path(__file__).parents[2] / "ops"
RULES = OPS / "prometheus/alerts.yml"

COMPARISON = re.compile(r"(?:[<>]=?|[=!]=)\s*\d+(?:\.\d+)?")
SUBQUERY = re.compile(r"\[\w+:\w+\]")
SELECTOR = re.compile(r"(?<![\w:])(?:dingrelay[_:]|process_|up\b)[a-z_:]*(?:\{[^}]*\})?")


class Prometheus:
    """One that listens at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: object) -> Any:
        """An answer of its API."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except (URLError, OSError):
            return False

    def now(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression just now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def had(self, expression: str, *, seconds: float) -> bool:
        """Whether an expression has had a number within the last seconds, as a graph of them shows."""
        end = self.clock()
        found = self.ask("query_range", query=expression, start=end - seconds, end=end, step=1)[
            "result"
        ]
        values = (float(value) for series in found for _, value in series["values"])
        return any(math.isfinite(value) for value in values)

    def clock(self) -> float:
        """Prometheus's time."""
        return float(self.ask("query", query="time()")["result"][0])

    def health(self) -> Mapping[str, str]:
        """Target → up or down."""
        targets = self.ask("targets", state="active")["activeTargets"]
        return {each["labels"]["instance"]: each["health"] for each in targets}


@contextmanager
def prometheus(folder: Path, ports: Iterable[int]) -> Iterator[Prometheus]:
    """One with the rules and the job of ops/prometheus.

    Args:
        folder: for its files.
        ports: of this machine at which it looks.
    """
    command = program("prometheus")
    shipped = yaml.safe_load((OPS / "prometheus/prometheus.yml").read_text("utf-8"))
    (job,) = shipped["scrape_configs"]
    targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": job["job_name"], "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    port = free_port()
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    found = Prometheus(f"http://127.0.0.1:{port}")
    with running([command, *options], folder / "prometheus.log", found.ready):
        yield found


def alerts() -> dict[str, str]:
    """Alert → its expression."""
    content = yaml.safe_load(RULES.read_text("utf-8"))
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule["expr"] for rule in rules if "alert" in rule}


def watched(expression: str) -> str:
    """The metric behind an alert: its expression without comparisons, where missing values count as present.

    Where the day before is looked at, it is the last minutes here.
    """
    without = COMPARISON.sub("", expression)
    there = without.replace("absent(", "(").replace("unless", "and")
    return SUBQUERY.sub("[5m:1s]", there)


def selectors(expression: str) -> list[str]:
    """The series that an expression is made of."""
    return SELECTOR.findall(expression)


def panels() -> dict[tuple[str, str, str], str]:
    """Dashboard, panel and letter → the expression as Grafana asks it, for all apps."""
    found: dict[tuple[str, str, str], str] = {}
    for name, content in dashboards.documents("en").items():
        variables = {each["name"]: each["allValue"] for each in content["templating"]["list"]}
        for panel in content["panels"]:
            for target in panel["targets"]:
                # At a step of a second Grafana makes it four times the interval.
                expression = target["expr"].replace("$__rate_interval", "4s")
                for variable, value in variables.items():
                    expression = expression.replace(f"${variable}", value)
                assert "$" not in expression, (name, expression)
                found[name.removesuffix(".json"), panel["title"], target["refId"]] = expression
    return found
