"""``dingrelay campaign start|pause|resume|cancel|watch`` on a real database and Valkey."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

import campaigns
from cli_runner import Cli
from dingrelay_producers.store import keys
from dingrelay_workers.campaigns import cli_pages as watch
from dingrelay_workers.campaigns.models import State
from tables import prepare


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    prepare(variables["DINGRELAY_DATABASE_URL"])
    return variables


def a_campaign(cli: Cli, **fields: Any) -> str:
    return str(cli.in_database(lambda database: campaigns.put(database, **fields)))


def test_a_campaign_is_run_and_cancelled(cli: Cli, valkey_url: str) -> None:
    campaign = a_campaign(cli, state=State.DRAFT)
    signals: set[bytes | None] = set()
    states = {"start": "running", "pause": "paused", "resume": "running", "cancel": "cancelled"}
    for command, state in states.items():
        assert cli.json("campaign", command, campaign) == {"id": campaign, "state": state}
        with Redis.from_url(valkey_url) as redis:
            signals.add(redis.get(keys.CAMPAIGNS))
    assert (len(signals), None in signals) == (4, False)
    assert "is cancelled" in cli.refused("campaign", "resume", campaign)


def test_what_does_not_exist_is_named(cli: Cli) -> None:
    for command in (["start"], ["show", "--watch"]):
        assert "no campaign none" in cli.refused("campaign", *command, "none")


def test_redis_away_is_reported_with_the_state_changed(cli: Cli) -> None:
    campaign = a_campaign(cli, state=State.DRAFT)
    cli.variables["DINGRELAY_REDIS_URL"] = "redis://127.0.0.1:1/0"
    assert cli.refused("campaign", "start", campaign, code=3)


def test_watch_ends_with_the_campaign(cli: Cli) -> None:
    ended = {"recipients": 4, "accepted": 3, "failed": 1, "settled": 2, "calls": 2}
    campaign = a_campaign(cli, state=State.DONE, **ended)
    (line,) = cli.shown("campaign", "show", "--watch", campaign, "--json").splitlines()
    looked = {"id": campaign, "state": "done", "accepted": 3, "failed": 1, "seconds_left": None}
    assert json.loads(line).items() >= looked.items()
    (shown,) = cli("campaign", "show", "--watch", campaign).output.splitlines()
    assert shown.startswith("done, 4 of 4 people")
    assert "3 accepted, 0 left out, 1 failed" in shown


async def test_watch_prints_lines_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each change of state, and of progress one each ten seconds."""
    clock = count(0.0, 4.0)
    monkeypatch.setattr("dingrelay_workers.campaigns.cli_pages.time.monotonic", clock.__next__)
    base = {"recipients": 9, "left_out": 0, "failed": 0, "calls": 1, "throttles": 0, "rate": 2.0}
    base |= {"reason": "", "waits": ""}
    seen = [
        ("running", 0, None),
        ("running", 1, 4),
        ("running", 2, 4),
        ("running", 3, 3),
        ("running", 3, 3),
        ("paused", 3, None),
        ("cancelled", 3, None),
    ]

    async def looks() -> AsyncGenerator[dict[str, Any], None]:
        for state, accepted, left in seen:
            yield {**base, "state": state, "accepted": accepted, "seconds_left": left}

    await watch._print_lines(looks())
    lines = capsys.readouterr().out.splitlines()
    looked = [line.partition(" of")[0] for line in lines]
    assert looked == ["running, 0", "running, 3", "paused, 3", "cancelled, 3"]
    assert "0:03 to go" in lines[1]
    assert "to go" not in lines[2] + lines[3]


async def test_a_campaign_that_does_not_run_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(("running", "running", "cancelled"))
    accepted = count(1)

    async def look(*_: object) -> dict[str, Any]:
        counts = {"recipients": 10, "accepted": next(accepted), "left_out": 0, "failed": 0}
        return {"state": next(states), **counts}

    @asynccontextmanager
    async def opened(_: object) -> AsyncGenerator[Any, None]:
        yield SimpleNamespace(database=None)

    monkeypatch.setattr(watch, "_look", look)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr("dingrelay_workers.campaigns.service.opened_store", opened)
    monkeypatch.setattr("dingrelay_workers.store.connections.impatient_redis", opened)
    settings: Any = None
    found = [each["seconds_left"] async for each in watch._looks(settings, "c")]
    assert [each is None for each in found] == [True, False, True]
