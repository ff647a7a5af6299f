"""Flower's queries of RabbitMQ, and the limits on them."""

from pathlib import Path
from typing import Any

import pytest
from flower.utils import broker
from structlog.testing import capture_logs
from tornado.httpclient import AsyncHTTPClient

from dingrelay_producers import Settings, SettingsError
from dingrelay_workers.flower import server as queues


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The URL and the options of each request to the management API; all of them fail."""
    asked: list[tuple[str, dict[str, Any]]] = []

    async def fetch(_: Any, url: str, **options: Any) -> Any:
        asked.append((url, options))
        raise ConnectionRefusedError

    monkeypatch.setattr(AsyncHTTPClient, "fetch", fetch)
    monkeypatch.setattr(broker, "RabbitMQ", broker.RabbitMQ)
    return asked


@pytest.mark.parametrize(("scheme", "guessed"), [("amqps", False), ("amqp", True)])
async def test_the_management_api_is_not_guessed_where_the_broker_has_tls(
    scheme: str, guessed: bool, asked: list[tuple[str, Any]]
) -> None:
    """Flower's guess is plain HTTP, with the password of the broker."""
    url = f"{scheme}://u:p@rabbit:5671//"
    with capture_logs() as lines:
        queues.install_rabbitmq(Settings.load(env="sandbox", broker_url=url))
    found: Any = broker.Broker(url, http_api=None)
    assert await found.queues(["dingrelay.normal"]) == []
    assert len(asked) == guessed
    assert all("http://u:p@rabbit:15672/" in each for each, _ in asked)
    named = [line["set"] for line in lines if line["event"] == "flower_shows_no_queues"]
    assert named == ["DINGRELAY_FLOWER_BROKER_API"] * (not guessed)


async def test_its_authorities_are_used(asked: list[tuple[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    for ca in ("", str(tmp_path / "ca.pem")):
        url, api = "amqps://u:p@rabbit//", "https://u:p@rabbit:15671/api/"
        settings = Settings.load(env="sandbox", broker_url=url, flower_broker_api=api, tls_ca=ca)
        queues.install_rabbitmq(settings)
        found: Any = broker.Broker(url, http_api=queues.management_api(settings))
        assert await found.queues(["dingrelay.normal"]) == []
    used = [(options["validate_cert"], options["ca_certs"]) for _, options in asked]
    assert used == [(True, None), (True, str(tmp_path / "ca.pem"))]


def test_no_password_goes_to_the_management_api_in_plain_where_the_broker_has_tls() -> None:
    def given(url: str, broker_url: str) -> str | None:
        settings = Settings.load(env="sandbox", broker_url=broker_url, flower_broker_api=url)
        return queues.management_api(settings)

    for url in ("http://rabbit:15672/api/", "http://u:s3cret@rabbit:15672"):
        with pytest.raises(SettingsError, match="must be https") as refused:
            given(url, "amqps://u:s3cret@rabbit//")
        assert "s3cret" not in str(refused.value)
        assert given(url, "amqp://u:s3cret@rabbit//")
    assert given("http://127.0.0.1:15672", "amqps://rabbit//") == "http://127.0.0.1:15672/api/"
