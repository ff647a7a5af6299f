"""Each person gets a campaign once, whatever becomes of the dispatchers; see `dispatchers`."""

from collections.abc import AsyncIterator

import pytest

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.jobs import outcome
from dingrelay_workers.resources import Resources
from dispatchers import DispatcherRun
from tables import prepare
from thorough import either

UNLIMITED = {"calls": "1000000/1s", "recipients": "100000000/60s"}


@pytest.fixture
async def resources(
    sandbox_env: dict[str, str],
    sandbox: SandboxAdmin,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Resources]:
    for name, value in {**sandbox_env, "DINGRELAY_DATABASE_URL": database_url}.items():
        monkeypatch.setenv(name, value)
    sandbox.set_limits(calls="1000000/1s", egress="", recipients="")
    monkeypatch.setattr(outcome, "MAX_CRASHES", 100)
    settings = Settings.load(
        lease=0.4,
        rules={"*": {"calls": "1000000/1s"}, "message.send": UNLIMITED},
    )
    prepare(database_url)
    async with Resources(settings, Publisher(settings)) as resources:
        yield resources


@pytest.mark.parametrize("seed", either([1], [1, 2, 3, 4]))
async def test_each_person_gets_it_once(
    seed: int, resources: Resources, sandbox: SandboxAdmin, database_url: str
) -> None:
    run = DispatcherRun(seed, database_url, resources, sandbox)
    faults = await run.run()
    assert not faults, f"seed {seed}: {faults}; {', '.join(run.story)}"
