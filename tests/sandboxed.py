"""Settings and variables for processes that use the sandbox in place of DingTalk."""

from typing import Any

from dingrelay_producers.settings import AppSettings, Settings

APP = {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"}


def sandbox_settings(
    url: str, redis_url: str, *, secret: str = APP["app_secret"], **fields: Any
) -> Settings:
    """Settings of the sandbox's first app; the fields replace those set here."""
    app = AppSettings.model_validate({**APP, "app_secret": secret})
    given = {"env": "sandbox", "redis_url": redis_url, "apps": {"default": app}}
    return Settings.load(**given | {"DINGTALK_OAPI_URL": url, "DINGTALK_API_URL": url} | fields)


def sandbox_variables(url: str, redis_url: str, database_url: str, **more: str) -> dict[str, str]:
    """The same for a process of its own."""
    return {
        "DINGRELAY_ENV": "sandbox",
        "DINGRELAY_REDIS_URL": redis_url,
        "DINGRELAY_DATABASE_URL": database_url,
        "DINGTALK_OAPI_URL": url,
        "DINGTALK_API_URL": url,
        **{f"DINGTALK_{name.upper()}": value for name, value in APP.items()},
        **more,
    }
