"""Spans as tests look at them: kept in this process, or sent to a collector over a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.serving import all_to, in_thread, serving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = PARENT[3:35], PARENT[36:52]


@dataclass(frozen=True)
class EndedSpan:
    """A span that has ended.

    Attributes:
        parent: id of its parent; empty for none.
        links: trace and span of each other that it points to.
        failed: whether its status is an error.
    """

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: Sequence[tuple[str, str]]
    attributes: Mapping[str, Any]
    failed: bool
    service: str = ""

    @property
    def place(self) -> tuple[str, str]:
        return self.trace, self.id


class Spans:
    """The spans of this process."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def ended(self) -> list[EndedSpan]:
        return [_ended(span) for span in self._exporter.get_finished_spans()]

    def named(self, name: str) -> list[EndedSpan]:
        return [span for span in self.ended if span.name == name]

    def clear(self) -> None:
        self._exporter.clear()


def kept(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Spans:
    """Have this process make spans, as an application that is traced, and keep them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A process can set its provider once only.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return Spans(exporter)


def _ended(span: ReadableSpan) -> EndedSpan:
    context = span.get_span_context()
    assert context is not None
    return EndedSpan(
        name=span.name,
        kind=span.kind.name,
        trace=f"{context.trace_id:032x}",
        id=f"{context.span_id:016x}",
        parent=f"{span.parent.span_id:016x}" if span.parent else "",
        links=[
            (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links
        ],
        attributes=dict(span.attributes or {}),
        failed=span.status.status_code is trace.StatusCode.ERROR,
    )


@dataclass
class Collector:
    """Takes spans as OTLP/HTTP.

    Attributes:
        url: the endpoint of an exporter.
        behaves: `takes` them, `refuses` them, or is `silent`.
    """

    url: str = ""
    behaves: str = "takes"
    requests: int = 0
    bodies: list[bytes] = field(default_factory=list)

    @property
    def ended(self) -> list[EndedSpan]:
        return [span for body in list(self.bodies) for span in _decoded(body)]

    def named(self, name: str) -> list[EndedSpan]:
        return [span for span in self.ended if span.name == name]

    async def handle(self, request: web.Request) -> web.Response:
        # As it is when it is asked: a caller that sees that may change it.
        behaves = self.behaves
        self.requests += 1
        body = await request.read()
        if behaves == "silent":
            await asyncio.sleep(3_600)
        if behaves == "refuses":
            return web.Response(status=400)
        self.bodies.append(body)
        return web.Response()


def _decoded(body: bytes) -> Iterator[EndedSpan]:
    for each in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(each.resource.attributes).get("service.name", "")
        for scope in each.scope_spans:
            for span in scope.spans:
                yield EndedSpan(
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    attributes=_attributes(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    service=str(service),
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector in a thread, until the block ends."""
    with in_thread(_served(port)) as (collector, _):
        yield collector


@asynccontextmanager
async def _served(port: int) -> AsyncIterator[Collector]:
    collector = Collector()
    async with serving(all_to(collector.handle), port) as collector.url:
        yield collector


def one(
    spans: Sequence[EndedSpan], chosen: Callable[[EndedSpan], bool] = lambda _: True
) -> EndedSpan:
    """The only one of these that is chosen."""
    (found,) = [span for span in spans if chosen(span)]
    return found


def words(spans: Sequence[EndedSpan]) -> str:
    """Everything that spans tell, as text."""
    return "\n".join(f"{span.name} {dict(span.attributes)}" for span in spans)


def place(trace: str) -> tuple[str, str]:
    """The trace and the span that a text names."""
    return trace[3:35], trace[36:52]
