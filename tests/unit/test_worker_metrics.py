"""Metrics before any event, and where they can't be served."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from structlog.testing import capture_logs

from conftest import wait_until
from dingrelay_producers import metrics_server
from dingrelay_producers.store import clock
from dingrelay_producers.stream.listener import StreamMetrics
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.event import Event
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers import metrics
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.limiter.breakers import BreakerState
from support.servers import free_port


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_counters_of_alerts_begin_at_zero() -> None:
    metrics.begin(["dingrelay.urgent", "dingrelay.webhooks"], ["default"])
    for kind in KINDS:
        for lane in LANES:
            for state in ("dead", "unknown"):
                labels = {"kind": kind, "lane": lane, "state": state}
                assert value("dingrelay_jobs_total", **labels) is not None
    for cause in ("ends of jobs", "endpoint away"):
        assert value("dingrelay_notices_missed_total", cause=cause) is not None
    for outcome in ("accepted", "left_out", "failed", "cancelled"):
        labels = {"app": "default", "outcome": outcome}
        assert value("dingrelay_campaign_recipients_total", **labels) is not None
    assert value("dingrelay_worker_lane", lane="urgent") == 1
    assert value("dingrelay_worker_lane", lane="webhooks") == 1
    assert value("dingrelay_worker_app", app="default") == 1


def test_event_metrics_begin_at_zero_and_show_when_they_began() -> None:
    gateway, stream = GatewayMetrics(["default"]), StreamMetrics()
    stream.know("default")
    for reason in ("signature", "encryption"):
        labels = {"app": "default", "reason": reason}
        assert gateway.registry.get_sample_value("dingrelay_callbacks_refused_total", labels) == 0
    for each, door in ((gateway, "http"), (stream, "stream")):
        app = {"app": "default", "door": door}
        read = each.registry.get_sample_value
        for outcome in ("taken", "known", "unreadable"):
            assert read("dingrelay_events_total", {**app, "outcome": outcome}) == 0
        assert read("dingrelay_events_not_taken_total", app) == 0
        assert read("process_start_time_seconds") is not None


def test_the_time_from_an_event_to_its_job_counts_once_and_never_below_zero() -> None:
    counted = StreamMetrics()
    fresh = Event.parse({"event_type": "user_add_org", "born_at": 2**52})
    for event, known in (
        (fresh, False),
        (fresh, True),
        (Event.parse({"event_type": "user_add_org"}), False),
    ):
        counted.events.taken(event, known=known)
    labels = {"app": "default", "door": "stream"}
    read = counted.registry.get_sample_value
    assert read("dingrelay_event_lag_seconds_count", labels) == 1
    assert read("dingrelay_event_lag_seconds_sum", labels) == 0
    assert read("dingrelay_events_total", {**labels, "outcome": "taken"}) == 2
    assert read("dingrelay_events_total", {**labels, "outcome": "known"}) == 1


def test_no_series_shows_when_another_was_made() -> None:
    assert b"_created" not in generate_latest(REGISTRY)


@pytest.mark.parametrize(
    ("code", "shown"),
    [("http_500", "http_500"), ("http_799", "http_other"), ("timeout", "timeout")],
)
def test_a_receiver_makes_no_more_series_than_there_are_statuses(code: str, shown: str) -> None:
    assert metrics.webhook_code(code) == shown


@contextmanager
def looping() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def status(url: str) -> int:
    try:
        with urlopen(url) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_health_is_the_loop_s_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "LOOP_SECONDS", 0.2)
    port, release = free_port(), threading.Event()
    with looping() as loop:
        end = metrics_server.serve(port, loop, CollectorRegistry())
        # On an IPv6-only cluster the kubelet asks the pod's IPv6 address.
        urls = [f"http://{host}:{port}" for host in ("127.0.0.1", "[::1]")]
        assert [status(f"{url}/healthz") for url in urls] == [200, 200]
        loop.call_soon_threadsafe(release.wait)
        assert status(f"{urls[0]}/healthz") == 503
        assert status(f"{urls[0]}/metrics") == 200
        release.set()
        wait_until(lambda: status(f"{urls[0]}/healthz") == 200, what="the loop runs again")
    assert status(f"{urls[0]}/healthz") == 503
    end()


def test_readiness_names_what_is_away_and_is_asked_on_the_loop() -> None:
    port, missing, where = (
        free_port(),
        {"redis": "does not answer"},
        set[asyncio.AbstractEventLoop](),
    )

    async def away() -> dict[str, str]:
        where.add(asyncio.get_running_loop())
        return missing

    with looping() as loop:
        end = metrics_server.serve(port, loop, CollectorRegistry(), away)
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{url}/readyz")
        with refused.value as answer:
            assert (answer.code, answer.read()) == (
                503,
                b"Service Unavailable\nredis: does not answer\n",
            )
        assert status(f"{url}/healthz") == 200
        missing.clear()
        assert status(f"{url}/readyz") == 200
        assert where == {loop}
    assert status(f"{url}/readyz") == 503
    end()


def test_a_taken_port_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "AGAIN", 0.01)
    registry = CollectorRegistry()
    Gauge("here", "It is there.", registry=registry).set(1)
    with capture_logs() as lines, looping() as loop:
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = taken.getsockname()[1]
            metrics_server.serve(port, loop, registry)
            assert [line["event"] for line in lines] == ["metrics_not_served"]
        wait_until(lambda: len(lines) == 2, what="the port is taken over")
    assert lines[1]["event"] == "metrics_served"
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"here 1.0" in answer.read()


def test_an_app_that_is_held_is_named_and_not_its_credentials() -> None:
    now = clock.now()
    limits = metrics.Limits()
    limits.breakers = [
        BreakerState(scope, name, "40096", now - timedelta(seconds=ago), now, 1)
        for scope, name, ago in (
            ("hold:hr", "0123456789abcdef", 90),
            ("hold:hr", "fedcba9876543210", 30),
            ("app:hr", "message.send", 10),
        )
    ]
    (found,) = (
        family for family in limits.collect() if family.name == "dingrelay_breaker_open_seconds"
    )
    samples = {tuple(each.labels.values()): each.value for each in found.samples}
    assert len(samples) == len(found.samples) == 2
    assert samples["hold:hr", "hr"] >= 90
    assert samples["app:hr", "message.send"] >= 10
