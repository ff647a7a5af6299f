"""Schemathesis over all of `openapi.json`: each operation, and from link to link, with all checks.

Some requests of each operation here; ``make schema-test`` makes some 20,000.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dingrelay_producers.settings import Settings
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import SCOPES, Grant
from dingrelay_workers.http.records import EndWatch
from dingrelay_workers.webhooks.service import WebhookService
from support.databases import prepare
from support.gateways import GatewayClient, body_seconds, gateway_thread, stored_keys

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "1"))
"""Requests of each operation and phase, and scenarios."""
PHASES = os.environ.get("SCHEMA_PHASES", "fuzzing,stateful")
"""The phase ``coverage`` alone makes 2,600 requests."""
FOLDER = Path(__file__).parent
CONFIGURATION = FOLDER / "schemathesis.toml"


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    return Settings.load(
        env="sandbox",
        redis_url=valkey_url,
        database_url=f"sqlite:///{tmp_path / 'gateway.db'}",
        gateway_queue_limit=0,
    )


@pytest.fixture
def gateway(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayClient]:
    async def at_once(
        self: EndWatch, job_id: str, seconds: float, *, until_stop: bool = False
    ) -> bool:
        return False

    # No worker runs, so no job ends, and a minute's wait would be one.
    monkeypatch.setattr(EndWatch, "wait", at_once)

    test = WebhookService.test

    async def no_answer(self: WebhookService, endpoint: str, **_: object) -> object:
        return await test(self, endpoint, within=0)

    monkeypatch.setattr(WebhookService, "test", no_answer)
    prepare(settings.database)
    with body_seconds(2), gateway_thread(settings, Services(settings)) as client:
        yield client


def run_schemathesis(url: str, folder: Path, *options: str) -> None:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
        *("--config-file", str(CONFIGURATION), "run", f"{url}/openapi.json"),
        *("--checks", "all", "--phases", PHASES, "--max-examples", str(EXAMPLES)),
        *("--suppress-health-check", "all", "--generation-database", "none", "--seed", "1"),
        *options,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    _, _, summary = done.stdout.rpartition("SUMMARY")
    print(summary)  # noqa: T201 - how many requests that were


@pytest.mark.timeout(3_000)
def test_every_answer_is_as_documented(
    gateway: GatewayClient, settings: Settings, tmp_path: Path
) -> None:
    # A caller that may change keys finds its own sooner or later, and revokes it.
    key = stored_keys(settings, [Grant(name="all", scopes=frozenset(SCOPES) - {"keys:write"})])[
        "all"
    ]
    before = psutil.Process().memory_info().rss
    run_schemathesis(gateway.url, tmp_path, f"--header=Authorization: Bearer {key}")
    assert psutil.Process().memory_info().rss - before < 100_000_000


@pytest.mark.timeout(3_000)
def test_every_answer_about_keys_is_as_documented(
    gateway: GatewayClient, settings: Settings, tmp_path: Path
) -> None:
    key = stored_keys(settings, [Grant(name="keys", scopes=frozenset({"*"}))])["keys"]
    options = ("--include-tag=keys", "--exclude-checks=positive_data_acceptance")
    run_schemathesis(gateway.url, tmp_path, f"--header=Authorization: Bearer {key}", *options)
