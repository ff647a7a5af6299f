"""Traces and spans of OpenTelemetry: which trace a job belongs to, and what was done for it.

Without an SDK its API makes no spans, and what is here passes the caller's trace on. A job's record
keeps a trace as one text: the ``traceparent`` (W3C Trace Context, level 2) and, behind a blank, the
``tracestate`` where there is one; empty for none.
"""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib.metadata import version
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
LONGEST_STATE = 512
"""Characters of a ``tracestate`` that is passed on: the least that every participant must accept."""
ERROR_TYPE = "error.type"

log = logging.getLogger("dingrelay")
# It warns of each header that is too long, which any caller may send.
logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)

_PROPAGATOR = TraceContextTextMapPropagator()
_UNTRACED: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
"""The block of a trace that is none, where none is current: attaching it would cost an HTTP request a tenth of its time."""


def active() -> bool:
    """Whether this process makes spans at all."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current() -> str:
    """The trace of what is being done here; empty for none."""
    return _text(trace.get_current_span().get_span_context())


def ids() -> dict[str, str]:
    """Fields for log lines: the id of the current trace, and that of the current span if it is ours."""
    span = trace.get_current_span()
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    fields = {"trace_id": trace.format_trace_id(context.trace_id)}
    if not context.is_remote:
        fields["span_id"] = trace.format_span_id(context.span_id)
    return fields


def link(other: str) -> None:
    """Point from the current span, if there is one, to that of another trace."""
    if (context := _context(other)).is_valid:
        trace.get_current_span().add_link(context)


def fail(span: Span, error: str) -> None:
    """A span ends in an error of this class. An error's text is left out: it may hold user data."""
    span.set_attribute(ERROR_TYPE, error)
    span.set_status(trace.StatusCode.ERROR)


def carried(parent: str) -> AbstractContextManager[Span]:
    """The block belongs to a trace that began elsewhere; empty for none."""
    if not parent and trace.get_current_span() is INVALID_SPAN:
        return _UNTRACED
    return _during(NonRecordingSpan(_context(parent)), end=False)


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
    around = trace.get_current_span() if parent is None else NonRecordingSpan(_context(parent))
    if not active():
        return nullcontext(around) if parent is None else _during(around, end=False)
    try:
        new_span = _tracer(trace.get_tracer_provider()).start_span(
            name,
            context=trace.set_span_in_context(around),
            kind=SpanKind[kind],
            attributes=attributes() if attributes else None,
            links=[
                Link(other) for linked_trace in links if (other := _context(linked_trace)).is_valid
            ],
        )
    except Exception as error:  # noqa: BLE001 - of a sampler, for instance: the job goes on
        log.error("no span: %s", type(error).__name__)  # noqa: TRY400
        return _during(around, end=False)
    return _during(new_span, end=True)


@lru_cache(maxsize=1)
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    """Ours of the process's provider: to ask for one takes longer than a span."""
    return provider.get_tracer("dingrelay", version("dingrelay"))


@contextmanager
def _during(current: Span, *, end: bool) -> Generator[Span]:
    """Let a span be the current one, and end it."""
    with trace.use_span(
        current, end_on_exit=end, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield current
        except Exception as error:
            # Unless it was ended by a class that says more.
            if end and ERROR_TYPE not in (getattr(current, "attributes", None) or {}):
                fail(current, type(error).__name__)
            raise


def read(traceparent: object, tracestate: object = "") -> str:
    """The trace in a caller's headers; empty where they hold none, or an invalid one.

    Args:
        traceparent: anything; a list for a header that came more than once, which is ignored.
        tracestate: the same; of a list the parts belong together. What is wrong with it takes nothing
            from the other.
    """
    parents = _texts(traceparent)
    if len(parents) != 1 or not parents[0].isascii():
        return ""
    carrier = {TRACEPARENT: parents, TRACESTATE: _texts(tracestate)}
    return _text(trace.get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context())


def headers(text: str) -> dict[str, str]:
    """The headers that propagate a trace; none for none."""
    parent, _, state = text.partition(" ")
    if not parent:
        return {}
    return {TRACEPARENT: parent, TRACESTATE: state} if state else {TRACEPARENT: parent}


def _context(text: str) -> SpanContext:
    """A trace as OpenTelemetry has it; an invalid one for none."""
    if not text:
        return INVALID_SPAN.get_span_context()
    extracted = _PROPAGATOR.extract(headers(text), Context())
    return trace.get_current_span(extracted).get_span_context()


def _text(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    written: dict[str, str] = {}
    _PROPAGATOR.inject(written, trace.set_span_in_context(NonRecordingSpan(context), Context()))
    parent, state = written[TRACEPARENT], written.get(TRACESTATE, "")
    return f"{parent} {state}" if 0 < len(state) <= LONGEST_STATE else parent


def _texts(value: object) -> list[str]:
    values: Sequence[object] = value if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]
    return [text for text in values if isinstance(text, str) and text]
