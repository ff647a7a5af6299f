"""One access token for a whole fleet: fetched once, replaced once, and never hammered for."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from acceptance import traffic
from acceptance.fleet import Fleet, records_text, states, statuses, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_sync
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend
from support.jobs import message

TOKEN_PATHS = {"oapi": "/gettoken", "v1.0": "/v1.0/oauth2/accessToken"}


@pytest.fixture
def send(client: Client) -> Callable[[int], list[str]]:
    """Enqueue so many messages, each with a text of its own; their ids."""
    numbers = count(1)

    def jobs(amount: int) -> Iterator[MessageSend]:
        for _ in range(amount):
            yield message(text=f"第{next(numbers)}条")

    def send(amount: int) -> list[str]:
        return traffic.send_all(client, jobs(amount))

    return send


def token_calls(sandbox: SandboxAdmin) -> dict[str, int]:
    """Verdict → calls of either token API."""
    verdicts: dict[str, int] = {}
    for path in TOKEN_PATHS.values():
        for verdict, calls in sandbox.audit()["calls"].get(path, {}).items():
            verdicts[verdict] = verdicts.get(verdict, 0) + calls
    return verdicts


def test_wrong_credentials_are_tried_once_a_minute_while_jobs_wait_and_say_why(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    send: Callable[[int], list[str]],
) -> None:
    fleet.spawn(2, concurrency=4, DINGTALK_APP_SECRET="wrong-secret")
    ids: list[str] = []
    for _ in range(4):
        ids += send(10)
        wait_until(lambda: set(states(client, ids)) == {State.SNOOZED}, what="all wait")  # noqa: B023
    assert token_calls(sandbox) == {"error": 1}
    for status in statuses(client, ids[:10]):
        assert status.attempts == 0
        assert (status.error.error_class, status.error.code) == ("credentials", "40096")
        assert "DINGTALK_APP_SECRET" in status.error.hint
    assert "wrong-secret" not in fleet.logs()

    fleet.stop()
    fleet.spawn(1, concurrency=4)
    ended = wait_for_ends(client, ids, timeout=30)
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}, ended
    assert token_calls(sandbox) == {"error": 1, "ok": 1}


def test_a_secret_is_rotated_while_the_workers_run(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    sandbox_env: dict[str, str],
    send: Callable[[int], list[str]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "app_secret"
    file.write_text(fleet.env.pop("DINGTALK_APP_SECRET"))
    fleet.spawn(2, concurrency=4, DINGTALK_APP_SECRET_FILE=str(file))
    wait_for_ends(client, send(10), timeout=60)
    sandbox.change_secret("sandbox-key", "the-rotated-secret")
    sandbox.revoke_tokens()
    held = send(20)
    wait_until(lambda: set(states(client, held)) == {State.SNOOZED}, what="all wait")
    file.write_text("the-rotated-secret\n")
    ended = wait_for_ends(client, held, timeout=30)
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}
    assert token_calls(sandbox) == {"ok": 2, "error": 1}
    with open_sync(RedisAddress.parse(sandbox_env["DINGRELAY_REDIS_URL"])) as redis:
        assert redis.zcard(keys.BREAKERS) == 0, "the app is not held for the fleet"
    logs = fleet.logs()
    assert "secrets_renewed" in logs
    assert "the-rotated-secret" not in logs
    assert "sandbox-secret" not in logs
    assert "the-rotated-secret" not in records_text(sandbox_env["DINGRELAY_REDIS_URL"])
