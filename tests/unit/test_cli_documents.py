"""JSON and times as options take them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.cli.documents import read_json, read_moment, split


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("+90s", timedelta(seconds=90)),
        ("+10m", timedelta(minutes=10)),
        ("+2h", timedelta(hours=2)),
        ("+1d", timedelta(days=1)),
    ],
)
def test_a_time_may_count_from_now(text: str, ahead: timedelta) -> None:
    before = datetime.now(UTC)
    moment = datetime.fromisoformat(read_moment(text, "--at") or "")
    assert before + ahead <= moment <= datetime.now(UTC) + ahead


def test_a_time_keeps_its_moment_and_gets_a_zone() -> None:
    moment = datetime.fromisoformat(read_moment("2026-01-31T09:00+08:00", "--at") or "")
    assert moment == datetime(2026, 1, 31, 1, tzinfo=UTC)
    local = datetime.fromisoformat(read_moment("2026-01-31T09:00", "--at") or "")
    assert local.replace(tzinfo=None) == datetime(2026, 1, 31, 9)  # noqa: DTZ001 - a wall clock
    assert local.tzinfo is not None


@given(st.text())
def test_any_other_text_is_refused_with_the_option_named(text: str) -> None:
    try:
        moment = read_moment(text, "--at")
    except typer.BadParameter as error:
        hint = error.param_hint
    else:
        hint = "--at"
        assert datetime.fromisoformat(moment or "").tzinfo is not None
    assert hint == "--at"


def test_json_comes_as_such_or_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "form.json"
    path.write_text('{"事由": "出差"}', "utf-8")
    assert read_json('{"a": 1}', "--form") == {"a": 1}
    assert read_json(f"@{path}", "--form") == {"事由": "出差"}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "form.json"
    path.write_bytes(content)
    with pytest.raises(typer.BadParameter, match="is not JSON"):
        read_json(f"@{path}", "--form")


def test_lists_may_be_repeated_or_comma_separated() -> None:
    assert split(["u1,u2", "u3", ""]) == ["u1", "u2", "u3"]
    assert split(None) == []
