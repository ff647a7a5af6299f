"""Every setting with its default, checked before anything starts."""

import hashlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
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

from dingrelay_producers.cell_settings import (
    HOME,
    CellSettings,
    check_cells,
    database,
    names_of,
    owners,
    read_urls,
)
from dingrelay_producers.durations import duration
from dingrelay_producers.language import language_of
from dingrelay_producers.redis_address import HIGHEST_PORT, SCHEMES, RedisAddress, TlsFiles
from dingrelay_tasks.contract import ContractError, SenderName
from dingrelay_tasks.problems import sentence

DEFAULT_APP = "default"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")
"""Brokers that are no Redis; amqps speaks TLS."""
EMBEDDED_REDIS = "redis://127.0.0.1:6379/0"
DEFAULT_DATABASE = "sqlite:///dingrelay.db"
SHORTEST_WEBHOOK_KEY = 32
SANDBOX_WEBHOOK_KEY = "the-webhook-key-of-sandboxes-and-tests"
"""Outside production a webhook needs no setting; its secrets are then no secrets."""


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the variable and never its value."""


APP_SECRETS = ("app_secret", "callback_token", "callback_aes_key")
"""Fields of an app that come from the environment only."""

CALLBACK_TOKEN = re.compile(r"[0-9A-Za-z]{3,32}")
CALLBACK_AES_KEY = re.compile(r"[0-9A-Za-z+/]{43}")
"""As DingTalk's console makes them (API §7.1)."""


class AppSettings(BaseModel):
    """One DingTalk application.

    Secrets come from the environment only: ``DINGTALK_APP_SECRET`` for the app ``default``,
    ``DINGTALK_APP_SECRET_<NAME>`` for another, or either with ``_FILE`` for a file that holds it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_key: SecretStr = SecretStr("")
    app_secret: SecretStr = SecretStr("")
    agent_id: str = ""
    organisation: str = "default"
    """Apps of one organisation share its monthly quota."""
    corp_id: str = ""
    """The organisation's id at DingTalk; callbacks that were registered through its API end with it."""
    callback_token: SecretStr = SecretStr("")
    """Signs the events that DingTalk pushes over HTTP; empty: none are taken."""
    callback_aes_key: SecretStr = SecretStr("")
    """Encrypts them."""

    @property
    def has_callback(self) -> bool:
        """Whether events over HTTP are taken."""
        return bool(self.callback_token.get_secret_value())

    @cached_property
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


LOOKS = (600.0, 1_800.0, 7_200.0, 21_600.0)
"""Most approvals are decided within hours, and each look is one of the month's calls."""


class ApprovalSettings(BaseModel):
    """How approvals are followed after their creation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    follow: Literal["own", "all", "none"] | tuple[str, ...] = "own"
    """``own``: approvals that jobs create; ``all``: also those that people create, from their first
    event on; ``none``; or the process codes of templates of which all are followed, beside our own."""
    look_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the month's calls that may be spent on look-ups of approvals without events."""
    looks: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = LOOKS
    """Seconds without an event of an approval before its first look-up, its second …; the last one
    repeats."""


class HistorySettings(BaseModel):
    """What is kept in SQL of jobs that ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[int, Field(ge=0, le=3_650)] = 90
    """Days for which it is kept; 0: nothing is written."""
    content: bool = False
    """Whether the texts of messages are kept, too: they may be personal data."""


class RecipientSettings(BaseModel):
    """What is known of the people that messages are for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: Literal["auto", "off"] = "auto"
    """``auto``: once the directory is synced, whoever surely does not exist, or is outside the app's
    visible range, is named and not sent to; ``off``: DingTalk drops their messages without a word."""


SHORTEST_SYNC = timedelta(minutes=10)
"""A large organisation takes minutes to read, at 20 calls a second."""
LONGEST_SYNC = timedelta(days=28)
"""After 30 days without a sync the directory is not asked about recipients any more."""


