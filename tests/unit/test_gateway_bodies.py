"""JSON bodies at the gateway: parsing, lines, and the place of an error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_tasks.contract import DEEPEST
from dingrelay_workers.http.body_reader import LineSplitter, parse_json
from dingrelay_workers.http.problems import Problem, pointer
from support.examples import json_values

WHOLE = st.integers(-(2**60), 2**60)


@given(json_values(scalars=st.none() | st.booleans() | WHOLE | st.text(), leaves=20))
def test_valid_json_is_read_as_it_is(values: Any) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(values, ensure_ascii=ascii_only).encode()) == values


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'[{"a": {"b": 1, "\\u0062": 2}}]', "twice"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "out of range"),
        (b"-1e999", "out of range"),
        (b"1" * 5000, "out of range"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\uDC00": 1}', "surrogate"),
        (b'[["\\ud83d\\ud83d\\ude00"]]', "surrogate"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "levels"),
        (b"[" * 200_000, "levels"),
        (b'{"a":' * 100_000, "levels"),
    ],
)
def test_ambiguous_json_is_refused(content: bytes, detail: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_json(content)
    assert refused.value.kind.status == 400
    assert detail in refused.value.detail


def test_brackets_in_texts_are_no_levels() -> None:
    text = "[{" * 1000 + '\\"['
    assert parse_json(json.dumps({"a": [text]}).encode()) == {"a": [text]}
    assert parse_json(b'"\\ud83d\\ude00"') == "😀"
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST) is not None


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_lines_are_the_same_however_the_body_is_cut(lines: list[bytes], cuts: list[int]) -> None:
    body = b"\n".join(lines)
    places = sorted(min(cut, len(body)) for cut in cuts)
    pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    splitter = LineSplitter(longest=8)
    found = [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()
    assert found == [
        (number, line if len(line) <= 8 else None)
        for number, line in enumerate(lines, 1)
        if len(line) > 8 or line.strip()
    ]


@pytest.mark.parametrize(
    ("field", "body", "expected"),
    [
        ("job", {}, ""),
        ("to.users.3", {"to": {"users": ["a"]}}, "/to/users/3"),
        ("form.a.b", {"form": {"a.b": 1}}, "/form/a.b"),
        ("form.a/b~c", {"form": {"a/b~c": 1}}, "/form/a~1b~0c"),
        ("form.0.name", {"form": [{"name": 1}]}, "/form/0/name"),
    ],
)
def test_a_pointer_follows_the_body(field: str, body: object, expected: str) -> None:
    assert pointer(field, body) == expected
