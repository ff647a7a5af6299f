"""The settings: every one with its default, and what they say of servers."""

import ipaddress
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from dingrelay_producers.language import language_of
from dingrelay_producers.redis_address import SCHEMES, TLS_FILES, RedisAddress
from dingrelay_producers.settings.addresses import (
    LOOPBACK,
    check_dingtalk_url,
    check_management_api,
    check_servers,
    check_tls_files,
    check_url,
    scheme,
)
from dingrelay_producers.settings.apps import (
    ORGANISATION,
    AppSettings,
    SettingsError,
    at_start,
    check_apps,
    complete_app,
)
from dingrelay_producers.settings.robots import (
    GroupSettings,
    RobotSettings,
    check_robot_message,
    check_robots,
    limits_of,
)
from dingrelay_producers.settings.sections import (
    ApprovalSettings,
    CampaignSettings,
    HistorySettings,
    OidcSettings,
    QuotaSettings,
    Seconds,
    SyncSettings,
)
from dingrelay_producers.settings.sources import (
    AppsSource,
    GoneSource,
    SecretFilesSource,
    TomlSource,
)
from dingrelay_tasks.contract import Contract, SenderName, sentence
from dingrelay_tasks.media_files import LARGEST
from dingrelay_tasks.robot_names import ROBOT_MESSAGE
from dingrelay_tasks.sentence import en, not_json

if TYPE_CHECKING:
    from dingrelay_tasks.robot_message import RobotMessage

