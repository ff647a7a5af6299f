"""Address and options of a Redis: read once from a URL, for records and for the broker."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from dingrelay_tasks.sentence import en

SOCKET_TIMEOUT = 5
"""Seconds. Without it a worker hangs for ever on a connection that is silent but not closed."""
PRODUCER_TIMEOUT = 2
"""Seconds that sending a job may wait for the broker: the job is accepted already."""
HEALTH_CHECK = 5
"""Seconds between PINGs on a connection that waits for messages: how a silent one is noticed."""
SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
"""Schemes of a Redis URL: those with a second ``s`` speak TLS, ``sentinels`` with the Sentinels as well."""

PORT, SENTINEL_PORT = 6379, 26379
HIGHEST_PORT = 65_535

SENTINEL_TIMEOUT = 1.0
"""Seconds for an answer of a Sentinel: there are others, and the caller waits."""

CERT_REQS = {
    "required": ssl.CERT_REQUIRED,
    "CERT_REQUIRED": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "CERT_OPTIONAL": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
    "CERT_NONE": ssl.CERT_NONE,
}
"""Values of ``ssl_cert_reqs`` in a URL: redis-py's words and Celery's."""

TLS_OPTION = "dingrelay_tls"
"""An unread transport option of kombu's. Its pools are keyed by URLs and options, and not by certificates: without it a
client with another certificate would publish over the connection of the first."""
OPTIONS = frozenset(
    {
        "client_name",
        "health_check_interval",
        "max_connections",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
    }
)
"""Options of redis-py's connections that a URL may set. Others change what they return, or what becomes of a broken
one."""
TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)

_OPTION = re.compile("[a-z]+(_[a-z]+)+|encoding|password|protocol|timeout|username")
"""The form of redis-py's options."""
_NO_URL = en("is no URL: quote what is special in user and password")

TLS_FILES = ("ca_certs", "certfile", "keyfile")
"""The authorities that may have signed the server's certificate, our own certificate, and its private key."""
NO_FILES: Mapping[str, str] = MappingProxyType({})

_OURS = ("master", "sentinel_username", "sentinel_password", "db")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis, behind Sentinel or not.

    The URL is one of::

        redis://[user:password@]host[:port][/database]
        rediss://[user:password@]host[:port][/database]
        unix://[user:password@]/path/of/the/socket[?db=database]
        sentinel://[user:password@]host[:port],host[:port]…/[database]?master=name

    User and password are the Redis servers'; the Sentinels' own are ``sentinel_username`` and
    ``sentinel_password`` in the query. What else may be there are `OPTIONS` of redis-py's, with TLS also
    `TLS_OPTIONS`.

    Attributes:
        hosts: of the Redis, or of the Sentinels; none for a socket file.
        master: under which name the Sentinels know the primary; empty without Sentinel.
        path: of the socket file.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    master: str = ""
    path: str = ""
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tls: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str, files: Mapping[str, str] = NO_FILES) -> "RedisAddress":
        """The address that a URL names.

        Args:
            url: as above.
            files: for connections with TLS, in PEM; by Python's names of them, as in `TLS_FILES`.

        Raises:
            ValueError: says what is wrong without quoting the URL, which may hold a password.
        """
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ValueError(
                en("must begin with one of {}", ", ".join(f"{name}://" for name in SCHEMES))
            )
        try:
            parts = urlsplit(url)
        except ValueError:
            # Python's own message quotes what may hold a password.
            raise ValueError(_NO_URL) from None
        credentials, _, netloc = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        behind = scheme.startswith("sentinel")
        path = unquote(parts.path)
        if scheme == "unix":
            if netloc or not path.strip("/"):
                raise ValueError("must name a socket file, such as unix:///run/redis/redis.sock")
            hosts: tuple[tuple[str, int], ...] = ()
            database = query.get("db", "0")
        else:
            hosts = _hosts(netloc, SENTINEL_PORT if behind else PORT, several=behind)
            database = query.get("db", path.strip("/") or "0")
            path = ""
        if not database.isdecimal():
            raise ValueError("the database is no number")
        if behind and not query.get("master"):
            raise ValueError("must name the primary as the Sentinels know it: ?master=NAME")
        options = {name: value for name, value in query.items() if name not in _OURS}
        secure = scheme in {"rediss", "sentinels"}
        _check_options(options, OPTIONS | TLS_OPTIONS if secure else OPTIONS)
        tls = _tls(options, files) if secure else {}
        return cls(
            scheme=scheme,
            hosts=hosts,
            master=query.get("master", "") if behind else "",
            path=path,
            database=int(database),
            username=unquote(username),
            password=unquote(password),
            sentinel_username=query.get("sentinel_username", ""),
            sentinel_password=query.get("sentinel_password", ""),
            options=MappingProxyType(_options(options)),
            tls=MappingProxyType(tls),
        )

    @property
    def where(self) -> str:
        """The address without passwords."""
        where = self.path or ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        return f"{self.master} at {where}" if self.master else where

    @property
    def unshown(self) -> bool:
        """Whether TLS is spoken without a certificate of ours."""
        return bool(self.tls) and "ssl_certfile" not in self.tls

    @property
    def server(self) -> dict[str, Any]:
        """The arguments of a connection of redis-py, but for its class and the server."""
        credentials = _credentials(self.username, self.password)
        return {"db": self.database, **self.options, **self.tls, **credentials}

    @property
    def sentinel(self) -> dict[str, Any]:
        """The same of a connection to one of the Sentinels, but for user and password."""
        arguments: dict[str, Any] = {
            **self.tls,
            "socket_timeout": SENTINEL_TIMEOUT,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
        }
        if self.tls:
            arguments["ssl"] = True
        return arguments

    @property
    def sentinel_credentials(self) -> dict[str, str]:
        """User and password of the Sentinels."""
        return _credentials(self.sentinel_username, self.sentinel_password)


