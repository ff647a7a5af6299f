"""Spans of OpenTelemetry, where this process makes any; elsewhere they cost a microsecond.

A process makes them that has a provider: an application that is traced, or one of ours whose
environment names an exporter (`export.py`). Who has not loaded OpenTelemetry's API has none, and no
current span, so nothing is imported here. A trace is passed on in any case (`carried`).
"""

import logging
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, Literal

from dingrelay_producers.tracing import trace_context

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int | float | bool]

log = logging.getLogger("dingrelay")

_CARRIED: ContextVar[str] = ContextVar("dingrelay_trace", default="")
_latest: tuple[Any, Any] = (None, None)
"""The provider of the last span, and our tracer of it: to ask for one takes longer than a span."""


class Span:
    """A span under way, or what stands for one where none are made.

    Attributes:
        trace: jobs that are enqueued during the span belong to it (`trace_context`); empty for no trace.
    """

    __slots__ = ("_failed", "_span", "trace")

    def __init__(self, trace: str, span: Any = None) -> None:
        self.trace = trace
        self._span = span
        self._failed = False

    @property
    def names(self) -> dict[str, str]:
        """For lines of the log: the id of the trace, and that of a span of ours."""
        if not self.trace:
            return {}
        names = {"trace_id": trace_context.trace_id(self.trace)}
        if self._span is not None:
            names["span_id"] = trace_context.span_id(self.trace)
        return names

    @property
    def recorded(self) -> bool:
        """Whether its attributes are recorded."""
        return self._span is not None and self._span.is_recording()

    def set_attributes(self, attributes: Attributes) -> None:
        """Add attributes."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Give it a name that was not known before."""
        if self._span is not None:
            self._span.update_name(name)

    def link(self, trace: str) -> None:
        """Point to another span."""
        if self._span is not None and (other := _context(_api(), trace)) is not None:
            self._span.add_link(other)

    def fail(self, error: str) -> None:
        """It ends in an error of this class. An error's text is left out: it may hold user data."""
        self._failed = True
        if self._span is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(_api().StatusCode.ERROR)

    @property
    def failed(self) -> bool:
        """Whether it ends in an error."""
        return self._failed


def active() -> bool:
    """Whether spans are made here at all."""
    api = _api()
    return api is not None and _provider(api) is not None


def current() -> str:
    """The trace of what is being done here; empty for none."""
    api = _api()
    if api is not None and (context := api.get_current_span().get_span_context()).is_valid:
        return _text(context)
    return _CARRIED.get()


def set_attributes(attributes: Attributes) -> None:
    """Add attributes to the current span, if there is one."""
    if (api := _api()) is not None:
        api.get_current_span().set_attributes(attributes)


def link(trace: str) -> None:
    """Point from the current span, if there is one, to another."""
    api = _api()
    if api is not None and (other := _context(api, trace)) is not None:
        api.get_current_span().add_link(other)


class carried:  # noqa: N801 - used as a function; made by `contextmanager` it would take thrice the time
    """The block belongs to a trace that began elsewhere; empty for none."""

    __slots__ = ("_before", "_trace")

    def __init__(self, trace: str) -> None:
        self._trace = trace

    def __enter__(self) -> Span:
        self._before = _CARRIED.set(self._trace)
        return Span(self._trace)

    def __exit__(self, *_: object) -> None:
        _CARRIED.reset(self._before)


def span(
    name: str,
    kind: Kind,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Callable[[], Attributes] | None = None,
) -> AbstractContextManager[Span]:
    """A span around the block. An exception ends it as failed, with its class only.

    Args:
        name: few different ones, so no ids.
        kind: in OpenTelemetry's words.
        parent: the trace that it belongs to; None for the current one, empty for a trace of its own.
        links: other traces that it has to do with.
        attributes: makes them, if the span is made.
    """
    api = _api()
    own = _begun(api, name, kind, parent, links, attributes) if api is not None else None
    if own is None:
        return carried(current() if parent is None else parent)
    return _around(api, own)


@contextmanager
def _around(api: Any, own: Any) -> Generator[Span]:
    """Let a span of OpenTelemetry's be the current one, and end it."""
    handle = Span(_text(own.get_span_context()), own)
    with api.use_span(own, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield handle
        except Exception as error:
            if not handle.failed:
                handle.fail(type(error).__name__)
            raise


def _api() -> Any:
    """OpenTelemetry's API; None if this process has not loaded it."""
    api = sys.modules.get("opentelemetry.trace")
    # While another thread imports it, it is there, and its end is missing.
    return api if api is not None and hasattr(api, "__all__") else None


def _begun(
    api: Any,
    name: str,
    kind: Kind,
    parent: str | None,
    links: Sequence[str],
    attributes: Callable[[], Attributes] | None,
) -> Any:
    """A span of OpenTelemetry's, with the arguments of `span`; None where none are made."""
    provider = _provider(api)
    if provider is None:
        return None
    try:
        return _tracer(provider).start_span(
            name,
            context=_parent(api, parent),
            kind=api.SpanKind[kind],
            attributes=attributes() if attributes else None,
            links=[api.Link(other) for each in links if (other := _context(api, each))],
        )
    except Exception as error:  # noqa: BLE001 - of a sampler, for instance: the job goes on
        log.error("no span: %s", type(error).__name__)  # noqa: TRY400
        return None


def _provider(api: Any) -> Any:
    """The tracer provider of this process; None without one."""
    provider = api.get_tracer_provider()
    return None if isinstance(provider, api.ProxyTracerProvider) else provider


def _tracer(provider: Any) -> Any:
    global _latest  # noqa: PLW0603 - OpenTelemetry has one provider for a process, too
    known, tracer = _latest
    if known is not provider:
        tracer = provider.get_tracer("dingrelay", version("dingrelay"))
        _latest = provider, tracer
    return tracer


def _parent(api: Any, parent: str | None) -> Any:
    """The context with the parent of a new span; None for the current one."""
    if parent is None:
        if api.get_current_span().get_span_context().is_valid:
            return None
        parent = _CARRIED.get()
    remote = _context(api, parent)
    around = api.INVALID_SPAN if remote is None else api.NonRecordingSpan(remote)
    return api.set_span_in_context(around)


def _context(api: Any, trace: str) -> Any:
    """A trace as OpenTelemetry has it; None for none."""
    parent, _, state = trace.partition(" ")
    if not trace_context.read(parent):
        return None
    return api.SpanContext(
        trace_id=int(trace_context.trace_id(trace), 16),
        span_id=int(trace_context.span_id(trace), 16),
        is_remote=True,
        trace_flags=api.TraceFlags(int(trace[53:55], 16)),
        trace_state=api.TraceState.from_header([state]) if state else None,
    )


def _text(context: Any) -> str:
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = context.trace_state
    return trace_context.written(parent, state.to_header() if state else "")
