"""How commands and clients find the system that `dingrelay up --sandbox` runs in the same folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dingrelay_producers import AsyncClient, Client, SettingsError, running

SYSTEM = {
    "DINGRELAY_ENV": "sandbox",
    "DINGRELAY_REDIS_URL": "redis://127.0.0.1:16379/0",
    "DINGTALK_APP_SECRET": "sandbox-secret",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # `join` adds to the environment: these are the names that must be gone afterwards.
    for name in (*SYSTEM, running.PID):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    folder = tmp_path / running.FOLDER
    folder.mkdir()
    return folder


def test_the_file_is_for_its_owner_only(folder: Path) -> None:
    (folder / "env").write_text("left behind by another system")
    path = running.write(folder, SYSTEM)
    assert path.stat().st_mode & 0o777 == 0o600
    assert running.read(folder) == {running.PID: str(os.getpid()), **SYSTEM}


def test_a_command_joins_the_system(folder: Path) -> None:
    running.write(folder, SYSTEM)
    running.join()
    assert {name: os.environ.get(name) for name in SYSTEM} == SYSTEM


def test_a_client_finds_the_system(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    running.write(folder, SYSTEM)
    for client in (Client(), AsyncClient()):
        assert client.settings.redis == SYSTEM["DINGRELAY_REDIS_URL"]
        assert client.settings.env == "sandbox"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert not SYSTEM.keys() & os.environ.keys(), "the application's environment is its own"


def test_a_client_says_in_the_users_language_which_system_it_found(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write(folder, SYSTEM)
    monkeypatch.setenv("DINGRELAY_LANGUAGE", "zh")
    Client()
    (record,) = caplog.records
    assert "没有配置 Redis" in record.getMessage()


def test_production_has_no_sandbox_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running.write(folder, SYSTEM)
    monkeypatch.setenv("DINGRELAY_ENV", "production")
    with pytest.raises(SettingsError, match="DINGRELAY_REDIS_URL"):
        Client()


def test_a_system_that_has_ended_is_not_joined(folder: Path) -> None:
    path = running.write(folder, SYSTEM)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    path.write_text(path.read_text().replace(str(os.getpid()), str(ended.pid)))
    running.join()
    assert "DINGRELAY_REDIS_URL" not in os.environ


def test_a_command_with_the_systems_file_of_settings_joins_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("dingrelay.toml").absolute()
    config.write_text("[campaigns]\nunread_days = 3\n")
    running.write(folder, SYSTEM | {"DINGRELAY_CONFIG": str(config)})
    monkeypatch.setenv("DINGRELAY_CONFIG", "dingrelay.toml")
    assert Client().settings.redis == SYSTEM["DINGRELAY_REDIS_URL"]
    running.join()
    assert {name: os.environ.get(name) for name in SYSTEM} == SYSTEM


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DINGRELAY_REDIS_URL", "redis://elsewhere/0"),
        ("DINGRELAY_REDIS_URL_FILE", "/run/secrets/redis"),
        ("DINGRELAY_CONFIG", "dingrelay.toml"),
        ("DINGRELAY_ENV", "production"),
    ],
)
def test_own_settings_go_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    running.write(folder, SYSTEM)
    monkeypatch.setenv(name, value)
    running.join()
    assert os.environ.get("DINGTALK_APP_SECRET") is None


def test_settings_in_a_dotenv_file_go_before(folder: Path) -> None:
    running.write(folder, SYSTEM)
    Path(".env").write_text("DINGRELAY_REDIS_URL=redis://elsewhere/0\n")
    running.join()
    assert os.environ.get("DINGTALK_APP_SECRET") is None


def test_production_is_never_joined(folder: Path) -> None:
    running.write(folder, SYSTEM | {"DINGRELAY_ENV": "production"})
    running.join()
    assert "DINGRELAY_REDIS_URL" not in os.environ


@pytest.mark.parametrize("content", ["", "DINGRELAY_UP_PID=\n", "DINGRELAY_UP_PID=x\n", "\x00"])
def test_a_broken_file_is_no_system(folder: Path, content: str) -> None:
    (folder / "env").write_text(content)
    assert running.read(folder) == {}
    running.join()
