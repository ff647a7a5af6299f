"""Blocks of code that are parts of a reader's own programs and servers: each in the surroundings that its page describes."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session

from dingrelay_producers import outbox
from dingrelay_producers.outbox import rows
from dingrelay_producers.settings import Settings
from dingrelay_tasks import MessageSend
from fundamentals.documents import DOCUMENTS, GUIDE, code_blocks, text
from fundamentals.system import DINGRELAY
from support import supervised
from support.gateways import gateway_thread
from support.servers import program

FILE = re.compile(r"# (\S+\.py)\n+")
URL = "http://127.0.0.1:8610"
HOST = re.compile(r"(?<=http://)[a-z-]+(?=:\d+)")
ENGINE = "django.db.backends.sqlite3"
MODELS = """
from django.db import models

class Order(models.Model):
    buyer = models.CharField(max_length=64)
    paid = models.BooleanField(default=False)
"""
SECONDS = 240
"""For a system to start, on a machine that has much else to do."""


def of_language(document: str, language: str) -> list[str]:
    return [code for name, code in code_blocks(document) if name == language]


def files(document: str) -> dict[str, str]:
    """The files that the page shows, by the comment with which each begins."""
    shown = (FILE.match(code) for code in of_language(document, "py"))
    return {match[1]: match.string[match.end() :] for match in shown if match}


def function(document: str, name: str) -> str:
    """A function of one of the page's programs, with the imports of that program."""
    for code in of_language(document, "python"):
        tree = ast.parse(code)
        if any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body):
            wanted = [
                node
                for node in tree.body
                if isinstance(node, ast.Import | ast.ImportFrom)
                or (isinstance(node, ast.FunctionDef) and node.name == name)
            ]
            return "\n".join(map(ast.unparse, wanted))
    raise AssertionError(name)


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")


