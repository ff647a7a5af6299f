"""Order of the tests: the long ones first, so that all test processes end together.

`--dist worksteal` gives each process a stretch of the list, and who is done takes from the ends of
the others' stretches. So the long tests are dealt to the stretches, and each starts with its
longest: what is left to take in the end is short.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

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


def processes() -> int:
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
