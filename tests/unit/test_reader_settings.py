"""The reader's language and zone, where commands have no settings yet."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dingrelay_producers import language, zone
from dingrelay_producers.language import CHINESE, ENGLISH


def test_they_may_be_in_the_toml_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DINGRELAY_LANGUAGE", "DINGRELAY_TIMEZONE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("DINGRELAY_CONFIG", "settings.toml")
    assert language.chosen() == ENGLISH, "there is no such file"
    text = 'language = "zh"\ntimezone = "Asia/Tokyo"\n  [apps.hr]\nlanguage = 1\n'
    (tmp_path / "settings.toml").write_text(text, "utf-8")
    assert language.chosen() == CHINESE
    assert zone.local(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31 21:00:00+09:00"
    (tmp_path / ".env").write_text("DINGRELAY_LANGUAGE=en\n", "utf-8")
    assert language.chosen() == ENGLISH, "the TOML file is the last one to be asked"