@pytest.mark.parametrize("name", ["outbox.md", "python-api.md"])
def test_both_languages_show_the_same_files(name: str) -> None:
    english, chinese = GUIDE[name]
    assert of_language(english, "py") == of_language(chinese, "py")


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if "```json" in text(page)])
def test_json_can_be_read(document: str) -> None:
    for code in of_language(document, "json"):
        assert json.loads(code)


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if "```nginx" in text(page)])
def test_nginx_takes_its_configuration_and_would_refuse_another(
    document: str, tmp_path: Path
) -> None:
    nginx = program("nginx")
    temporary = "".join(
        f"{name}_temp_path {tmp_path / name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for code in of_language(document, "nginx"):
        servers = HOST.sub("127.0.0.1", code)  # it looks names up
        for shown, code_expected in (
            (servers, 0),
            (servers.replace("proxy_pass", "proxy_past"), 1),
        ):
            configuration = f"pid {tmp_path / 'pid'}; events {{}} http {{ access_log off; {temporary} {shown} }}"
            (tmp_path / "nginx.conf").write_text(configuration, "utf-8")
            tested = subprocess.run(
                [nginx, "-t", "-e", "stderr", "-p", tmp_path, "-c", "nginx.conf"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert tested.returncode == code_expected, tested.stderr


@pytest.mark.parametrize("document", GUIDE["webhooks.md"])
def test_a_task_of_a_celery_application_takes_a_notice(
    document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = [code for code in of_language(document, "py") if "@app.task" in code]
    app = Celery("crm")
    # Celery would give the task to each later application of this process as well.
    unshared = SimpleNamespace(task=partial(app.task, shared=False))
    exec(code, {"app": unshared, "__name__": "crm.tasks"})
    # With the arguments as `test_a_celery_application_needs_no_http` finds them in the queue.
    notice = {"type": "approval.finished", "data": {"result": "agree"}}
    app.tasks["crm.tasks.on_notice"].apply(
        kwargs={"webhook_id": "7", "document": notice}, throw=True
    )
    assert capsys.readouterr().out == "7 approval.finished {'result': 'agree'}\n"


@pytest.mark.acceptance
@pytest.mark.timeout(SECONDS)
def test_robots_and_groups_of_the_page_take_its_messages(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = GUIDE["robots.md"]
    exports, sends = of_language(page, "sh")
    (tmp_path / "ops2").write_text("https://oapi.dingtalk.com/robot/send?access_token=b", "utf-8")
    (tmp_path / "dingrelay.toml").write_text(
        of_language(page, "toml")[0].replace("…", "x"), "utf-8"
    )
    (tmp_path / "dingrelay").write_text(DINGRELAY, "utf-8")
    (tmp_path / "dingrelay").chmod(0o700)
    variables = {
        "DINGRELAY_ENV": "sandbox",
        "DINGRELAY_REDIS_URL": valkey_url,
        "DINGRELAY_CONFIG": str(tmp_path / "dingrelay.toml"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with gateway_thread(Settings.load()) as gateway:
        key = gateway.backend.keys.add("crm")
        script = f"{exports}\n{sends}".replace("…", "x").replace(URL, gateway.url)
        script = script.replace("/run/secrets/ops2", str(tmp_path / "ops2"))
        script = re.sub(r"^curl ", "curl --fail-with-body ", script, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "KEY": key, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        jobs = gateway.ask("GET", "/v1/jobs", key=gateway.backend.keys.add("all", sender="*")).json[
            "jobs"
        ]
    assert [job["kind"] for job in jobs] == ["robot-message"] * 3


class Base(DeclarativeBase):
    """An application's tables."""


def test_an_application_with_sqlalchemy_has_the_outbox_as_shown(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGRELAY_ENV", "test")
    monkeypatch.setenv("DINGRELAY_REDIS_URL", valkey_url)
    rows._settings.cache_clear()
    page, _ = GUIDE["outbox.md"]
    migrations: dict[str, object] = {"Base": Base}
    exec(files(page)["migrations/env.py"], migrations)
    assert migrations["target_metadata"] == [Base.metadata, outbox.metadata]
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    outbox.metadata.create_all(engine)
    relaying, testing = [code for code in of_language(page, "py") if not FILE.match(code)]
    content = {"msgtype": "text", "text": {"content": "订单 1 已付款"}}
    with Session(engine) as session:
        outbox.send(session, MessageSend.parse({"to": {"users": ["u1"]}, "message": content}))
        exec(testing, {"session": session})
    exec(relaying, {"outbox": outbox, "engine": engine})
    engine.dispose()
    rows._settings.cache_clear()


def test_an_application_with_django_passes_its_test_of_the_page(tmp_path: Path) -> None:
    page, _ = GUIDE["outbox.md"]
    shown = files(page)
    database = f"DATABASES = {{'default': {{'ENGINE': '{ENGINE}', 'NAME': ':memory:'}}}}\n"
    added = {
        "settings.py": shown["settings.py"] + database,
        "shop/__init__.py": "",
        "shop/models.py": MODELS,
        "shop/messages.py": function(page, "paid"),
    }
    write(tmp_path, shown | added)
    tested = subprocess.run(
        [sys.executable, "-m", "django", "test", "shop"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "settings",
            "DINGRELAY_ENV": "test",
            "DINGRELAY_REDIS_URL": "redis://127.0.0.1:1/0",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert tested.returncode == 0, tested.stderr
    assert "Ran 1 test" in tested.stderr


@pytest.mark.acceptance
@pytest.mark.timeout(SECONDS)
def test_an_application_passes_its_test_of_what_people_get(tmp_path: Path) -> None:
    page, _ = GUIDE["python-api.md"]
    seconds = (
        "\nimport pytest\n@pytest.fixture(scope='session')\n"
        f"def dingrelay_start_seconds() -> float:\n    return {SECONDS}\n"
    )
    shown = files(page)
    shown["conftest.py"] += seconds
    write(tmp_path, shown | {"orders.py": function(page, "tell_paid")})
    tested = supervised.run_tests(tmp_path, tmp_path, seconds=SECONDS)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "1 passed" in tested.stdout
