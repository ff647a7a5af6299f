"""Export of our processes' own spans, by the environment."""

import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from conftest import wait_until
from dingrelay_producers.installation import how_to_add
from dingrelay_producers.tracing import export, provider, spans
from support.traces import Collector, collecting, one

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def own_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has one provider for ever; each test has one of its own."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)

    def set_provider(chosen: object) -> None:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", chosen)

    monkeypatch.setattr(trace, "set_tracer_provider", set_provider)
    for name in (OTLP, export.EXPORTERS, "OTEL_SDK_DISABLED", *export.PROTOCOLS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")


def test_a_process_without_an_exporter_does_not_load_one() -> None:
    program = """
        import sys
        from dingrelay_producers import Client, Settings
        from dingrelay_workers.gateway import server
        from dingrelay_producers.tracing import export
        import dingrelay_workers.resources, dingrelay_workers.jobs.executor
        export.start("dingrelay-worker")
        export.stop()
        print([name for name in sys.modules if name.startswith(("opentelemetry.exporter", "google"))])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, ""),
        ({OTLP: ""}, ""),
        ({OTLP: "http://localhost:4318"}, OTLP),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({OTLP: "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({OTLP: "http://localhost:4318", "OTEL_SDK_DISABLED": "TRUE"}, ""),
    ],
)
def test_the_standard_variables_decide(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporter: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert export.wanted() == exporter


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "OTEL_TRACES_EXPORTER: there are otlp, console and none",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "OTEL_EXPORTER_OTLP_PROTOCOL names another protocol than http/protobuf",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OTEL_* can't be used (ValueError)"),
    ],
)
def test_an_error_is_one_line_and_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    error: str,
) -> None:
    monkeypatch.setenv(OTLP, "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    export.start("dingrelay-worker")
    assert caplog.messages == [f"no traces: {error}"]
    assert not isinstance(trace.get_tracer_provider(), provider.TracerProvider)


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OTLP, "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "dingrelay_producers.tracing.provider", None)
    export.start("dingrelay-worker")
    (message,) = caplog.messages
    assert message == (
        f"no traces: {OTLP} is set, and the extra otel is not installed: {how_to_add('otel')}"
    )


def test_an_existing_tracer_provider_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OTLP, "http://127.0.0.1:9")
    theirs = provider.TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs)
    export.start("dingrelay-worker")
    export.stop()
    assert trace.get_tracer_provider() is theirs


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv(OTLP, collector.url)
        yield collector


def export_a_run() -> None:
    """A process that has one span, from its start to its end."""
    export.start("dingrelay-worker")
    with spans.span("run", "CONSUMER", parent=""):
        pass
    export.stop()


def test_the_last_spans_are_sent(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    export_a_run()
    run = one(collector.ended)
    assert (run.name, run.kind, run.service) == ("run", "CONSUMER", "dingrelay-worker")
    export.stop()


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "notifications")
    export_a_run()
    assert one(collector.ended).service == "notifications"


def test_a_lost_collector_is_logged(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    export.start("dingrelay-worker")
    collector.behaves = "refuses"
    for count in (1, 2, 3):
        with spans.span("lost", "CONSUMER", parent=""):
            pass
        wait_until(lambda count=count: collector.requests >= count, what="it was asked")
    collector.behaves = "takes"

    def comes_again() -> bool:
        with spans.span("kept", "CONSUMER", parent=""):
            pass
        return bool(collector.ended)

    wait_until(comes_again, what="spans arrive again")
    export.stop()
    lost = "traces can't be exported: spans are lost until that works again"
    ours = [record.message for record in caplog.records if record.name == "dingrelay"]
    assert ours == [lost, "traces are exported again: lost=3"]


@pytest.mark.parametrize("away", ["silent", "gone"])
def test_no_collector_keeps_a_process_from_its_end(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, away: str
) -> None:
    if away == "gone":
        monkeypatch.setenv(OTLP, "http://127.0.0.1:9")
    collector.behaves = away
    export.start("dingrelay-worker")
    with spans.span("run", "CONSUMER", parent=""):
        pass
    began = time.monotonic()
    export.stop(0.5)
    assert time.monotonic() - began < 5
    # Another test may mind what they do: they draw random pauses.
    wait_until(lambda: not exporting(), what="the threads that export have ended")


def exporting() -> list[str]:
    """The threads that export traces, ours and OpenTelemetry's."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("dingrelay-traces", "OtelBatch"))]
