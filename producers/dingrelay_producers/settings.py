"""Every setting with its default, checked before anything starts."""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dingrelay_tasks.contract import SenderName

DEFAULT_APP = "default"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
EMBEDDED_REDIS = "redis://127.0.0.1:6379/0"
DEFAULT_DATABASE = "sqlite:///dingrelay.db"


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the variable and never its value."""


class AppSettings(BaseModel):
    """One DingTalk application.

    The secret comes from the environment only: ``DINGTALK_APP_SECRET`` for the app ``default``,
    ``DINGTALK_APP_SECRET_<NAME>`` for another, or either with ``_FILE`` for a file that holds it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_key: SecretStr = SecretStr("")
    app_secret: SecretStr = SecretStr("")
    agent_id: str = ""
    organisation: str = "default"
    """Apps of one organisation share its monthly quota."""

    @property
    def credentials(self) -> str:
        """A digest that tells this key and secret from any others."""
        pair = f"{self.app_key.get_secret_value()}\n{self.app_secret.get_secret_value()}"
        return hashlib.sha256(pair.encode()).hexdigest()[:16]


class QuotaSettings(BaseModel):
    """The organisation's monthly calls (API §6)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    edition: str = ""
    """``standard`` (5,000), ``professional`` (200,000), a number, or empty: count and show only."""

    @property
    def monthly_calls(self) -> int | None:
        """The number of calls a month, or None for no limit."""
        named = {"": None, "standard": 5_000, "professional": 200_000}
        return named[self.edition] if self.edition in named else int(self.edition)

    @field_validator("edition")
    @classmethod
    def _known_edition(cls, edition: str) -> str:
        if edition not in {"", "standard", "professional"} and not edition.isdecimal():
            raise ValueError("must be standard, professional, a number of calls, or empty")
        return edition


Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """The whole configuration, frozen.

    Sources, first one wins: keyword arguments, the environment, `.env`, the TOML file that
    ``DINGRELAY_CONFIG`` names.
    """

    model_config = SettingsConfigDict(
        env_prefix="DINGRELAY_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    env: Literal["sandbox", "test", "production"] = "production"
    """Where this runs. Nothing in production falls back to a sandbox or embedded part."""
    redis_url: SecretStr = SecretStr("")
    """Redis or Valkey that holds job records and limits; required in production."""
    broker_url: SecretStr = SecretStr("")
    """Celery's broker; the Redis URL when empty. amqp:// works too."""
    database_url: SecretStr = SecretStr(DEFAULT_DATABASE)
    """The SQL directory: sqlite:///FILE or postgresql://…"""
    oapi_url: str = Field("https://oapi.dingtalk.com", validation_alias="DINGTALK_OAPI_URL")
    """Host of the old dialect (API §0)."""
    api_url: str = Field("https://api.dingtalk.com", validation_alias="DINGTALK_API_URL")
    """Host of the new dialect (API §0)."""
    contacts_api: Literal["v2", "v1"] = Field("v2", validation_alias="DINGTALK_CONTACTS_API")
    approval_api: Literal["v1.0", "topapi"] = Field(
        "v1.0", validation_alias="DINGTALK_APPROVAL_API"
    )
    token_api: Literal["oapi", "v1.0"] = Field("oapi", validation_alias="DINGTALK_TOKEN_API")

    apps: dict[str, AppSettings] = Field(default_factory=dict)
    """DingTalk applications by name; `default` also comes from DINGTALK_APP_KEY and its kin."""
    rules: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Overrides of the limits: api or ``*`` → unit → ``limit/window``; an empty string lifts one."""
    quota: QuotaSettings = QuotaSettings()
    codes: dict[str, str] = Field(default_factory=dict)
    """Overrides of the error table: DingTalk's code → class."""
    egress: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "default"
    """Name of the IP address the workers call from; workers behind one address share the name."""

    sender: SenderName = ""
    """Who asks, for jobs that don't say; senders of a lane share its rate evenly."""
    max_attempts: Annotated[int, Field(ge=1)] = 8
    """Attempts before a job that keeps failing is dead."""
    max_throttles: Annotated[int, Field(ge=1)] = 200
    """Throttling answers before a job is dead."""
    max_deliveries: Annotated[int, Field(ge=1)] = 3
    """Workers a job may take down before it is dead as poison."""
    lease: Seconds = 30
    """Seconds a running job belongs to its worker without a renewal."""
    presence_timeout: Seconds = 6
    """Seconds without a sign of life after which a worker counts as gone, and its jobs are free."""
    wake_grace: Seconds = 30
    """Seconds after which a wake-up that others have overtaken counts as lost."""
    max_wait: Seconds = 5
    """Seconds a job may wait for a limit in the worker before it is parked."""
    job_timeout: Seconds = 300
    """Seconds one run of a job may take."""
    call_timeout: Seconds = 15
    """Seconds to wait for DingTalk's answer."""
    soft_shutdown: Seconds = 25
    """Seconds a stopping worker gives its running jobs."""
    settle_delay: Seconds = 10
    """Seconds after which an approval that can't be found is known not to exist."""
    refresh_margin: Seconds = 600
    """Seconds before its expiry at which a token is refreshed."""
    token_circuit: Seconds = 60
    """Seconds between two tries of an app that is held: one call of the whole fleet."""
    max_age: Seconds = 86_400
    """Seconds after which a job is dead that only waits for the end of an outage or a hold."""
    record_ttl: Seconds = 7 * 86_400
    """Seconds a settled job's record is kept."""
    dead_ttl: Seconds = 30 * 86_400
    """Seconds a dead job's record is kept."""
    removal_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the people that one user-sync may mark as left without confirmation."""
    gateway_host: str = "127.0.0.1"
    """Address on which the gateway listens."""
    gateway_port: Annotated[int, Field(ge=0, le=65_535)] = 8610
    """Port on which the gateway listens; 0 takes a free one."""
    gateway_body_timeout: Seconds = 10
    """Seconds in which a request's body must arrive; of a stream, each piece of it."""
    gateway_shutdown: Seconds = 10
    """Seconds a stopping gateway gives the requests under way."""
    gateway_robots: bool = True
    """Whether the drop-in door posts to robots of groups, for whoever has a robot's token."""
    gateway_queue_limit: Annotated[int, Field(ge=0)] = 200_000
    """Jobs that wait in a lane's queue, beyond which HTTP accepts no more of it; 0 for no limit."""
    gateway_idempotency_ttl: Seconds = 86_400
    """Seconds for which an Idempotency-Key is remembered."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of a worker's Prometheus metrics; 0 for none."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """JSON lines, or coloured text; auto: text in a terminal."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    flower_user: str = ""
    flower_password: SecretStr = SecretStr("")
    """Flower's basic authentication; required outside the sandbox."""

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """The settings from all sources.

        Raises:
            SettingsError: names the variable that is missing or wrong.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            # The checks over several fields name the variable in their message.
            named = message if not first["loc"] else f"{_variable(first['loc'])}: {message}"
            raise SettingsError(named) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Our order of sources: arguments, environment, secret files, `.env`, TOML."""
        return (
            init_settings,
            AppsSource(settings_cls),
            env_settings,
            SecretFilesSource(settings_cls),
            dotenv_settings,
            TomlSource(settings_cls),
        )

    @model_validator(mode="after")
    def _fits_its_environment(self) -> Self:
        if self.env == "production" and not self.redis_url.get_secret_value():
            raise ValueError("DINGRELAY_REDIS_URL: required in production")
        if not self.redis.startswith(REDIS_SCHEMES):
            schemes = ", ".join(REDIS_SCHEMES)
            raise ValueError(f"DINGRELAY_REDIS_URL: must begin with one of {schemes}")
        for variable, url in (
            ("DINGRELAY_REDIS_URL", self.redis),
            ("DINGRELAY_BROKER_URL", self.broker),
        ):
            _check_port(variable, url)
        for variable, url in (
            ("DINGTALK_OAPI_URL", self.oapi_url),
            ("DINGTALK_API_URL", self.api_url),
        ):
            _check_dingtalk_url(variable, url, sandbox=self.env != "production")
        _check_app_keys(self.apps)
        if not self.database.startswith(("sqlite:", "postgresql:")):
            raise ValueError("DINGRELAY_DATABASE_URL: must begin with sqlite: or postgresql:")
        return self

    @cached_property
    def redis(self) -> str:
        """The URL of the Redis that holds records and limits."""
        return self.redis_url.get_secret_value() or EMBEDDED_REDIS

    @cached_property
    def broker(self) -> str:
        """The URL of Celery's broker."""
        return self.broker_url.get_secret_value() or self.redis

    @cached_property
    def database(self) -> str:
        """The URL of the SQL directory."""
        return self.database_url.get_secret_value()

    def app(self, name: str) -> AppSettings:
        """The app of that name.

        Raises:
            SettingsError: there is none, or its key or secret is missing.
        """
        found = self.apps.get(name)
        if found is None:
            raise SettingsError(f"apps.{name}: no such app is configured")
        suffix = "" if name == DEFAULT_APP else f"_{name.upper()}"
        for variable, value in (("KEY", found.app_key), ("SECRET", found.app_secret)):
            if not value.get_secret_value():
                raise SettingsError(f"DINGTALK_APP_{variable}{suffix}: required")
        return found


