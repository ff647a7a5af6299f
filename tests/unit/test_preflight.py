"""A worker in production needs its applications; one in a sandbox does not."""

import pytest
from pydantic import SecretStr

from dingrelay_producers.settings import AppSettings, Settings, SettingsError
from dingrelay_workers import preflight

REDIS = SecretStr("redis://127.0.0.1:6379/0")


@pytest.mark.parametrize(
    ("apps", "error"),
    [
        ({}, "no DingTalk application is configured"),
        ({"default": AppSettings(app_key=SecretStr("k"))}, "DINGTALK_APP_SECRET is required"),
        ({"hr": AppSettings(app_secret=SecretStr("s"))}, "DINGTALK_APP_KEY_HR is required"),
    ],
)
def test_a_worker_in_production_names_what_is_missing(
    apps: dict[str, AppSettings], error: str
) -> None:
    settings = Settings(env="production", redis_url=REDIS, apps=apps)
    with pytest.raises(SettingsError, match=error):
        preflight.check_apps(settings)
    preflight.check_apps(settings.model_copy(update={"env": "sandbox"}))


def test_a_worker_with_all_of_it_starts() -> None:
    app = AppSettings(app_key=SecretStr("k"), app_secret=SecretStr("s"))
    preflight.check_apps(Settings(env="production", redis_url=REDIS, apps={"default": app}))
