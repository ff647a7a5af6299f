"""OpenTelemetry's SDK, set up as its variables say. It takes a third of a second to load."""

import logging
import os
import socket
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

log = logging.getLogger("dingrelay")


class LoggedExporter(SpanExporter):
    """An exporter of which one line says that it fails, and one that it works again.

    The SDK would say so for each batch, with a traceback.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export some spans; those of a batch that fails are lost."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, spans are lost and jobs are not
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces are exported again: lost=%d", self._lost)
            self._lost = 0
            return result
        if not self._lost:
            log.warning("traces can't be exported: spans are lost until that works again")
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Close its connections."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)


def install(service: str, exporters: Sequence[str]) -> TracerProvider | None:
    """Make the provider of this process; None if the program has set up its own.

    Sampler, limits, batches, headers and so on are read by the SDK from its variables.

    Args:
        service: its name, unless the environment names it.
        exporters: `otlp` or `console`.

    Raises:
        Exception: of the SDK, which can't use a variable.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    attributes = {
        "service.name": service,
        "service.version": version("dingrelay"),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    resource = Resource.create(attributes).merge(OTELResourceDetector().detect())
    # `export.stop` ends it: at the end of the interpreter it would wait for half a minute.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in exporters:
        exporter = ConsoleSpanExporter() if name == "console" else OTLPSpanExporter()
        provider.add_span_processor(BatchSpanProcessor(LoggedExporter(exporter)))
    trace.set_tracer_provider(provider)
    return provider


def accepts_spans(timeout: float) -> bool:
    """Whether the collector takes an export, of no span, within so many seconds.

    Raises:
        Exception: as `install`.
    """
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(timeout=timeout)
    try:
        return exporter.export([]) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