EMBEDDED_REDIS = "redis://127.0.0.1:6379/0"
LOGIN_URL = "https://login.dingtalk.com"
DEFAULT_DATABASE = "sqlite:///dingrelay.db"
SHORTEST_WEBHOOK_KEY = 32
SANDBOX_WEBHOOK_KEY = "the-webhook-key-of-sandboxes-and-tests"
"""Outside production a webhook needs no setting; its secrets are then no secrets."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DEAD_TTL = 30 * 86_400
"""Seconds: a person is to look at dead jobs, who may be on holiday."""


class Settings(BaseSettings):
    """The whole configuration, frozen.

    Sources, first one wins: keyword arguments, the environment, `.env`, the TOML file that
    ``DINGRELAY_CONFIG`` names.
    """

    model_config = SettingsConfigDict(
        env_prefix="DINGRELAY_",
        env_ignore_empty=True,  # files of variables name what is not set, too: the TOML file counts then
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    env: Literal["sandbox", "test", "production"] = "production"
    """Environment. Nothing in production falls back to a sandbox or embedded part."""
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
    outbox_url: SecretStr = SecretStr("")
    """Database of the application whose outbox `dingrelay outbox` relays, as a URL of SQLAlchemy."""
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
    robots: dict[str, RobotSettings] = Field(default_factory=dict)
    """Robots by name; webhooks and secrets come from DINGTALK_ROBOT_<NAME>_WEBHOOK and its kin."""
    groups: dict[str, GroupSettings] = Field(default_factory=dict)
    """Groups by name: the robots that post to them."""
    quota: QuotaSettings = QuotaSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    campaigns: CampaignSettings = CampaignSettings()
    history: HistorySettings = HistorySettings()
    oidc: OidcSettings = OidcSettings()
    sync: SyncSettings = SyncSettings()
    codes: dict[str, str] = Field(default_factory=dict)
    """Overrides of the error table: DingTalk's code → class."""
    egress: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "default"
    """Name of the IP address the workers call from; workers behind one address share the name."""

    timezone: str = "Asia/Shanghai"
    """Zone in which commands show times, and in which those without a zone are meant."""
    sender: SenderName = ""
    """Default sender of jobs; senders of a lane share its rate evenly."""
    retry_for: Seconds = 6 * 3_600
    """Seconds for which a job that keeps failing is tried; what it waits for otherwise does not count."""
    lease: Seconds = 30
    """Seconds a running job belongs to its worker without a renewal, and after which a wake-up that others
    have overtaken counts as lost."""
    max_wait: Seconds = 5
    """Seconds a job may wait for a limit in the worker before it is parked."""
    job_timeout: Seconds = 300
    """Seconds one run of a job may take."""
    call_timeout: Seconds = 15
    """Seconds to wait for an answer of DingTalk's, or of a webhook's receiver."""
    soft_shutdown: Seconds = 25
    """Seconds a stopping worker gives its running jobs."""
    settle_delay: Seconds = 10
    """Seconds after which an approval that can't be found is known not to exist."""
    token_circuit: Seconds = 60
    """Seconds between two tries of an app that is held: one call of the whole fleet."""
    max_age: Seconds = 86_400
    """Seconds after which a job is dead that only waits for the end of an outage or a hold."""
    record_ttl: Seconds = 7 * 86_400
    """Seconds a settled job's record is kept; that of a dead one for `DEAD_TTL` at least."""
    gateway_robots: bool = True
    """Whether the drop-in door posts to robots of groups, for holders of a robot's token."""
    gateway_proxies: str = ""
    """Networks of the proxies before the gateway whose ``X-Forwarded-For`` names the client, such as ``10.0.0.0/8``,
    comma-separated."""
    gateway_queue_limit: Annotated[int, Field(ge=0)] = 200_000
    """Jobs that wait in a lane's queue, beyond which HTTP accepts no more of it; 0 for no limit."""
    gateway_uploads: Annotated[int, Field(ge=LARGEST)] = 200_000_000
    """Bytes of files that one gateway receives at once, and bytes that wait in Redis for DingTalk; more get a 503."""
    webhook_key: SecretStr = SecretStr("")
    """From which the secrets of webhooks are made, 32 characters or more; required for webhooks in
    production. While it is replaced, the new one and then the old one, comma-separated."""
    webhook_networks: str = ""
    """Networks that are not public and that webhooks may reach, such as ``10.0.0.0/8``,
    comma-separated."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of the Prometheus metrics of a worker, a gateway or a listener to events; 0 for none."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """JSON lines, or coloured text; auto: text in a terminal."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    language: str = ""
    """Language of commands, ``zh`` or ``en``; empty: the system's locale. They ask `language.chosen` before there are
    settings."""
    console_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$", max_length=400)] = ""
    """The console's public address, such as ``https://relay.example.com``: for links in messages, and for signing in
    with DingTalk."""
    oidc_secret: SecretStr = SecretStr("")
    """Client secret of the console at the OpenID provider."""
    flower_user: str = ""
    flower_password: SecretStr = SecretStr("")
    """Flower's basic authentication; required outside the sandbox."""
    flower_broker_api: SecretStr = SecretStr("")
    """URL of RabbitMQ's management API, where Flower asks what waits: ``https://user:password@host:15671/api/``."""

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
            return cls(**overrides)
        except ValidationError as error:
            first_error = error.errors(include_url=False, include_input=False)[0]
            message = sentence(first_error)
            # The checks over several fields name the variable in their message.
            text = (
                message
                if not first_error["loc"]
                else en("{}: {}", _variable(first_error["loc"]), message)
            )
            raise SettingsError(text) from None
        except SourceError as error:
            _, name, *_ = str(error).split('"')
            cause = error.__cause__
            problem = not_json(cause if isinstance(cause, ValueError) else error)
            raise SettingsError(en("{}: {}", _variable((name,)), problem)) from None

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
            GoneSource(settings_cls),
        )

    @model_validator(mode="after")
    def _fits_its_environment(self) -> Self:
        own_redis = self.redis_url.get_secret_value()
        if self.env == "production" and not own_redis:
            raise ValueError(
                "DINGRELAY_REDIS_URL: required in production"
                if "env" in self.model_fields_set
                else "DINGRELAY_REDIS_URL: is not set, and no running sandbox was found here; set it, or run"
                " this in the folder of `dingrelay up --sandbox`"
            )
        check_tls_files(self.tls_ca, self.tls_cert, self.tls_key)
        check_servers(self)
        for variable, url in (
            ("DINGTALK_OAPI_URL", self.oapi_url),
            ("DINGTALK_API_URL", self.api_url),
        ):
            check_dingtalk_url(variable, url, sandbox=self.env != "production")
        if self.console_url:
            check_url("DINGRELAY_CONSOLE_URL", self.console_url)
        if self.oidc.issuer:
            check_dingtalk_url("oidc.issuer", self.oidc.issuer, sandbox=self.env != "production")
            if not (self.oidc.client_id and self.oidc_secret.get_secret_value()):
                raise ValueError("oidc.client_id, DINGRELAY_OIDC_SECRET: both are needed")
        check_management_api(
            "DINGRELAY_FLOWER_BROKER_API", self.flower_broker_api.get_secret_value()
        )
        check_apps(at_start(self.apps))
        check_robots(self.robots, self.groups, self.oapi_url)
        self._check_webhooks()
        return self

    def _check_webhooks(self) -> None:
        keys = _listed(self.webhook_key.get_secret_value())
        if any(len(key) < SHORTEST_WEBHOOK_KEY for key in keys):
            raise ValueError(
                en("DINGRELAY_WEBHOOK_KEY: must be {} characters or more", SHORTEST_WEBHOOK_KEY)
            )
        _networks("DINGRELAY_WEBHOOK_NETWORKS", self.webhook_networks)
        _networks("DINGRELAY_GATEWAY_PROXIES", self.gateway_proxies)
        if self.call_timeout >= self.job_timeout:
            raise ValueError("DINGRELAY_CALL_TIMEOUT: must be shorter than DINGRELAY_JOB_TIMEOUT")

    @cached_property
    def redis(self) -> str:
        """The URL of the Redis that holds records and limits."""
        return self.redis_url.get_secret_value() or EMBEDDED_REDIS

    @cached_property
    def redis_address(self) -> RedisAddress:
        """The address of the Redis."""
        return RedisAddress.parse(self.redis, self.tls_files)

    @cached_property
    def broker(self) -> str:
        """The URL of Celery's broker."""
        return self.broker_url.get_secret_value() or self.redis

    @cached_property
    def broker_address(self) -> RedisAddress | None:
        """The broker's address, if it is a Redis."""
        if scheme(self.broker) not in SCHEMES:
            return None
        return RedisAddress.parse(self.broker, self.tls_files)

    @property
    def tls_files(self) -> dict[str, str]:
        """Certificates for connections with TLS, as far as there are any."""
        files = zip(TLS_FILES, (self.tls_ca, self.tls_cert, self.tls_key), strict=True)
        return {name: path for name, path in files if path}

    @cached_property
    def database(self) -> str:
        """The URL of the SQL directory."""
        return self.database_url.get_secret_value()

    @property
    def login_url(self) -> str:
        """Host where people sign in to the console with DingTalk; a sandbox on this machine is all hosts."""
        return self.api_url if urlsplit(self.api_url).hostname in LOOPBACK else LOGIN_URL

    @property
    def dead_ttl(self) -> float:
        """Seconds a dead job's record is kept."""
        return max(self.record_ttl, DEAD_TTL)

    @cached_property
    def webhook_keys(self) -> tuple[str, ...]:
        """The keys that webhook secrets are derived from, the newest first.

        Raises:
            SettingsError: none is configured, in production.
        """
        if configured := _listed(self.webhook_key.get_secret_value()):
            return configured
        if self.env != "production":
            return (SANDBOX_WEBHOOK_KEY,)
        raise SettingsError(
            "DINGRELAY_WEBHOOK_KEY: required for webhooks; make one with `openssl rand -hex 32`"
        )

    @cached_property
    def trusted_proxies(self) -> tuple[Network, ...]:
        """The networks of `gateway_proxies`."""
        return _networks("DINGRELAY_GATEWAY_PROXIES", self.gateway_proxies)

    def check_target(self, job: Contract) -> None:
        """Refuse a message that the robot or group which it names can't have, as far as these settings know them.

        Raises:
            ContractError: names the field.
        """
        if job.kind == ROBOT_MESSAGE:
            check_robot_message(cast("RobotMessage", job), self.robots, self.groups)

    @property
    def organisations(self) -> list[str]:
        """Organisations of apps and of webhooks."""
        organisations = {app.organisation for app in self.apps.values()}
        organisations |= {robot.organisation for robot in self.robots.values() if not robot.code}
        return sorted(organisations or {ORGANISATION})

    @property
    def limits(self) -> dict[str, dict[str, str]]:
        """`rules`, with the limits of single robots."""
        return {**self.rules, **limits_of(self.robots)}

    def app(self, name: str) -> AppSettings:
        """The app of that name.

        Raises:
            SettingsError: there is none, or its key or secret is missing.
        """
        if name not in self._complete_apps:
            complete_app(at_start(self.apps), name)
        return self.apps[name]

    @cached_property
    def _complete_apps(self) -> frozenset[str]:
        """Apps with a key and a secret: each job asks several times, of as many as 200 apps."""
        apps = at_start(self.apps).items()
        return frozenset(
            name
            for name, app in apps
            if app.app_key.get_secret_value() and app.app_secret.get_secret_value()
        )


def _networks(variable: str, text: str) -> tuple[Network, ...]:
    try:
        return tuple(map(ipaddress.ip_network, _listed(text)))
    except ValueError:
        raise ValueError(
            en("{}: must be networks such as 10.0.0.0/8, comma-separated", variable)
        ) from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _variable(location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    head = str(location[0])
    if len(location) > 1:
        return ".".join(str(step) for step in location)
    return head if head.startswith("DINGTALK_") else f"DINGRELAY_{head.upper()}"
