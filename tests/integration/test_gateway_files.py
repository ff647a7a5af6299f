"""Files at the drop-in door while nothing takes them on: memory of gateway and Redis is bounded."""

import http.client
from collections.abc import Iterator

import pytest
from redis import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.media_upload import LARGEST
from dingrelay_workers.gateway.drop_in import job_call, media
from drop_in import asking, token_of
from gateways import GatewayClient, Reply, gateway_thread

FORM = "multipart/form-data; boundary=b"
SIZE = 10_000_000


@pytest.fixture
def gateway(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayClient]:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    settings = Settings.load(env="sandbox", redis_url=valkey_url, gateway_uploads=LARGEST)
    with gateway_thread(settings) as client:
        client.backend.keys.add("crm")
        yield client


@pytest.fixture
def path(gateway: GatewayClient) -> str:
    token = token_of(asking(gateway.url), "drk_crm000000000", "secret")
    return f"/media/upload?type=file&access_token={token}"


def test_files_in_redis_are_bounded(gateway: GatewayClient, path: str, valkey_url: str) -> None:
    def upload(number: int) -> Reply:
        return gateway.ask("POST", path, bytes([number]) * SIZE, Content_Type=FORM)

    with Redis.from_url(valkey_url) as redis:

        def waiting() -> list[bytes]:
            return list(redis.scan_iter(keys.upload("*")))

        # A job has each of two; an equal file takes no more room.
        assert [upload(number).status for number in (1, 2, 1)] == [200, 200, 200]
        for number in (3, 4):
            full = upload(number)
            assert (full.status, full.json["errcode"]) == (503, -1)
            assert int(full.headers["Retry-After"]) > 0
        assert len(waiting()) == 2
        assert sum(redis.strlen(each) for each in waiting()) <= LARGEST
        assert len(redis.keys(keys.job("*"))) == 2
        assert 0 < redis.pttl(keys.UPLOADS) <= keys.UPLOAD_TTL_MS
        # As a worker does that has uploaded it.
        redis.delete(waiting()[0])
        assert upload(3).status == 200


def test_no_more_files_are_received_at_once_than_the_setting_allows(
    gateway: GatewayClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "PATIENCE", 0.05)
    slow = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    slow.putrequest("POST", path)
    slow.putheader("Content-Type", FORM)
    slow.putheader("Content-Length", str(SIZE))
    slow.endheaders(b"the beginning")

    def upload() -> int:
        return gateway.ask("POST", path, b"a file", Content_Type=FORM).status

    while upload() != 503:
        pass
    monkeypatch.setattr(media, "PATIENCE", 30)
    slow.close()
    assert upload() == 200


def test_redis_refusing_files(gateway: GatewayClient, path: str, valkey_url: str) -> None:
    """Such as a primary that has just become a replica, or one that is full."""
    with Redis.from_url(valkey_url) as redis:
        redis.config_set("maxmemory", 1)
        try:
            refused = gateway.ask("POST", path, b"a file", Content_Type=FORM)
        finally:
            redis.config_set("maxmemory", 0)
        assert (refused.status, refused.json["errcode"]) == (200, -1)
        assert gateway.ask("POST", path, b"a file", Content_Type=FORM).status == 200
