"""JSON and times as options take them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
import typer
from dotenv import dotenv_values
from hypothesis import example, given
from hypothesis import strategies as st

from dingrelay_producers.cli.options import read_json, read_moment, read_past, split
from dingrelay_producers.settings import SettingsError
from dingrelay_producers.zone import CHINA, local, named


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


def test_a_time_is_shown_in_the_readers_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_moment("2986-01-31T09:00+02:00", "--at") == "2986-01-31T15:00:00+08:00"
    assert read_moment("2986-01-31T09:00", "--at") == "2986-01-31T09:00:00+08:00"
    monkeypatch.setenv("DINGRELAY_TIMEZONE", "Asia/Tokyo")
    assert read_moment("2986-01-31T09:00", "--at") == "2986-01-31T09:00:00+09:00"
    monkeypatch.setenv("DINGRELAY_TIMEZONE", "utc")
    assert read_past("2026-01-31", "--since") == datetime(2026, 1, 31, tzinfo=UTC)
    assert local(datetime(2026, 1, 31, 9, tzinfo=CHINA)) == "2026-01-31 01:00:00+00:00"


def test_the_zone_comes_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    moment = datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert local(moment) == "2026-01-31 17:00:00+08:00"
    (tmp_path / ".env").write_text("DINGRELAY_TIMEZONE=Europe/Berlin\n")
    assert local(moment) == "2026-01-31 10:00:00+01:00"
    monkeypatch.setenv("DINGRELAY_TIMEZONE", "Mars/Phobos")
    with pytest.raises(SettingsError, match="DINGRELAY_TIMEZONE: there is no zone"):
        local(moment)

    def none(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr("dingrelay_producers.zone.ZoneInfo", none)
    named.cache_clear()
    monkeypatch.setenv("DINGRELAY_TIMEZONE", "Asia/Shanghai")
    assert local(moment) == "2026-01-31 17:00:00+08:00"
    named.cache_clear()


def test_a_time_that_is_over_is_refused_where_something_is_to_happen() -> None:
    with pytest.raises(
        typer.BadParameter, match=r"2026-01-31 09:00:00\+08:00 is over; it is "
    ) as error:
        read_moment("2026-01-31T09:00", "--at")
    assert error.value.param_hint == "--at"
    just_now = datetime.now(UTC) - timedelta(seconds=20)
    assert read_moment(just_now.isoformat(), "--at") is not None


@given(st.text())
@example("+9999999d")
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
def test_text_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "form.json"
    path.write_bytes(content)
    with pytest.raises(typer.BadParameter, match="is not JSON"):
        read_json(f"@{path}", "--form")


def test_lists_may_be_repeated_or_comma_separated() -> None:
    assert split(["u1,u2", "u3", ""]) == ["u1", "u2", "u3"]
    assert split(None) == []


def test_moments_read_the_zone_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DINGRELAY_TIMEZONE", raising=False)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text("DINGRELAY_TIMEZONE=Asia/Tokyo\n")
    read = Mock(wraps=dotenv_values)
    monkeypatch.setattr("dotenv.dotenv_values", read)
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert {local(noon) for _ in range(100)} == {"2026-01-31 21:00:00+09:00"}
    assert read.call_count == 1
    file.write_text("DINGRELAY_TIMEZONE=utc\n")
    os.utime(file, ns=(1, 1))
    assert local(noon) == "2026-01-31 12:00:00+00:00"
