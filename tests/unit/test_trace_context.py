"""Trace context of a caller, in the W3C's form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.tracing import spans
from support.traces import PARENT, SPAN, TRACE


def test_both_headers_are_one_text_and_come_apart_again() -> None:
    state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    trace = spans.read(PARENT, state)
    assert spans.headers(trace) == {"traceparent": PARENT, "tracestate": state}
    assert spans.headers("") == {}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (f" {PARENT}\t", PARENT),
        # A later version is read as far as it is known.
        (f"{PARENT[:-2]}03", f"{PARENT[:-2]}03"),
        (f"cc{PARENT[2:]}", PARENT),
        (f"cc{PARENT[2:]}-what-comes-later", PARENT),
        (f"{PARENT[:-2]}00", f"{PARENT[:-2]}00"),
    ],
)
def test_a_trace_that_can_be_is_read(given: str, read: str) -> None:
    assert spans.read(given) == read


@pytest.mark.parametrize(
    "given",
    [
        "",
        None,
        7,
        {},
        b"00",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-more",
        f"{PARENT}0",
        f"cc{PARENT[2:]}.more",
        f"ff{PARENT[2:]}",
        PARENT.replace(TRACE, "0" * 32),
        PARENT.replace(SPAN, "0" * 16),
        PARENT.replace("-", "_"),
        PARENT.replace("0af", "０af"),
        [PARENT, PARENT],
    ],
)
def test_one_that_cannot_be_says_nothing(given: object) -> None:
    assert spans.read(given, "a=1") == ""


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["a=1", "b=2"], "a=1,b=2"),
        (" a=1 , , b=2 ,", "a=1,b=2"),
        ("tenant@vendor=x y", "tenant@vendor=x y"),
        ("a=1,a=2", ""),
        ("a=1,B=2", ""),
        ("a=1,b", ""),
        ("a=中", ""),
        (f"a={'x' * 257}", ""),
        (",".join(f"k{number}=1" for number in range(33)), ""),
        # Longer than everybody has to take: it goes, and the trace stays.
        (",".join(f"k{number}={'x' * 100}" for number in range(6)), ""),
    ],
)
def test_a_state_that_is_wrong_takes_nothing_from_the_trace(given: object, read: str) -> None:
    trace = spans.read(PARENT, given)
    assert spans.headers(trace).get("tracestate", "") == read
    assert trace.startswith(PARENT)


@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_that_comes_from_outside_breaks_it(parent: str, state: str) -> None:
    assert spans.read(parent, state) == "" or len(parent) >= len(PARENT)
    assert len(spans.read(PARENT, state)) <= len(PARENT) + 1 + spans.LONGEST_STATE
