from pathlib import Path

import pytest

from dingrelay_producers import Settings, SettingsError
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.language import CHINESE, translated
from dingrelay_producers.settings import sources
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_workers import preflight
from dingrelay_workers.flower.server import management_api

PRODUCTION = {
    "DINGRELAY_REDIS_URL": "redis://:s3cret@redis.internal:6379/0",
    "DINGTALK_APP_KEY": "key",
    "DINGTALK_APP_SECRET": "s3cret",
    "DINGTALK_AGENT_ID": "42",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env of the developer's counts."""
    monkeypatch.chdir(tmp_path)


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_environment_is_enough_for_one_app(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **PRODUCTION)
    settings = Settings.load()
    assert settings.env == "production"
    app = CurrentApps(settings).app("default")
    assert (app.app_key.get_secret_value(), app.agent_id) == ("key", "42")
    assert settings.broker == settings.redis == PRODUCTION["DINGRELAY_REDIS_URL"]
    assert settings.oapi_url == "https://oapi.dingtalk.com"


def test_no_secret_shows_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **PRODUCTION)
    settings = Settings.load()
    assert "s3cret" not in repr(settings) + repr(settings.apps) + str(settings)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "DINGRELAY_REDIS_URL"),
        ({"DINGRELAY_ENV": "live"}, "DINGRELAY_ENV"),
        ({**PRODUCTION, "DINGRELAY_LEASE": "-1"}, "DINGRELAY_LEASE"),
        ({**PRODUCTION, "DINGRELAY_RETRY_FOR": "long"}, "DINGRELAY_RETRY_FOR"),
        ({**PRODUCTION, "DINGTALK_OAPI_URL": "http://oapi.dingtalk.com"}, "DINGTALK_OAPI_URL"),
        ({**PRODUCTION, "DINGTALK_API_URL": "http://127.0.0.1:1"}, "DINGTALK_API_URL"),
        ({**PRODUCTION, "DINGTALK_CONTACTS_API": "v9"}, "DINGTALK_CONTACTS_API"),
        ({**PRODUCTION, "DINGTALK_API_URL": "https://[::1"}, "DINGTALK_API_URL"),
        ({**PRODUCTION, "DINGRELAY_CONSOLE_URL": "https://[::1"}, "DINGRELAY_CONSOLE_URL"),
        ({**PRODUCTION, "DINGRELAY_TIMEZONE": "Mars/Base"}, "DINGRELAY_TIMEZONE"),
        ({**PRODUCTION, "DINGRELAY_RECORD_TTL": "inf"}, "DINGRELAY_RECORD_TTL"),
        ({**PRODUCTION, "DINGRELAY_APPS": '{"a b": {}}'}, r"apps\.a b"),
        ({**PRODUCTION, "DINGRELAY_DATABASE_URL": "mysql://x"}, "DINGRELAY_DATABASE_URL"),
        ({**PRODUCTION, "DINGRELAY_CONFIG": "/nowhere.toml"}, "DINGRELAY_CONFIG"),
        ({**PRODUCTION, "DINGTALK_APP_SECRET_FILE": "/nowhere"}, "DINGTALK_APP_SECRET_FILE"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    given(monkeypatch, **variables)
    with pytest.raises(SettingsError, match=named) as caught:
        preflight.check(Settings.load())
    assert "s3cret" not in str(caught.value)


def test_plain_http_is_for_loopback_in_the_sandbox_only(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:8601"
    given(monkeypatch, DINGRELAY_ENV="sandbox", DINGTALK_OAPI_URL=url, DINGTALK_API_URL=url)
    assert Settings.load().oapi_url == url
    given(monkeypatch, DINGTALK_OAPI_URL="http://dingtalk.example")
    with pytest.raises(SettingsError, match="DINGTALK_OAPI_URL"):
        Settings.load()


def test_a_setting_of_0_2_0_that_is_no_more_is_named_once_in_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources.warn_of_gone.cache_clear()
    config = tmp_path / "dingrelay.toml"
    config.write_text("max_attempts = 12\n")
    given(monkeypatch, **PRODUCTION, DINGRELAY_CONFIG=str(config), DINGRELAY_WAKE_GRACE="3")
    for _ in range(2):
        Settings.load()
    first, second = sorted(record.getMessage() for record in caplog.records)
    assert first.startswith("DINGRELAY_CONFIG: max_attempts is no setting any more: ")
    assert (
        second
        == "DINGRELAY_WAKE_GRACE: wake_grace is no setting any more: it is DINGRELAY_LEASE, too"
    )


def test_what_is_no_setting_is_named_as_its_file_spells_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "dingrelay.toml"
    given(monkeypatch, **PRODUCTION, DINGRELAY_CONFIG=str(config))
    for content, line in (("[console]\nx = 1\n", "[console]"), ("data = 1\n", "data =")):
        config.write_text(content)
        with pytest.raises(SettingsError) as caught:
            Settings.load()
        said = translated(caught.value.args[0], CHINESE)
        assert said == f"{line}：没有这个配置项（DINGRELAY_CONFIG 所指的 {config}）"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of a deployment name variables that may be set: they must not hide the TOML file's."""
    config = tmp_path / "dingrelay.toml"
    config.write_text('console_url = "https://relay.example.com"\n')
    empty = dict.fromkeys(("DINGRELAY_CONSOLE_URL", "DINGTALK_CALLBACK_TOKEN", "HTTPS_PROXY"), "")
    given(monkeypatch, **PRODUCTION, **empty, DINGRELAY_CONFIG=str(config))
    assert Settings.load().console_url == "https://relay.example.com"
    assert proxy_for("https://api.dingtalk.com/") is None


def test_secrets_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file\n")
    (tmp_path / "redis").write_text("redis://elsewhere:6379/1\n")
    given(
        monkeypatch,
        DINGTALK_APP_KEY="key",
        DINGTALK_APP_SECRET_FILE=str(tmp_path / "secret"),
        DINGRELAY_REDIS_URL_FILE=str(tmp_path / "redis"),
    )
    settings = Settings.load()
    assert CurrentApps(settings).app("default").app_secret.get_secret_value() == "from-a-file"
    assert settings.redis == "redis://elsewhere:6379/1"


def test_a_file_has_apps_and_env_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "dingrelay.toml"
    config.write_text(
        """
        max_wait = 3
        [apps.default]
        agent_id = "4242"
        [apps.sales]
        app_key = "sales-key"
        agent_id = "4343"
        [rules."message.send"]
        recipients = "3000/60s"
        [quota]
        edition = "standard"
        [codes]
        43004 = "throttled"
        """
    )
    given(
        monkeypatch,
        **PRODUCTION,
        DINGRELAY_CONFIG=str(config),
        DINGTALK_APP_SECRET_SALES="sales-secret",
    )
    settings = Settings.load()
    assert settings.app("default").agent_id == "42", "the environment goes first"
    sales = CurrentApps(settings).app("sales")
    assert (sales.agent_id, sales.app_secret.get_secret_value()) == ("4343", "sales-secret")
    assert settings.rules == {"message.send": {"recipients": "3000/60s"}}
    assert settings.quota.monthly_calls == 5000
    assert settings.codes == {"43004": "throttled"}
    assert settings.max_wait == 3
    with pytest.raises(SettingsError, match=r"apps\.stranger"):
        settings.app("stranger")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[apps.default]\napp_secret = "s3cret"', r"apps\.default\.app_secret"),
        ("[apps.default]\nagent = 1", r"apps\.default\.agent"),
        ("apps = 3", "apps"),
        ("[robots]\noncall = 1", "robots"),
        ("[approvals]\nlooks = [1e300]", r"approvals\.looks\.0"),
        ("[rulez]", "rulez"),
        ('[quota]\nedition = "gold"', r"quota\.edition"),
        ("not toml", "DINGRELAY_CONFIG"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, named: str
) -> None:
    config = tmp_path / "dingrelay.toml"
    config.write_text(text)
    given(monkeypatch, **PRODUCTION, DINGRELAY_CONFIG=str(config))
    with pytest.raises(SettingsError, match=named) as caught:
        Settings.load()
    assert "s3cret" not in str(caught.value)


def test_a_missing_secret_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, DINGRELAY_ENV="sandbox", DINGTALK_APP_KEY_HR="k", DINGTALK_AGENT_ID_HR="1")
    with pytest.raises(SettingsError, match="DINGTALK_APP_SECRET_HR"):
        Settings.load().app("hr")


def test_an_app_key_belongs_to_one_app(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **PRODUCTION, DINGTALK_APP_KEY_SALES="key", DINGTALK_APP_SECRET_SALES="s")
    with pytest.raises(SettingsError, match=r"apps\.sales\.app_key: is that of apps\.default"):
        Settings.load()


@pytest.mark.parametrize(
    "url",
    [
        "rabbit:15672",
        "amqp://user:s3cret@rabbit",
        "http://user:s3cret@rabbit:x/",
        "http://u:s3cret@h/?a=b",
    ],
)
def test_a_management_api_is_a_url_and_is_never_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_FLOWER_BROKER_API: must be like") as refused:
        Settings.load(env="sandbox", flower_broker_api=url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/"])
def test_flower_is_given_the_management_api_with_its_path(path: str) -> None:
    def given(url: str) -> str | None:
        return management_api(Settings.load(env="sandbox", flower_broker_api=url))

    assert given(f"https://u:p@rabbit:15671{path}") == "https://u:p@rabbit:15671/api/"
    assert given("https://rabbit/behind/api") == "https://rabbit/behind/api/"
    assert given("") is None
