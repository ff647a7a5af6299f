"""How tests come to test processes: in which order, and as forks of one process that has imported all tests.

`--dist worksteal` gives each process a stretch of the list, and who is done takes from the ends of
the others' stretches. So the long tests are dealt to the stretches, and each starts with its
longest: what is left to take in the end is short.

xdist starts each process as an interpreter of its own, which imports our packages and all tests again: a tenth of
all that the tests cost. Here one process imports them as pytest does, and makes no test of them. It is a
server as that in `processes`, and what it forks is the interpreter that xdist has asked for.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import pytest
from execnet.gateway_base import ThreadExecModel
from execnet.gateway_io import popen_bootstrapline

from support import processes

SECONDS = {
    "integration/test_outages.py": 75,
    "acceptance/test_observation.py": 60,  # for the most part it waits for Prometheus
    "acceptance/test_rabbitmq.py": 60,
    "acceptance/test_chaos.py": 50,
    "acceptance/test_simulation.py": 30,
    "acceptance/test_postgres_trouble.py": 50,
    "acceptance/test_user_sync.py": 45,
    "acceptance/test_demo.py": 40,
    "acceptance/test_bench.py": 40,
    "browser/test_screens.py": 40,
    "integration/test_gateway_guide.py": 40,
    "integration/test_outages_in_redis.py": 40,
    "integration/test_webhooks.py": 40,
    "acceptance/test_boundaries.py": 35,
    "acceptance/test_shutdown.py": 35,
    "acceptance/test_redis_moods.py": 30,
    "acceptance/test_gateway_kill.py": 30,
    "integration/test_webhook_guide.py": 30,
    "acceptance/test_drop_in.py": 30,
    "acceptance/test_token.py": 20,
    "acceptance/test_remote_control.py": 30,
    "acceptance/test_flower.py": 30,
    "acceptance/test_gateway_fairness.py": 30,
    "acceptance/test_gateway_secrets.py": 30,
    "acceptance/test_up.py": 25,
    "integration/test_gateway_schema.py": 15,
    "integration/test_cli_languages.py": 15,
    "integration/test_personal_data.py": 15,
    "acceptance": 15,
    "browser": 10,
    "fundamentals": 40,
    "integration": 4,
}
"""How long a file of tests takes on a quiet machine, or any other file of a folder; about."""
SHARING = "fundamentals"
"""The folder whose tests share a system: one process starts it."""


def process_count() -> int:
    """How many test processes share the tests."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def dealt(items: Sequence[pytest.Item], stretches: int) -> list[pytest.Item]:
    """The tests in their order for so many processes; those of a file stay together."""
    long: dict[Path, list[pytest.Item]] = defaultdict(list)
    short: list[pytest.Item] = []
    for item in items:
        home = item.path.parent if item.path.parent.name == SHARING else item.path
        (long[home] if _seconds(home) else short).append(item)
    piles: list[list[pytest.Item]] = [[] for _ in range(stretches)]
    loads = [0.0] * stretches
    for home in sorted(long, key=_seconds, reverse=True):
        least = loads.index(min(loads))
        loads[least] += _seconds(home)
        piles[least] += long[home]
    # Stretches are of one length: short tests fill up what long ones leave.
    for pile in piles:
        room = max(0, len(items) // stretches - len(pile))
        pile.extend(short[:room])
        del short[:room]
    return [*chain.from_iterable(piles), *short]


def _seconds(home: Path) -> float:
    """Duration of a file, or of a folder whose tests stay together; 0 where it does not matter."""
    of_file = SECONDS.get(f"{home.parent.name}/{home.name}")
    return of_file or SECONDS.get(home.name) or SECONDS.get(home.parent.name, 0)


PROGRAM = "from support import distribution; distribution.serve()"


class _TestProcess(processes.Popen[bytes]):
    """One that xdist starts."""

    server: ClassVar[processes.Server]

    def _fork_for(self, named: Mapping[str, Any]) -> tuple[processes.Server, processes.Start]:
        assert list(named["args"][1:]) == ["-u", "-c", popen_bootstrapline]
        self.server.wait()
        start = processes.Start(
            option="-c",
            program=popen_bootstrapline,
            arguments=[],
            variables=dict(os.environ),
            folder=str(Path.cwd()),
            path=sys.path,
            no_warnings=False,
            new_session=False,
        )
        return self.server, start


class _Imported:
    """Lets pytest import what it collects, and make nothing of it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self) -> list[pytest.Item]:
        return []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Forget a module whose import failed: each fork would take what there is of it for one without tests."""
        report = yield
        if report.failed:
            for name, module in list(sys.modules.items()):
                if getattr(module, "__file__", None) == str(collector.path):
                    del sys.modules[name]
        return report


def start(arguments: Sequence[str]) -> None:
    """Have the test processes of this pytest, which has these arguments, as forks."""
    server = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, " " * processes.LONGEST_COMMAND],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    _TestProcess.server = processes.Server(server.stdout.readline().strip())
    atexit.register(server.wait, 30)
    atexit.register(_TestProcess.server.close)
    started = SimpleNamespace(PIPE=subprocess.PIPE, Popen=_TestProcess)
    ThreadExecModel.subprocess = started  # type: ignore[assignment, method-assign]


def serve() -> NoReturn:
    """Be the process that has imported all tests, until who has started it is gone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{tempfile.mkdtemp(prefix='tests-')}/server")
    listener.listen()
    print(listener.getsockname(), flush=True)  # noqa: T201
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    pytest.main([*sys.argv[1:-1], "-n0", "--collect-only"], plugins=[_Imported()])
    # The first example reads the constants of all our modules. pytest is to import it first.
    from hypothesis import given, strategies

    @given(strategies.text() | strategies.integers())
    def draw(_: object) -> None:
        """Nothing is made of it."""

    draw()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started it ends it
    report: dict[str, Any] = {"variables": {}, "read": [], "modules": [], "path": []}
    # Whose pytest is gone ends in order, with the servers that it has started.
    processes.serve(listener, json.dumps(report).encode(), ends_forks=False)