class AppsSource(PydanticBaseSettingsSource):
    """The apps' keys, secrets and agent ids from ``DINGTALK_*`` in the environment or `.env`."""

    PATTERN = re.compile(r"DINGTALK_(APP_KEY|APP_SECRET|AGENT_ID)(?:_([A-Z0-9_]+))?")

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        apps: dict[str, dict[str, str]] = {}
        for variable, value in {**dotenv_values(".env"), **os.environ}.items():
            match = self.PATTERN.fullmatch(variable.removesuffix("_FILE"))
            if match and value:
                part, name = match.groups()
                text = _read_secret(variable, value) if variable.endswith("_FILE") else value
                apps.setdefault((name or DEFAULT_APP).lower(), {})[part.lower()] = text
        return {"apps": apps} if apps else {}


class SecretFilesSource(PydanticBaseSettingsSource):
    """``DINGRELAY_X_FILE`` for each secret setting ``DINGRELAY_X``: a file that holds it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            variable = f"DINGRELAY_{name.upper()}_FILE"
            if field.annotation is SecretStr and (path := os.environ.get(variable)):
                found[name] = _read_secret(variable, path)
        return found


class TomlSource(PydanticBaseSettingsSource):
    """The TOML file that ``DINGRELAY_CONFIG`` names. It may not hold secrets."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        path = os.environ.get("DINGRELAY_CONFIG")
        if not path:
            return {}
        try:
            content = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"DINGRELAY_CONFIG: {type(error).__name__}: {error}") from None
        for name, app in content.get("apps", {}).items():
            if "app_secret" in app:
                raise SettingsError(
                    f"apps.{name}.app_secret: secrets come from the environment only"
                )
        unknown = sorted(content.keys() - self.settings_cls.model_fields.keys())
        if unknown:
            raise SettingsError(f"{unknown[0]}: no such setting (in DINGRELAY_CONFIG)")
        return content


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {error.strerror}") from None


def _check_dingtalk_url(variable: str, url: str, *, sandbox: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{variable}: must be an http or https URL")
    if parts.scheme == "http" and not (sandbox and parts.hostname in LOOPBACK):
        raise ValueError(f"{variable}: plain http is for loopback in the sandbox only")


def _check_port(variable: str, url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError:
        # Python's own message quotes the URL, which may hold a password.
        raise ValueError(f"{variable}: the port is no number from 0 to 65535") from None


def _check_app_keys(apps: Mapping[str, AppSettings]) -> None:
    """DingTalk counts by app key, and limits, daily limits and token are kept by the app's name."""
    names: dict[str, str] = {}
    for name, app in sorted(apps.items()):
        key = app.app_key.get_secret_value()
        if key and key in names:
            raise ValueError(f"apps.{name}.app_key: is that of apps.{names[key]}; name an app once")
        names[key] = name


def _variable(location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    head = str(location[0])
    if len(location) > 1:
        return ".".join(str(step) for step in location)
    return head if head.startswith("DINGTALK_") else f"DINGRELAY_{head.upper()}"