SHORTEST_KEPT = timedelta(days=1)
"""What was read before somebody left is written by then, and can't bring them back."""
LONGEST_KEPT = timedelta(days=3_650)


class SyncSettings(BaseModel):
    """When the directory is synced by itself, and for how long it keeps whoever left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: str = ""
    """Length of the periods in each of which everything is read once, such as ``24h``, 10m to 28d;
    empty: only who asks for a sync has one."""
    apps: tuple[str, ...] = ()
    """Whose directories; those of all apps if empty."""
    keep_left: str = ""
    """How long people who left stay in the directories of all apps, such as ``90d``, 1d to 3650d; empty:
    for ever."""

    @property
    def every_ms(self) -> int:
        """The same in milliseconds; 0 for none."""
        return int(duration(self.every).total_seconds() * 1000) if self.every else 0

    @property
    def kept_left(self) -> timedelta | None:
        """How long people who left stay; None for ever."""
        return duration(self.keep_left) if self.keep_left else None

    @field_validator("keep_left")
    @classmethod
    def _sensible_retention(cls, keep_left: str) -> str:
        if keep_left and not SHORTEST_KEPT <= duration(keep_left) <= LONGEST_KEPT:
            raise ValueError("must be from 1d to 3650d")
        return keep_left

    @field_validator("every")
    @classmethod
    def _sensible_length(cls, every: str) -> str:
        if every and not SHORTEST_SYNC <= duration(every) <= LONGEST_SYNC:
            raise ValueError("must be from 10m to 28d")
        return every


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
    """Redis or Valkey that holds job records and limits, as `RedisAddress` says; required in
    production."""
    broker_url: SecretStr = SecretStr("")
    """Celery's broker; the Redis URL when empty. amqp:// and amqps:// work too."""
    rabbitmq_queues: Literal["quorum", "classic"] = "quorum"
    """Type of the queues, where the broker is RabbitMQ; a queue keeps the one it was made with."""
    tls_ca: str = ""
    """File with the authorities that certificates of Redis and of the broker may be signed by; the
    system's when empty."""
    tls_cert: str = ""
    """File with our own certificate, for a Redis and a broker that ask for one."""
    tls_key: str = ""
    """File with its private key."""
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
    cells: dict[str, CellSettings] = Field(default_factory=dict)
    """Cells by name, for more apps than one Redis carries: which app is in which. Without any, all apps
    are served by the servers that the settings above name."""
    cell: str = ""
    """The one cell that this process works for, as each worker must; empty: whichever has the app."""
    rules: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Overrides of the limits: api or ``*`` → unit → ``limit/window``; an empty string lifts one."""
    quota: QuotaSettings = QuotaSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    history: HistorySettings = HistorySettings()
    recipients: RecipientSettings = RecipientSettings()
    sync: SyncSettings = SyncSettings()
    codes: dict[str, str] = Field(default_factory=dict)
    """Overrides of the error table: DingTalk's code → class."""
    egress: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "default"
    """Name of the IP address the workers call from; workers behind one address share the name."""

    timezone: str = "Asia/Shanghai"
    """Zone in which commands show times, and in which those without a zone are meant."""
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
    webhook_key: SecretStr = SecretStr("")
    """From which the secrets of webhooks are made, 32 characters or more; required for webhooks in
    production. While it is replaced, the new one and then the old one, comma-separated."""
    webhook_networks: str = ""
    """Networks that are not public and that webhooks may reach, such as ``10.0.0.0/8``,
    comma-separated."""
    webhook_timeout: Seconds = 15
    """Seconds for one delivery of a webhook: connection, answer and its body."""
    webhook_give_up: Seconds = 3 * 86_400
    """Seconds of failure after which a delivery is dead, and an endpoint disabled."""
    webhook_retention: Seconds = 7 * 86_400
    """Seconds for which notices of webhooks are kept, for delivery and replay."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of a worker's Prometheus metrics; 0 for none."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """JSON lines, or coloured text; auto: text in a terminal."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    language: str = ""
    """What commands speak, ``zh`` or ``en``; empty: what the system's locale says. They ask `language.chosen`
    before there are settings, which looks into the environment and ``.env`` only."""
    flower_user: str = ""
    flower_password: SecretStr = SecretStr("")
    """Flower's basic authentication; required outside the sandbox."""

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str) -> str:
        if language and language_of(language) is None:
            raise ValueError("must be zh or en, or empty")
        return language

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """The settings from all sources.

        Raises:
            SettingsError: names the variable that is missing or wrong.
        """
        try:
            found = cls(**overrides)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message = sentence(first)
            # The checks over several fields name the variable in their message.
            named = message if not first["loc"] else f"{_variable(first['loc'])}: {message}"
            raise SettingsError(named) from None
        return found.of_cell(found.cell) if found.cell else found

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
        own_redis = self.redis_url.get_secret_value()
        if self.env == "production" and not own_redis and not self.cells:
            raise ValueError("DINGRELAY_REDIS_URL: required in production")
        _check_tls_files(self.tls_files)
        _check_servers(self, "DINGRELAY_{}")
        for name, cell in self.cells.items():
            _check_servers(cell, f"cells.{name}.{{}}")
        check_cells(self.cells)
        self._check_organisations()
        if self.cell and self.cell not in self.cells:
            raise ValueError(f"DINGRELAY_CELL: {self._no_such_cell}")
        for variable, url in (
            ("DINGTALK_OAPI_URL", self.oapi_url),
            ("DINGTALK_API_URL", self.api_url),
        ):
            _check_dingtalk_url(variable, url, sandbox=self.env != "production")
        check_apps(self.apps)
        _check_webhooks(self)
        return self

    def _check_organisations(self) -> None:
        """An organisation's month is counted in one Redis."""
        if self.quota.monthly_calls is None:
            return
        where: dict[str, str] = {}
        for name, app in self.apps.items():
            cell = self.owner_of(name)
            other = where.setdefault(app.organisation, cell)
            if other != cell:
                raise ValueError(
                    f"apps.{name}.organisation: {app.organisation} has apps in cells.{other} and "
                    f"cells.{cell}; with [quota] they must be in one cell"
                )

    @property
    def across_cells(self) -> bool:
        """Whether there are cells, and this process works for whichever has the app."""
        return bool(self.cells) and not self.cell

    def of_cell(self, name: str) -> "Settings":
        """The settings of one cell: its servers, and only its apps.

        Raises:
            SettingsError: there is no such cell.
        """
        if name not in self.cells:
            raise SettingsError(f"DINGRELAY_CELL: {self._no_such_cell}")
        apps = {app: found for app, found in self.apps.items() if self.owner_of(app) == name}
        synced = tuple(app for app in self.sync.apps if self.owner_of(app) == name)
        sync = self.sync.model_copy(update={"apps": synced})
        if self.sync.apps and not synced:  # none of them, where an empty tuple means all
            sync = sync.model_copy(update={"every": ""})
        return self._with(cell=name, apps=apps, sync=sync)

    def cell_of(self, app: str) -> str:
        """The cell that has an app; empty where there are no cells.

        Raises:
            ContractError: none has it, or one that this process does not work for.
        """
        if not self.cells:
            return ""
        owner = self.owner_of(app)
        if not owner:
            raise ContractError("app", f"{app} is in no cell")
        if self.cell and owner != self.cell:
            raise ContractError("app", f"{app} is in the cell {owner}, and this is {self.cell}")
        return owner

    def serves(self, app: str) -> bool:
        """Whether this process may work for an app: it is in no cell that it does not work for."""
        return not self.cells or self.across_cells or self.owner_of(app) == self.cell

    @property
    def home(self) -> "Settings":
        """The settings of what all cells share: the API keys of gateways, and which cell serves an app.

        It is where ``DINGRELAY_REDIS_URL`` and ``DINGRELAY_DATABASE_URL`` point, or the default cell.

        Raises:
            SettingsError: there is neither.
        """
        if not self.cells:
            return self
        if self.redis_url.get_secret_value():
            return self._with(cells={}, cell=HOME)
        if self._owners[1]:
            return self.of_cell(self._owners[1])
        raise SettingsError(
            "DINGRELAY_REDIS_URL: required beside cells of which none is the default: API keys are there"
        )

    def owner_of(self, app: str) -> str:
        """The cell that has an app, whichever this process works for; empty if none has."""
        named, others = self._owners
        return named.get(app, others)

    @cached_property
    def _owners(self) -> tuple[dict[str, str], str]:
        return owners(self.cells)

    @property
    def _no_such_cell(self) -> str:
        return f"no such cell; there are {names_of(self.cells) or 'none'}"

    def _with(self, **changed: Any) -> "Settings":
        made = self.model_copy(update=changed)
        for name, attribute in vars(Settings).items():
            if isinstance(attribute, cached_property):
                vars(made).pop(name, None)
        return made

    @property
    def _servers(self) -> "Settings | CellSettings":
        """Whatever names the servers of this process.

        Raises:
            SettingsError: it works for no one cell: whoever asks does not know which.
        """
        if not self.cells:
            return self
        if not self.cell:
            raise SettingsError(f"DINGRELAY_CELL: name the cell, one of {names_of(self.cells)}")
        return self.cells[self.cell]

    @cached_property
    def redis(self) -> str:
        """The URL of the Redis that holds records and limits."""
        return self._servers.redis_url.get_secret_value() or EMBEDDED_REDIS

    @cached_property
    def redis_address(self) -> RedisAddress:
        """Where that is."""
        return RedisAddress.parse(self.redis, self.tls_files)

    @cached_property
    def broker(self) -> str:
        """The URL of Celery's broker."""
        return self._servers.broker_url.get_secret_value() or self.redis

    @cached_property
    def broker_address(self) -> RedisAddress | None:
        """Where that is, if it is a Redis."""
        if _scheme(self.broker) not in SCHEMES:
            return None
        return RedisAddress.parse(self.broker, self.tls_files)

    @property
    def tls_files(self) -> TlsFiles:
        """Certificates for connections with TLS."""
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    @cached_property
    def database(self) -> str:
        """The URL of the SQL directory."""
        named = self._servers.database_url.get_secret_value()
        return named or database(self.cell)

    @cached_property
    def webhook_keys(self) -> tuple[str, ...]:
        """What the secrets of webhooks are made from, the newest first.

        Raises:
            SettingsError: none is configured, in production.
        """
        keys = _listed(self.webhook_key.get_secret_value())
        if not keys and self.env != "production":
            return (SANDBOX_WEBHOOK_KEY,)
        if not keys:
            raise SettingsError(
                "DINGRELAY_WEBHOOK_KEY: required for webhooks; make one with `openssl rand -hex 32`"
            )
        return keys

    def app(self, name: str) -> AppSettings:
        """The app of that name.

        Raises:
            SettingsError: there is none, or its key or secret is missing.
        """
        return complete_app(self.apps, name)


