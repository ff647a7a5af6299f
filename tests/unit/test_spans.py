"""Spans where a process makes them, and what is done where it does not."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult

from dingrelay_producers.tracing import spans
from support.traces import PARENT, SPAN, TRACE, kept, one

NONE = "none of ours"


def test_a_process_that_makes_no_spans_passes_a_trace_on() -> None:
    assert not spans.active()
    assert spans.current() == ""
    with spans.span("outer", "SERVER", parent=PARENT) as outer:
        assert spans.current() == PARENT
        assert spans.ids() == {"trace_id": TRACE}
        with spans.span("inner", "CLIENT", attributes=lambda: pytest.fail("they are not made")):
            assert spans.current() == PARENT
        with spans.span("apart", "CONSUMER", parent=""):
            assert spans.current() == ""
            assert spans.ids() == {}
        spans.link(PARENT)
        spans.fail(outer, "x")
    assert spans.current() == ""


def test_a_span_has_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = kept(monkeypatch)
    with trace.get_tracer_provider().get_tracer("app").start_as_current_span("request"):
        with spans.span("send", "PRODUCER"):
            sent = spans.current()
        with spans.span("run", "CONSUMER", parent=PARENT, links=[sent, NONE, ""]):
            assert spans.ids() == {"trace_id": TRACE, "span_id": spans.current()[36:52]}
            spans.link(sent)
        with spans.span("root", "CONSUMER", parent=""):
            pass
    with spans.carried(PARENT), spans.span("carried", "INTERNAL"):
        pass
    request, send, run, root, carried = (
        one(recorded.named(name)) for name in ("request", "send", "run", "root", "carried")
    )
    assert (send.trace, send.parent, send.kind) == (request.trace, request.id, "PRODUCER")
    assert (run.trace, run.parent) == (TRACE, SPAN)
    assert run.links == [send.place, send.place]
    assert root.parent == ""
    assert root.trace not in {request.trace, TRACE}
    assert (carried.trace, carried.parent) == (TRACE, SPAN)


def test_an_exception_fails_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = kept(monkeypatch)
    with pytest.raises(ValueError, match="secret"), spans.span("run", "CONSUMER", parent=""):
        raise ValueError("secret")
    run = one(recorded.ended)
    assert (run.failed, run.attributes) == (True, {"error.type": "ValueError"})
    (span,) = recorded._exporter.get_finished_spans()
    assert not span.events
    assert not span.status.description


def test_an_unsampled_trace_stays_unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = kept(monkeypatch, sampler=ParentBased(ALWAYS_OFF))
    with spans.span("send", "PRODUCER", parent="") as send:
        assert int(spans.current()[-2:], 16) & 1 == 0
        assert not send.is_recording()
        assert spans.ids().keys() == {"trace_id", "span_id"}
    with spans.span("run", "CONSUMER", parent=f"{PARENT} a=1") as run:
        # Its caller sampled it, and the caller's state goes along.
        assert spans.current().endswith("-01 a=1")
        assert run.is_recording()
    assert [span.name for span in recorded.ended] == ["run"]


class Broken(Sampler):
    def should_sample(self, *_: object, **__: object) -> SamplingResult:
        raise RuntimeError("secret")

    def get_description(self) -> str:
        return "broken"


def test_a_sampler_that_fails_costs_a_span_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept(monkeypatch, sampler=Broken())
    with spans.span("run", "CONSUMER", parent=PARENT):
        assert spans.current() == PARENT
    assert caplog.messages == ["no span: RuntimeError"]
