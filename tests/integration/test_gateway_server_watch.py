"""A gateway reports servers as away, not tables that its own start is still making."""

import asyncio

import pytest

from conftest import wait_until
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.gateway import health
from support.gateways import MemoryBackend, gateway_thread


class Migrating(MemoryBackend):
    """A backend whose tables are made while the gateway starts."""

    def __init__(self) -> None:
        super().__init__()
        self.has_tables = False
        self.looks: list[bool] = []

    async def settle(self) -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)
        self.has_tables = True

    async def check(self) -> None:
        self.looks.append(self.has_tables)
        if not self.has_tables:
            raise ServiceUnavailable("the database has no tables yet")


def test_a_start_reports_no_outage(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "EVERY", 0.05)
    backend = Migrating()
    with gateway_thread(Settings.load(env="sandbox", redis_url=valkey_url), backend) as gateway:
        wait_until(lambda: len(backend.looks) > 1)
        assert all(backend.looks)
        assert 'dingrelay_gateway_server_away{server="database"} 0.0' in gateway.metrics()