def complete_app(apps: Mapping[str, AppSettings], name: str) -> AppSettings:
    """The app of that name.

    Raises:
        SettingsError: there is none, or its key or secret is missing.
    """
    found = apps.get(name)
    if found is None:
        raise SettingsError(f"apps.{name}: no such app is configured")
    suffix = _suffix(name)
    for variable, value in (("KEY", found.app_key), ("SECRET", found.app_secret)):
        if not value.get_secret_value():
            # Not with a colon: what follows the name of a secret like that is hidden in logs.
            raise SettingsError(f"DINGTALK_APP_{variable}{suffix} is required")
    return found


def check_apps(apps: Mapping[str, AppSettings]) -> None:
    """Whether the apps' keys and callbacks make sense together.

    Raises:
        ValueError: names the variable that is wrong.
    """
    _check_app_keys(apps)
    for name, app in sorted(apps.items()):
        _check_callback(name, app)


APP_VARIABLE = re.compile(
    r"DINGTALK_(APP_KEY|APP_SECRET|AGENT_ID|CORP_ID|CALLBACK_TOKEN|CALLBACK_AES_KEY)"
    r"(?:_([A-Z0-9_]+))?"
)


def _app_variables() -> dict[tuple[str, str], tuple[str, str]]:
    """App and field → the variable that counts for it, and its value."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for variable, value in {**dotenv_values(".env"), **os.environ}.items():
        match = APP_VARIABLE.fullmatch(variable.removesuffix("_FILE"))
        if match and value:
            part, name = match.groups()
            found[(name or DEFAULT_APP).lower(), part.lower()] = variable, value
    return found


def app_secret_files() -> dict[tuple[str, str], tuple[str, str]]:
    """App and field → variable and file, for the keys and secrets of apps that are in files."""
    return {
        (name, part): (variable, path)
        for (name, part), (variable, path) in _app_variables().items()
        if variable.endswith("_FILE") and part in {"app_key", *APP_SECRETS}
    }


class AppsSource(PydanticBaseSettingsSource):
    """The apps' keys, secrets and agent ids from ``DINGTALK_*`` in the environment or `.env`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: D102
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:  # noqa: D102
        apps: dict[str, dict[str, str]] = {}
        for (name, part), (variable, value) in _app_variables().items():
            text = read_secret(variable, value) if variable.endswith("_FILE") else value
            apps.setdefault(name, {})[part] = text
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
                found[name] = read_secret(variable, path)
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
            for secret in APP_SECRETS:
                if secret in app:
                    raise SettingsError(
                        f"apps.{name}.{secret}: secrets come from the environment only"
                    )
        unknown = sorted(content.keys() - self.settings_cls.model_fields.keys())
        if unknown:
            raise SettingsError(f"{unknown[0]}: no such setting (in DINGRELAY_CONFIG)")
        if isinstance(cells := content.get("cells"), Mapping):
            try:
                content["cells"] = read_urls(cells, read_secret)
            except SettingsError:
                raise
            except ValueError as error:
                raise SettingsError(str(error)) from None
        return content


