"""A release of Celery, kombu or redis-py without what is used of it is refused at the start."""

import pytest
from celery.worker import request
from kombu.transport import redis as kombu_redis

from cli_runner import Cli, in_folder
from dingrelay_producers.settings import SettingsError
from dingrelay_workers.celery_worker import consumer, job_request, pool, supported, transport


def test_the_installed_releases_have_it_all() -> None:
    supported.check()


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (kombu_redis.Channel, "pool", "kombu.transport.redis.Channel.pool"),
        (request, "Request", "celery.worker.request.Request."),
    ],
)
def test_missing_names_are_shown_with_the_versions_that_have_them(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, expected: str
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(SettingsError) as raised:
        supported.check()
    line = str(raised.value)
    assert "\n" not in line
    assert expected in line
    assert "celery<5.8,>=5.7" in line
    assert "kombu 5.7" in line


def test_an_attribute_of_instances_is_looked_for_in_the_methods() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supported, "NAMES", {"kombu.transport.redis": ["Channel()._not_there"]})
        with pytest.raises(SettingsError, match="_not_there"):
            supported.check()


DOCUMENTED = {
    # What kombu's guide has transports of one's own override, in channels, transports and their QoS.
    *("QoS", "ack", "append", "reject", "restore_visible", "basic_cancel", "close", "Channel"),
    *("register_with_event_loop", "close_connection"),
    *("connection_class", "connection_class_ssl", "from_transport_options"),
    # Pools.
    *("grow", "shrink"),
}


def test_overridden_names_are_in_the_table() -> None:
    known = {name.rpartition(".")[2] for names in supported.NAMES.values() for name in names}
    for ours in (
        transport.QoS,
        transport.TakingChannel,
        transport.TakingTransport,
        transport.SentinelTakingChannel,
        consumer.Consumer,
        pool.JobPool,
        job_request.JobRequest,
    ):
        mixed_in = [kind for kind in ours.__mro__ if kind.__module__.startswith("dingrelay")]
        base = next(kind for kind in ours.__mro__[1:] if kind not in mixed_in)
        for kind in mixed_in:
            overridden = {
                name for name in vars(kind) if not name.startswith("__") and hasattr(base, name)
            }
            assert overridden - known - DOCUMENTED == set(), kind


def test_a_command_shows_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cli: Cli = in_folder(monkeypatch, tmp_path_factory.mktemp("here"), {"DINGRELAY_ENV": "sandbox"})
    monkeypatch.delattr(kombu_redis.Channel, "pool")
    refused = cli("worker")
    assert refused.exit_code == 2
    assert "Channel.pool is missing" in refused.stderr
    assert "Traceback" not in refused.output