def _credentials(username: str, password: str) -> dict[str, str]:
    credentials = {"username": username, "password": password}
    return {name: value for name, value in credentials.items() if value}


def _hosts(netloc: str, default: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    texts = netloc.split(",") if several else [netloc]
    hosts: list[tuple[str, int]] = []
    for text in texts:
        host, port = _host(text, default)
        if several and not host:
            raise ValueError("must name each Sentinel as host or host:port, comma-separated")
        hosts.append((host or "localhost", port))
    return tuple(hosts)


def _host(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not port:
        return unquote(host), default
    if not (port.isascii() and port.isdecimal()) or not 0 < int(port) <= HIGHEST_PORT:
        raise ValueError(en("the port is no number from 1 to {}", HIGHEST_PORT))
    return unquote(host), int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tls(options: dict[str, str], files: Mapping[str, str]) -> dict[str, Any]:
    """Take what concerns TLS out of the query; what it does not say, the settings do."""
    word = options.pop("ssl_cert_reqs", "required")
    if word not in CERT_REQS:
        raise ValueError("ssl_cert_reqs must be required, optional or none")
    arguments: dict[str, Any] = {"ssl_cert_reqs": CERT_REQS[word]}
    checks_hostname = options.pop("ssl_check_hostname", "")
    if CERT_REQS[word] is ssl.CERT_NONE:
        arguments["ssl_check_hostname"] = False
    elif checks_hostname:
        arguments["ssl_check_hostname"] = _boolean(checks_hostname)
    for name in TLS_FILES:
        if file := options.pop(f"ssl_{name}", files.get(name)):
            arguments[f"ssl_{name}"] = file
    return arguments


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise ValueError("ssl_check_hostname must be true or false")
    return text.lower() in {"true", "1", "yes"}


def _check_options(options: Mapping[str, str], allowed: frozenset[str]) -> None:
    for name, value in options.items():
        if name in allowed:
            continue
        if not value or not _OPTION.fullmatch(name):
            # It may be the rest of a password that has "?" or "&" in it.
            raise ValueError(_NO_URL)
        raise ValueError(en("{} in its query is none of: {}", name, ", ".join(sorted(allowed))))


def _options(options: Mapping[str, str]) -> dict[str, Any]:
    """The options parsed by redis-py."""
    if not options:
        return {}
    # Rarely needed, and settings are read by commands that need no Redis.
    from redis.connection import parse_url  # noqa: PLC0415

    return dict(
        parse_url(f"redis://?{urlencode(options)}")  # type: ignore[no-untyped-call]
    )
