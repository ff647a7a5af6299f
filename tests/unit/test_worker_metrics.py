"""What a worker's metrics show before anything has happened, and where they can't be served."""

import socket

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from dingrelay_producers.gateway.backend.metrics import GatewayMetrics
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers import metrics


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_what_alerts_watch_begins_at_zero() -> None:
    metrics.begin(["dingrelay.urgent", "dingrelay.webhooks"])
    for kind in KINDS:
        for lane in LANES:
            for state in ("dead", "unknown"):
                labels = {"kind": kind, "lane": lane, "state": state}
                assert value("dingrelay_jobs_total", **labels) is not None
    for cause in ("ends of jobs", "endpoint away"):
        assert value("dingrelay_notices_missed_total", cause=cause) is not None
    assert value("dingrelay_worker_lane", lane="urgent") == 1
    assert value("dingrelay_worker_lane", lane="webhooks") == 1
    gateway = GatewayMetrics(["default"]).registry
    for reason in ("signature", "encryption"):
        labels = {"app": "default", "reason": reason}
        assert gateway.get_sample_value("dingrelay_callbacks_refused_total", labels) == 0


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken, capture_logs() as lines:
        metrics.serve(taken.getsockname()[1])
    assert [line["event"] for line in lines] == ["metrics_not_served"]
