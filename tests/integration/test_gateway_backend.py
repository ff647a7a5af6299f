"""The services of a gateway, on SQL and the limiter."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conftest import wait_until_async
from dingrelay_producers.enqueuing import connections
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.database import migration
from dingrelay_workers.gateway import health, services
from dingrelay_workers.http.api_keys import Grant, Rate
from dingrelay_workers.http.routes import HttpCall
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.limiter import overview


async def test_a_gateway_finds_keys_rates_and_campaigns(valkey_url: str, database_url: str) -> None:
    found = services.Services(
        Settings.load(env="sandbox", redis_url=valkey_url, database_url=database_url)
    )
    found.begin()
    await found.settle()
    await found.check()
    grant = Grant(name="crm", scopes=frozenset({"messages:write"}), rate=Rate(50, 1))
    issued = await found.of(KeyService).issue(grant)
    key = await found.of(KeyService).verify(issued.key)
    assert key is not None
    assert await found.of(KeyRates).take(key) is None
    await found.close()


async def test_limits_time_out_as_others(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url)

    async def silent(*_: object) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(overview, "read", silent)
    monkeypatch.setattr(connections, "DEADLINE", 0.05)
    call = HttpCall(cast("Any", None), cast("Any", SimpleNamespace(redis=None, settings=settings)))
    with pytest.raises(ServiceUnavailable, match="Redis cannot be reached"):
        await health.get_limits(call)


async def test_it_starts_without_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "WAIT", 0.05)
    monkeypatch.setattr(migration, "TRY_AGAIN", 0.05)
    folder = tmp_path / "later"
    found = services.Services(
        Settings.load(env="sandbox", database_url=f"sqlite:///{folder}/keys.db")
    )
    found.begin()
    await found.settle()
    with pytest.raises(ServiceUnavailable, match="has no tables yet"):
        await found.check()
    with pytest.raises(ServiceUnavailable):
        await found.of(KeyService).verify(f"drk_{'a' * 12}.x")
    folder.mkdir()

    async def ready() -> bool:
        try:
            await found.check()
        except ServiceUnavailable:
            return False
        return True

    await wait_until_async(ready)
    assert await found.of(KeyService).verify(f"drk_{'a' * 12}.x") is None
    await asyncio.gather(found.close())
