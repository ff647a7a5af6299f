"""A fleet of real workers on a real Valkey and the sandbox, searched for secrets after each test."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from acceptance.fleet import Fleet, records_text, settings_of
from acceptance.gateway_process import GatewayProcess
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from support.databases import postgres_database, postgres_server, postgres_url, prepare

__all__ = ["postgres_database", "postgres_server", "postgres_url"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "acceptance" in item.path.parts:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture
def fleet(sandbox_env: dict[str, str], sandbox: SandboxAdmin, tmp_path: Path) -> Iterator[Fleet]:
    """No worker yet; those that a test starts are stopped and their traces searched."""
    prepare(sandbox_env["DINGRELAY_DATABASE_URL"])
    fleet = Fleet(sandbox_env, tmp_path)
    yield fleet
    fleet.stop()
    traces = fleet.logs() + records_text(sandbox_env["DINGRELAY_REDIS_URL"])
    secrets = [*sandbox.tokens(), sandbox_env["DINGTALK_APP_SECRET"]]
    assert not [secret for secret in secrets if secret in traces]


@pytest.fixture
def gateway(fleet: Fleet, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway, which a test may kill and replace."""
    with closing(GatewayProcess(fleet, tmp_path)) as gateway:
        yield gateway


@pytest.fixture
def client(sandbox_env: dict[str, str]) -> Iterator[Client]:
    with Client(settings_of(sandbox_env)) as client:
        yield client


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Redis]:
    """The Valkey of the workers, for a look at the records."""
    with Redis.from_url(valkey_url) as valkey:
        yield valkey
