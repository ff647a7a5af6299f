"""Spans where there is OpenTelemetry, and what is done where there is none."""

import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult

from dingrelay_producers.tracing import spans
from traces import PARENT, SPAN, TRACE, kept, one

NONE = "none of ours"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not loaded OpenTelemetry."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")


@pytest.mark.usefixtures("without")
def test_without_opentelemetry_a_trace_is_handed_on_as_it_came() -> None:
    assert not spans.active()
    assert spans.current() == ""
    with spans.span("outer", "SERVER", parent=PARENT) as outer:
        assert spans.current() == outer.trace == PARENT
        assert outer.names == {"trace_id": TRACE}
        with spans.span("inner", "CLIENT", attributes=lambda: pytest.fail("nobody wants them")):
            assert spans.current() == PARENT
        with spans.span("apart", "CONSUMER", parent="") as apart:
            assert spans.current() == apart.trace == ""
            assert apart.names == {}
        outer.set_attributes({"a": 1})
        outer.link(PARENT)
        outer.rename("x")
        outer.fail("y")
        spans.set_attributes({"a": 1})
        spans.link(PARENT)
    assert spans.current() == ""


def test_a_span_belongs_to_the_current_one_or_to_the_trace_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = kept(monkeypatch)
    with trace.get_tracer_provider().get_tracer("app").start_as_current_span("request"):
        with spans.span("send", "PRODUCER") as send:
            assert spans.current() == send.trace
        with spans.span("run", "CONSUMER", parent=PARENT, links=[send.trace, NONE, ""]) as run:
            assert run.names == {"trace_id": TRACE, "span_id": run.trace[36:52]}
            spans.link(send.trace)
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


def test_an_exception_ends_a_span_as_failed_and_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
        assert int(send.trace[-2:], 16) & 1 == 0
        assert not send.recorded
        assert send.names.keys() == {"trace_id", "span_id"}
        send.link(PARENT)
        send.set_attributes({"a": 1})
    with spans.span("run", "CONSUMER", parent=f"{PARENT} a=1") as run:
        # Sampled by whoever began it, whose state goes along.
        assert run.trace.endswith("-01 a=1")
        assert run.recorded
    assert [span.name for span in recorded.ended] == ["run"]


def test_an_application_without_a_provider_hands_its_trace_on() -> None:
    with spans.span("send", "PRODUCER", parent=PARENT) as send:
        assert (send.trace, spans.current()) == (PARENT, PARENT)
        assert send.names == {"trace_id": TRACE}
        assert not send.recorded
    with spans.span("send", "PRODUCER") as send:
        assert (send.trace, send.names) == ("", {})


def test_a_module_that_another_thread_still_imports_is_none_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", type(sys)("opentelemetry.trace"))
    assert not spans.active()
    assert spans.current() == ""


class Broken(Sampler):
    def should_sample(self, *_: object, **__: object) -> SamplingResult:
        raise RuntimeError("secret")

    def get_description(self) -> str:
        return "broken"


def test_a_sampler_that_fails_costs_a_span_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept(monkeypatch, sampler=Broken())
    with spans.span("run", "CONSUMER", parent=PARENT) as run:
        assert run.trace == PARENT
    assert caplog.messages == ["no span: RuntimeError"]