def read_secret(variable: str, path: str) -> str:
    """What the file that a variable names holds, without blanks around it.

    Raises:
        SettingsError: it can't be read; names the variable.
    """
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: must be text in UTF-8") from None


def _check_dingtalk_url(variable: str, url: str, *, sandbox: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{variable}: must be an http or https URL")
    if parts.scheme == "http" and not (sandbox and parts.hostname in LOOPBACK):
        raise ValueError(f"{variable}: plain http is for loopback in the sandbox only")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _check_server(variable: str, url: str, others: tuple[str, ...]) -> None:
    """A URL of a Redis, or of a server of another of these schemes."""
    allowed = (*SCHEMES, *others)
    if _scheme(url) not in allowed:
        raise ValueError(
            f"{variable}: must begin with one of {', '.join(f'{each}://' for each in allowed)}"
        )
    if _scheme(url) in SCHEMES:
        try:
            RedisAddress.parse(url)
        except ValueError as error:
            raise ValueError(f"{variable}: {error}") from None
        return
    if len({_scheme(each) == "amqps" for each in url.split(";")}) > 1:
        raise ValueError(f"{variable}: of several brokers all speak TLS, or none")
    for alternative in url.split(";"):
        if _scheme(alternative) not in others:
            raise ValueError(f"{variable}: each of several brokers must be a whole URL")
        try:
            port = urlsplit(alternative).port
        except ValueError:
            # Python's own message quotes the URL, which may hold a password.
            port = 0
        if port == 0:
            raise ValueError(f"{variable}: the port is no number from 1 to {HIGHEST_PORT}")


def _check_servers(given: Settings | CellSettings, variable: str) -> None:
    """The three URLs of servers, where they are given; `variable` is how one is called."""
    capitals = variable.startswith("DINGRELAY")
    for name, others in (("redis_url", ()), ("broker_url", AMQP_SCHEMES)):
        if url := getattr(given, name).get_secret_value():
            _check_server(variable.format(name.upper() if capitals else name), url, others)
    database = given.database_url.get_secret_value()
    # A cell may leave it to us.
    if not database.startswith(("sqlite:", "postgresql:")) and (database or capitals):
        called = "DATABASE_URL" if capitals else "database_url"
        raise ValueError(f"{variable.format(called)}: must begin with sqlite: or postgresql:")


def _check_tls_files(files: TlsFiles) -> None:
    for variable, path in (
        ("DINGRELAY_TLS_CA", files.ca),
        ("DINGRELAY_TLS_CERT", files.cert),
        ("DINGRELAY_TLS_KEY", files.key),
    ):
        if path and not os.access(path, os.R_OK):
            raise ValueError(f"{variable}: no file that can be read")
    if bool(files.cert) != bool(files.key):
        missing = "KEY" if files.cert else "CERT"
        raise ValueError(f"DINGRELAY_TLS_{missing}: required with the other of the two")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_webhooks(settings: "Settings") -> None:
    if any(
        len(key) < SHORTEST_WEBHOOK_KEY for key in _listed(settings.webhook_key.get_secret_value())
    ):
        raise ValueError(
            f"DINGRELAY_WEBHOOK_KEY: must be {SHORTEST_WEBHOOK_KEY} characters or more"
        )
    for network in _listed(settings.webhook_networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(
                "DINGRELAY_WEBHOOK_NETWORKS: must be networks such as 10.0.0.0/8, comma-separated"
            ) from None
    if settings.webhook_timeout >= settings.job_timeout:
        raise ValueError("DINGRELAY_WEBHOOK_TIMEOUT: must be shorter than DINGRELAY_JOB_TIMEOUT")
    if settings.webhook_retention < settings.webhook_give_up:
        raise ValueError(
            "DINGRELAY_WEBHOOK_RETENTION: must be as long as DINGRELAY_WEBHOOK_GIVE_UP or longer"
        )


def _check_app_keys(apps: Mapping[str, AppSettings]) -> None:
    """DingTalk counts by app key, and limits, daily limits and token are kept by the app's name."""
    names: dict[str, str] = {}
    for name, app in sorted(apps.items()):
        key = app.app_key.get_secret_value()
        if key and key in names:
            raise ValueError(f"apps.{name}.app_key: is that of apps.{names[key]}; name an app once")
        names[key] = name


def _check_callback(name: str, app: AppSettings) -> None:
    """Events over HTTP need both secrets and the app's key."""
    token, aes_key = app.callback_token.get_secret_value(), app.callback_aes_key.get_secret_value()
    suffix = _suffix(name)
    if token and not CALLBACK_TOKEN.fullmatch(token):
        raise ValueError(f"DINGTALK_CALLBACK_TOKEN{suffix}: must be 3 to 32 letters and digits")
    if aes_key and not CALLBACK_AES_KEY.fullmatch(aes_key):
        raise ValueError(f"DINGTALK_CALLBACK_AES_KEY{suffix}: must be 43 letters and digits")
    if bool(token) != bool(aes_key):
        missing = "AES_KEY" if token else "TOKEN"
        raise ValueError(f"DINGTALK_CALLBACK_{missing}{suffix}: required with the other of the two")
    if token and not app.app_key.get_secret_value():
        raise ValueError(f"DINGTALK_APP_KEY{suffix}: required for callbacks")


def _suffix(app: str) -> str:
    """What stands behind the variables of an app."""
    return "" if app == DEFAULT_APP else f"_{app.upper()}"


def _variable(location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    head = str(location[0])
    if len(location) > 1:
        return ".".join(str(step) for step in location)
    return head if head.startswith("DINGTALK_") else f"DINGRELAY_{head.upper()}"
