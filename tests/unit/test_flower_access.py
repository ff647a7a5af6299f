"""Access to Flower's pages, and their view of a job."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flower.urls import settings as web_settings
from pydantic import SecretStr

from dingrelay_producers import Settings, SettingsError
from dingrelay_workers.flower.credentials import flower_credentials
from dingrelay_workers.flower.server import CHANGES, Pages, changed, format_task


def settings(**fields: Any) -> Settings:
    fields.setdefault("redis_url", SecretStr("redis://127.0.0.1:6379/0"))
    return Settings.load(**fields)


def test_the_sandbox_is_open_on_loopback_only() -> None:
    sandbox = settings(env="sandbox")
    assert flower_credentials(sandbox, address="127.0.0.1") == []
    for address in ("", "0.0.0.0", "192.0.2.7"):
        with pytest.raises(SettingsError, match="DINGRELAY_FLOWER_PASSWORD"):
            flower_credentials(sandbox, address=address)


@pytest.mark.parametrize("env", ["test", "production"])
def test_elsewhere_a_password_is_needed(env: str) -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_FLOWER_PASSWORD"):
        flower_credentials(settings(env=env), address="127.0.0.1")


def test_a_password_needs_its_user() -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_FLOWER_USER"):
        flower_credentials(settings(flower_password=SecretStr("s")), address="")
    with pytest.raises(SettingsError, match="DINGRELAY_FLOWER_USER"):
        flower_credentials(settings(flower_user="a:b", flower_password=SecretStr("s")), address="")


def test_a_password_that_flower_cannot_compare_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        flower_credentials(
            settings(flower_user="ops", flower_password=SecretStr("密码")), address=""
        )
    assert "密码" not in str(refused.value)


def test_a_password_is_taken_as_it_is() -> None:
    password = SecretStr("a,b:c d")
    assert flower_credentials(
        settings(flower_user="ops", flower_password=password), address="0.0.0.0"
    ) == ["ops:a,b:c d"]


def a_task(name: str | None, kwargs: str | None) -> SimpleNamespace:
    """A task as Flower has it from events."""
    return SimpleNamespace(name=name, kwargs=kwargs, state="STARTED", result=None, exception=None)


def test_the_summary_does_not_repeat_the_name() -> None:
    summary = "message-send app=default lane=bulk text users=2"
    shown = format_task(a_task("dingrelay.message-send", summary))
    assert (shown.name, shown.kwargs) == ("message-send", "app=default lane=bulk text users=2")


@pytest.mark.parametrize(
    ("state", "result", "exception", "text"),
    [
        ("SUCCESS", "done accepted=2", "snoozed: the limit", "done accepted=2"),
        ("RETRY", None, "snoozed: the limit", "snoozed: the limit"),
        ("FAILURE", None, "dead: quota", "dead: quota"),
        ("STARTED", None, None, None),
    ],
)
def test_a_result_or_the_reason_is_in_one_column(
    state: str, result: str | None, exception: str | None, text: str | None
) -> None:
    task = a_task("dingrelay.message-send", "x")
    task.state, task.result, task.exception = state, result, exception
    assert format_task(task).result == text


@pytest.mark.parametrize("kwargs", ["{'job': {'message': 'private'}}", "{}"])
def test_the_text_of_a_bare_celery_job_is_not_shown(kwargs: str) -> None:
    task = a_task("dingrelay.message-send", kwargs)
    assert format_task(task).kwargs == "a job without a summary"
    assert format_task(a_task(None, None)).kwargs == ""


def test_controls_that_workers_refuse_are_not_offered() -> None:
    """Pages are changed as this release of Flower spells them; others are shown unchanged."""
    pages = Pages(web_settings["template_path"])
    for name, parts in CHANGES.items():
        text = Path(pages.root, name).read_text("utf-8")
        for mark in (" hidden>", "<style>"):
            marks = sum(mark.rstrip(">") in becomes for becomes in parts.values())
            assert changed(name, text).count(mark) - text.count(mark) == marks
        assert pages.load(name)
    assert changed("worker.html", "<p>another Flower</p>") == "<p>another Flower</p>"
