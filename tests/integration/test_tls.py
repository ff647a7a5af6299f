"""TLS to Redis, for records and for the broker: an authority, a name, and a certificate of our own."""

from collections.abc import Iterator

import pytest

from acceptance.traffic import message
from dingrelay_producers import AsyncClient, Client, ServiceUnavailable, Settings
from dingrelay_producers.store.connections import open_sync
from dingrelay_workers.doctor.broker import check_broker
from dingrelay_workers.doctor.redis_server import check_redis
from support.servers import Secured, secured_redis


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_redis(tmp_path_factory.mktemp("tls") / "redis") as server:
        yield server


def trusting(secured: Secured, **others: str) -> Settings:
    """The settings of who trusts the authority, and has a certificate from it."""
    given = {
        "redis_url": secured.url(),
        "tls_ca": str(secured.authority.cert),
        "tls_cert": str(secured.ours.cert),
        "tls_key": str(secured.ours.key),
    }
    return Settings.load(env="test", **(given | others))


async def test_records_and_broker_use_the_same_certificates(secured: Secured) -> None:
    settings = trusting(secured)
    with Client(settings) as client:
        client.send(message(1))
    async with AsyncClient(settings) as several:
        await several.send(message(2))
    with open_sync(settings.redis_address) as redis:
        assert redis.llen("dingrelay.normal") == 2
    assert {each.verdict for each in check_redis(settings)} <= {"ok", "warning"}
    assert check_broker(settings).verdict == "ok"


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"tls_ca": ""}, id="an unknown authority"),
        pytest.param({"tls_cert": "", "tls_key": ""}, id="no certificate of ours"),
        pytest.param({"redis_url": "localhost"}, id="a certificate for another name"),
    ],
)
def test_a_server_that_is_not_verified_is_refused(secured: Secured, others: dict[str, str]) -> None:
    if others.get("redis_url"):
        others = {"redis_url": secured.url("localhost")}
    settings = trusting(secured, **others)
    with Client(settings) as client, pytest.raises(ServiceUnavailable):
        client.send(message(3))
    for found in [*check_redis(settings), check_broker(settings)]:
        # A server that misses our certificate says so, or just ends the connection.
        refused = "certificate is refused" in found.found
        assert refused or (others.get("tls_cert") == "" and found.verdict != "ok")


def test_verification_can_be_off(secured: Secured) -> None:
    settings = trusting(
        secured, redis_url=f"{secured.url('localhost')}?ssl_cert_reqs=none", tls_ca=""
    )
    with open_sync(settings.redis_address) as redis:
        assert redis.ping()
    assert check_broker(settings).verdict == "ok"
