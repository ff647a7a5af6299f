"""Checks of the addresses of servers, and of the files that TLS needs."""

import os
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from dingrelay_producers.redis_address import HIGHEST_PORT, SCHEMES, RedisAddress
from dingrelay_producers.settings.apps import SettingsError
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.settings.settings import Settings

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")
"""Brokers that are no Redis; amqps speaks TLS."""


def _parts(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None of anything else."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # Python's own message quotes the URL, which may hold a password.
        return None
    return parts if sound else None


def check_url(variable: str, url: str) -> SplitResult:
    """The parts of an http or https URL."""
    parts = _parts(url)
    if parts is None:
        raise ValueError(en("{}: must be an http or https URL", variable))
    return parts


def check_dingtalk_url(variable: str, url: str, *, sandbox: bool) -> None:
    """A URL of DingTalk's: https, or http to loopback outside production."""
    parts = check_url(variable, url)
    if parts.scheme == "http" and not (sandbox and parts.hostname in LOOPBACK):
        raise ValueError(en("{}: plain http is for loopback in the sandbox only", variable))


def proxy_for(url: str) -> str | None:
    """The proxy of ``HTTPS_PROXY`` for an encrypted URL of DingTalk's; None if ``NO_PROXY`` names its host.

    Plain http is for this machine only.

    Raises:
        SettingsError: it is no HTTP proxy.
    """
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - clients need none of it

    parts = urlsplit(url)
    proxy, host = getproxies().get("https", ""), parts.hostname or ""
    if parts.scheme not in {"https", "wss"} or not proxy or host in LOOPBACK or proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in {"http", "https"} or not urlsplit(proxy).hostname:
        raise SettingsError(en("{}: must be like http://proxy.example.com:3128", "HTTPS_PROXY"))
    return proxy


def check_management_api(variable: str, url: str) -> None:
    """A URL of RabbitMQ's management API, if one is given."""
    parts = _parts(url)
    if url and (parts is None or parts.query or parts.fragment):
        raise ValueError(en("{}: must be like https://user:password@host:15671/api/", variable))


def scheme(url: str) -> str:
    """A URL's scheme, in small letters; the whole of what is none."""
    return url.partition("://")[0].lower()


def _check_server(variable: str, url: str, schemes: tuple[str, ...]) -> None:
    """A URL of a Redis, or of a server of another of these schemes."""
    allowed = (*SCHEMES, *schemes)
    if scheme(url) not in allowed:
        raise ValueError(
            en(
                "{}: must begin with one of {}",
                variable,
                ", ".join(f"{name}://" for name in allowed),
            )
        )
    if scheme(url) in SCHEMES:
        try:
            RedisAddress.parse(url)
        except ValueError as error:
            raise ValueError(en("{}: {}", variable, error)) from None
        return
    if len({scheme(broker) == "amqps" for broker in url.split(";")}) > 1:
        raise ValueError(en("{}: of several brokers all speak TLS, or none", variable))
    for alternative in url.split(";"):
        if scheme(alternative) not in schemes:
            raise ValueError(en("{}: each of several brokers must be a whole URL", variable))
        try:
            port = urlsplit(alternative).port
        except ValueError:
            # Python's own message quotes the URL, which may hold a password.
            port = 0
        if port == 0:
            raise ValueError(en("{}: the port is no number from 1 to {}", variable, HIGHEST_PORT))


def check_servers(settings: "Settings") -> None:
    """The three URLs of servers, where they are given."""
    for name, schemes in (("redis_url", ()), ("broker_url", AMQP_SCHEMES)):
        if url := getattr(settings, name).get_secret_value():
            _check_server(f"DINGRELAY_{name.upper()}", url, schemes)
    if not settings.database_url.get_secret_value().startswith(("sqlite:", "postgresql:")):
        raise ValueError("DINGRELAY_DATABASE_URL: must begin with sqlite: or postgresql:")


def check_tls_files(ca: str, cert: str, key: str) -> None:
    """Files that can be read, and a certificate only together with its key."""
    for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
        if path and not os.access(path, os.R_OK):
            raise ValueError(en("{}: no file that can be read", f"DINGRELAY_TLS_{name}"))
    if bool(cert) != bool(key):
        missing = "KEY" if cert else "CERT"
        raise ValueError(en("DINGRELAY_TLS_{}: required with the other of the two", missing))
