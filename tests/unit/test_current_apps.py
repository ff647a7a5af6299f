"""Keys and secrets in files are taken while the process runs, whole, right, and without being shown."""

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings import AppSettings, Settings
from dingrelay_producers.settings.apps import App

ROOT = Path(__file__).parents[2]


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CurrentApps:
    """The app `default` with its key and secret in files, and `hr` with a callback."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "APP_KEY": "key-1",
        "APP_SECRET": "secret-1",
        "APP_KEY_HR": "key-hr",
        "APP_SECRET_HR": "secret-hr",
        "CALLBACK_TOKEN_HR": "token1",
        "CALLBACK_AES_KEY_HR": "a" * 43,
    }.items():
        Path(name).write_text(text)
        monkeypatch.setenv(f"DINGTALK_{name}_FILE", name)
    monkeypatch.setenv("DINGTALK_AGENT_ID", "42")
    return CurrentApps(Settings.load(env="test"))


def pair(apps: CurrentApps, name: str = "default") -> tuple[str, str]:
    app = apps.app(name)
    return app.app_key.get_secret_value(), app.app_secret.get_secret_value()


def test_a_new_secret_is_taken_once_two_looks_have_found_it(apps: CurrentApps) -> None:
    before = apps.credentials("default")
    with capture_logs() as lines:
        for text in ("sec", "secret-2"):
            Path("APP_SECRET").write_text(text + "\n")
            apps.look()
            assert pair(apps) == ("key-1", "secret-1"), "it may be half written"
        apps.look()
        assert pair(apps) == ("key-1", "secret-2")
        apps.look()
    assert [(line["event"], line["app"], line["settings"]) for line in lines] == [
        ("secrets_renewed", "default", ["app_secret"])
    ]
    after = apps.app("default")
    assert after.agent_id == "42"
    assert after.credentials != before
    assert apps.credentials("default") == after.credentials
    assert "secret-2" not in f"{lines}{after!r}{apps.all}"


def test_no_other_object_has_an_apps_secrets(apps: CurrentApps) -> None:
    settings = Settings.load(env="test")
    for app in (settings.app("hr"), settings.apps["hr"]):
        assert app.has_callback
        assert not {*App.model_fields} - {*AppSettings.model_fields} & {*dir(app)}
        assert "hr" not in f"{app!r}{app.model_dump()}"
        assert app != settings.app("default"), "another secret is another app"
    users = {
        path.name
        for package in ("producers", "workers")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\b(?:at_start|_at_start)\b", path.read_text())
    }
    assert users == {"apps.py", "settings.py", "current_apps.py"}


def test_a_key_and_its_secret_are_taken_together(apps: CurrentApps) -> None:
    Path("APP_KEY").write_text("key-2")
    apps.look()
    Path("APP_SECRET").write_text("secret-2")
    apps.look()
    assert pair(apps) == ("key-1", "secret-1")
    apps.look()
    assert pair(apps) == ("key-2", "secret-2")


def test_a_robots_webhook_and_secret_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    webhook = "https://oapi.dingtalk.com/robot/send?access_token="
    for part, text in (("WEBHOOK", webhook + "one"), ("SECRET", "SEC-one")):
        (tmp_path / part).write_text(text)
        monkeypatch.setenv(f"DINGTALK_ROBOT_OPS_{part}_FILE", str(tmp_path / part))
    apps = CurrentApps(Settings.load(env="test"))
    (tmp_path / "WEBHOOK").write_text("https://elsewhere/robot/send?access_token=two")
    with capture_logs() as lines:
        for _ in range(3):
            apps.look()
        assert apps.robots["ops"].token == "one"
        (tmp_path / "WEBHOOK").write_text(webhook + "two")
        (tmp_path / "SECRET").write_text("SEC-two")
        for _ in range(2):
            apps.look()
    assert (apps.robots["ops"].token, apps.robots["ops"].secret.get_secret_value()) == (
        "two",
        "SEC-two",
    )
    assert [line["event"] for line in lines] == ["secrets_refused", "secrets_renewed"]
    assert (lines[1]["robot"], lines[1]["settings"]) == ("ops", ["secret", "webhook"])
    assert "two" not in str(lines)


def test_a_link_that_is_exchanged_is_followed(apps: CurrentApps) -> None:
    Path("new").write_text("secret-2")
    Path("link").symlink_to("new")
    Path("link").rename("APP_SECRET")
    apps.look()
    apps.look()
    assert pair(apps) == ("key-1", "secret-2")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfesecret-2", "folder"])
def test_an_empty_file_changes_nothing(apps: CurrentApps, content: bytes | str | None) -> None:
    Path("APP_SECRET").unlink()
    if content == "folder":
        Path("APP_SECRET").mkdir()
    elif isinstance(content, bytes):
        Path("APP_SECRET").write_bytes(content)
    Path("APP_SECRET_HR").write_text("secret-hr-2")
    with capture_logs() as lines:
        for _ in range(4):
            apps.look()
    assert pair(apps) == ("key-1", "secret-1")
    assert pair(apps, "hr") == ("key-hr", "secret-hr-2"), "the others are taken all the same"
    reasons = [line["reason"] for line in lines if line["event"] == "secret_unreadable"]
    assert len(reasons) == (0 if content in {b"", b"\n"} else 1)
    assert all(reason.startswith("DINGTALK_APP_SECRET_FILE: ") for reason in reasons)
    assert "secret-2" not in str(reasons)


@pytest.mark.parametrize(
    ("name", "wrong", "right", "reason"),
    [
        ("CALLBACK_TOKEN_HR", "no token!", "token2", "DINGTALK_CALLBACK_TOKEN_HR: must be"),
        ("CALLBACK_AES_KEY_HR", "short", "b" * 43, "DINGTALK_CALLBACK_AES_KEY_HR: must be"),
        ("APP_KEY_HR", "key-1", "key-hr-2", "apps.hr.app_key: is that of apps.default"),
    ],
)
def test_a_wrong_setting_is_refused_once_and_the_old_one_kept(
    apps: CurrentApps, name: str, wrong: str, right: str, reason: str
) -> None:
    before = dict(apps.all)
    Path(name).write_text(wrong)
    with capture_logs() as lines:
        for _ in range(4):
            apps.look()
    assert apps.all == before
    (line,) = lines
    assert line["event"] == "secrets_refused"
    assert line["reason"].startswith(reason)
    assert wrong not in line["reason"]
    Path(name).write_text(right)
    apps.look()
    apps.look()
    assert right in {
        part.get_secret_value()
        for part in (
            apps.app("hr").app_key,
            apps.app("hr").callback_token,
            apps.app("hr").callback_aes_key,
        )
    }


def test_without_files_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGTALK_APP_KEY", "key")
    monkeypatch.setenv("DINGTALK_APP_SECRET", "secret")
    apps = CurrentApps(Settings.load(env="test"))
    assert not apps.has_files
    apps.look()
    apps.look()
    assert pair(apps) == ("key", "secret")
