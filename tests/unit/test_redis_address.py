"""Every way to name a Redis, and how each wrong one is refused."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.transport import pyamqp

from dingrelay_producers import Settings
from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.settings import SettingsError

SENTINEL = "sentinel://ops:se%40cret@[::1]:5,b/3?master=orders&sentinel_password=quorum"
WRONG = {
    "http://h": "must begin with one of",
    "h:6379": "must begin with one of",
    "redis://h:0/0": "the port is no number from 1 to 65535",
    "redis://:hunter2@h:70000/0": "the port is no number from 1 to 65535",
    "redis://:hunter2@h:6379x/0": "the port is no number from 1 to 65535",
    "redis://h/one": "the database is no number",
    "redis://[::1/0": "is no URL",
    "unix://": "must name a socket file",
    "unix://h/run/redis.sock": "must name a socket file",
    "sentinel://h:26379/0": "master=NAME",
    "sentinel://h,,g/0?master=m": "must name each Sentinel",
    "rediss://h/0?ssl_cert_reqs=maybe": "ssl_cert_reqs must be",
    "redis://h/0?decode_responses=1": "decode_responses in its query is none of: client_name, ",
    "sentinel://h/0?master=m&protocol=2": "protocol in its query is none of: ",
    "rediss://h/0?ssl_min_version=2": "ssl_min_version in its query is none of: ",
    "redis://h/0?ssl_cert_reqs=none": "ssl_cert_reqs in its query is none of: ",
    "redis://h/0?socket_timeout=soon": "Invalid value for 'socket_timeout'",
}


def test_a_sentinel_url_names_all_of_it() -> None:
    address = RedisAddress.parse(SENTINEL)
    assert address.hosts == (("::1", 5), ("b", 26379))
    assert address.where == "orders at [::1]:5,b:26379"
    assert address.server == {"db": 3, "username": "ops", "password": "se@cret"}
    assert address.sentinel_credentials == {"password": "quorum"}


@pytest.mark.parametrize(("url", "reason"), WRONG.items())
@pytest.mark.parametrize("field", ["redis_url", "broker_url"])
def test_a_wrong_url_is_refused_by_name(url: str, reason: str, field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load(env="test", **{field: url})
    assert str(refused.value).startswith(f"DINGRELAY_{field.upper()}: ")
    assert reason in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["amqp://h:0//", "amqp://u:hunter2@h:70000//", "sqs://", "amqp://a;h"]
)
def test_a_wrong_broker_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_BROKER_URL: ") as refused:
        Settings.load(env="test", broker_url=url)
    assert "hunter2" not in str(refused.value)


def test_records_are_in_no_rabbitmq() -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_REDIS_URL: must begin"):
        Settings.load(env="test", redis_url="amqp://h//")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_no_password_is_in_an_error_or_a_repr(word: str) -> None:
    secret = f"hunter2{word}"
    for url in (f"redis://:{secret}@h:1/0", f"sentinel://:{secret}@h/0?master=m"):
        try:
            found = repr(RedisAddress.parse(url))
        except ValueError as error:
            found = str(error)
        assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "redis://:12?hunter2@h:1/0",
        "redis://:12?hunter&x=2@h:1/0",
        "sentinel://h/0?master=m&sentinel_password=ab&hunter",
        "sentinel://h/0?master=m&sentinel_password=ab&hunter==",
    ],
)
def test_no_rest_of_a_password_is_taken_for_the_name_of_an_option(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL: quote") as refused:
        RedisAddress.parse(url)
    assert "hunter" not in str(refused.value)


def test_certificates_are_verified_by_default(tmp_path: Path) -> None:
    files = {"ca_certs": "ca.pem", "certfile": "cert.pem", "keyfile": "key.pem"}
    assert RedisAddress.parse("rediss://h/0", files).tls == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "ca.pem",
        "ssl_certfile": "cert.pem",
        "ssl_keyfile": "key.pem",
    }
    address = RedisAddress.parse("rediss://h/0?ssl_ca_certs=own.pem&ssl_cert_reqs=none", files)
    assert address.tls["ssl_ca_certs"] == "own.pem"
    assert address.tls["ssl_cert_reqs"] is ssl.CERT_NONE
    assert address.tls["ssl_check_hostname"] is False
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    for url in ("rediss://h/0", "sentinels://h/0?master=m"):
        settings = Settings.load(env="test", redis_url=url, tls_ca=str(ca))
        assert celery_config(settings)["broker_use_ssl"] == {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_ca_certs": str(ca),
        }
    settings = Settings.load(env="test", broker_url="amqps://rabbit//", tls_ca=str(ca))
    assert celery_config(settings)["broker_use_ssl"] == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": str(ca),
        "server_hostname": "rabbit",
    }


@pytest.mark.parametrize(
    "broker",
    [
        "amqps://rabbit//",
        "rediss://h/0",
        "sentinels://h/0?master=m",
        "sentinels://h/0?master=m&sentinel_username=u&sentinel_password=secret",
    ],
)
def test_two_tls_settings_share_no_connections_to_one_broker(broker: str, tmp_path: Path) -> None:
    """kombu's pools are those of the process."""
    (tmp_path / "ca.pem").write_text("")
    files = ("", "", str(tmp_path / "ca.pem"))
    made: list[Any] = []
    for ca in files:
        celery = Celery(set_as_current=False)
        settings = Settings.load(env="test", broker_url=broker, tls_ca=ca)
        celery.config_from_object(celery_config(settings))
        made.append(celery.connection())
    first, same, other = (repr(each.__eqhash__()) for each in made)
    assert first == same != other


def test_py_amqp_is_not_given_what_distinguishes_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def connect(self: Any) -> None:
        given.append(dict(self.client.transport_options))

    monkeypatch.setattr(pyamqp.SSLTransport, "establish_connection", connect)
    celery = Celery(set_as_current=False)
    celery.config_from_object(celery_config(Settings.load(env="test", broker_url="amqps://h//")))
    connection: Any = celery.connection()
    connection.transport.establish_connection()
    assert given == [{}]
    assert connection.transport_options


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_TLS_CA: no file"):
        Settings.load(env="test", tls_ca=str(tmp_path / "none"))
    (tmp_path / "cert").write_text("")
    with pytest.raises(SettingsError, match="DINGRELAY_TLS_KEY: required"):
        Settings.load(env="test", tls_cert=str(tmp_path / "cert"))


@pytest.mark.parametrize("url", [SENTINEL, "unix://:se%40cret@/run/a.sock?db=2"])
def test_celery_shows_no_password(url: str) -> None:
    celery = Celery(set_as_current=False)
    celery.config_from_object(celery_config(Settings.load(env="test", redis_url=url)))
    with celery:
        shown = repr(celery.conf.table(censored=True)) + celery.connection().as_uri()
    assert not [secret for secret in ("se@cret", "se%40cret", "quorum") if secret in shown]


def test_kombu_reads_what_celery_is_given() -> None:
    settings = Settings.load(env="test", redis_url="redis://u:p%2F@h:7/4")
    connection = Connection(celery_config(settings)["broker_url"])
    assert (connection.hostname, connection.port, connection.virtual_host) == ("h", 7, "4")
    assert (connection.userid, connection.password) == ("u", "p/")
