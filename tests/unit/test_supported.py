"""Refusals at a start: a release without a name that is used, an old Redis, production without an application."""

from pathlib import Path

import pytest
from celery.worker import request
from kombu.transport import redis as kombu_redis
from pydantic import SecretStr

from dingrelay_producers.settings import AppSettings, Settings, SettingsError
from dingrelay_workers import preflight
from dingrelay_workers.celery_worker import consumer, pool, supported, transport
from dingrelay_workers.doctor import redis_server
from support.command_line import Cli, in_folder


def test_the_installed_releases_have_it_all() -> None:
    supported.check()


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (kombu_redis.Channel, "pool", "kombu.transport.redis.Channel.pool"),
        (request, "Request", "celery.worker.request.Request."),
    ],
)
def test_missing_names_are_shown_with_the_versions_that_have_them(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, expected: str
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(SettingsError) as raised:
        supported.check()
    line = str(raised.value)
    assert "\n" not in line
    assert expected in line
    assert "celery<5.8,>=5.7" in line
    assert "kombu 5.7" in line


def test_an_attribute_of_instances_is_looked_for_in_the_methods() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supported, "NAMES", {"kombu.transport.redis": ["Channel()._not_there"]})
        with pytest.raises(SettingsError, match="_not_there"):
            supported.check()


DOCUMENTED = {
    # What kombu's guide has transports of one's own override, in channels, transports and their QoS.
    *("QoS", "ack", "append", "reject", "restore_visible", "basic_cancel", "close", "Channel"),
    "Message",
    *("register_with_event_loop", "close_connection"),
    *("connection_class", "connection_class_ssl", "from_transport_options"),
    # Pools.
    *("grow", "shrink"),
}


def test_overridden_names_are_in_the_table() -> None:
    known = {name.rpartition(".")[2] for names in supported.NAMES.values() for name in names}
    for ours in (
        transport.QoS,
        transport.TakingChannel,
        transport.TakingTransport,
        transport.SentinelTakingChannel,
        consumer.Consumer,
        pool.JobPool,
        pool.JobRequest,
    ):
        mixed_in = [kind for kind in ours.__mro__ if kind.__module__.startswith("dingrelay")]
        base = next(kind for kind in ours.__mro__[1:] if kind not in mixed_in)
        for kind in mixed_in:
            overridden = {
                name for name in vars(kind) if not name.startswith("__") and hasattr(base, name)
            }
            assert overridden - known - DOCUMENTED == set(), kind


def test_a_command_shows_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cli: Cli = in_folder(monkeypatch, tmp_path_factory.mktemp("here"), {"DINGRELAY_ENV": "sandbox"})
    monkeypatch.delattr(kombu_redis.Channel, "pool")
    refused = cli("worker")
    assert refused.exit_code == 2
    assert "Channel.pool is missing" in refused.stderr
    assert "Traceback" not in refused.output


GUIDES = [
    Path(__file__).parents[2] / "docs/guide" / page
    for page in ("operating.md", "zh-CN/operating.md")
]


@pytest.mark.parametrize(
    ("info", "verdict", "found"),
    [
        ({"redis_version": "6.2.14"}, "failed", "Redis 6.2.14"),
        ({"redis_version": "7.2.4"}, "ok", "Redis 7.2.4"),
        ({"redis_version": "8.0.2"}, "ok", "Redis 8.0.2"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.1"}, "ok", "Valkey 8.1.1"),
    ],
)
def test_a_missing_command_is_refused(info: dict[str, str], verdict: str, found: str) -> None:
    result = redis_server.check_version(info)
    assert (result.verdict, result.found) == (verdict, found)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.parent.name)
def test_the_guide_names_the_oldest(page: Path) -> None:
    oldest = ".".join(map(str, redis_server.OLDEST))
    assert f"| Redis {oldest} " in page.read_text("utf-8")


REDIS = SecretStr("redis://127.0.0.1:6379/0")


@pytest.mark.parametrize(
    ("apps", "error"),
    [
        ({}, "no DingTalk application is configured"),
        (
            {"default": AppSettings.model_validate({"app_key": "k"})},
            "DINGTALK_APP_SECRET is required",
        ),
        (
            {"hr": AppSettings.model_validate({"app_secret": "s"})},
            "DINGTALK_APP_KEY_HR is required",
        ),
    ],
)
def test_production_names_what_is_missing(apps: dict[str, AppSettings], error: str) -> None:
    settings = Settings(env="production", redis_url=REDIS, apps=apps)
    with pytest.raises(SettingsError, match=error):
        preflight.check_apps(settings)
    preflight.check_apps(settings.model_copy(update={"env": "sandbox"}))


def test_a_worker_with_all_of_it_starts() -> None:
    app = AppSettings.model_validate({"app_key": "k", "app_secret": "s"})
    preflight.check_apps(Settings(env="production", redis_url=REDIS, apps={"default": app}))
